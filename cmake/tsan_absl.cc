// Tells ThreadSanitizer what Debian's uninstrumented absl::Mutex and absl::CondVar do; without it
// every lock is invisible.
//
// Linked into TSan test programs with -Wl,--wrap for each function below (cmake/octet.cmake). Names
// are Debian's mangled ones; a missing wrap shows as reports on correctly locked data, never as
// silence.
#include <sanitizer/tsan_interface.h>

extern "C" {

#define OCTET_WRAP_LOCK(symbol, flags)    \
  void __real_##symbol(void* mu);         \
  void __wrap_##symbol(void* mu) {        \
    __tsan_mutex_pre_lock(mu, flags);     \
    __real_##symbol(mu);                  \
    __tsan_mutex_post_lock(mu, flags, 0); \
  }
#define OCTET_WRAP_UNLOCK(symbol, flags) \
  void __real_##symbol(void* mu);        \
  void __wrap_##symbol(void* mu) {       \
    __tsan_mutex_pre_unlock(mu, flags);  \
    __real_##symbol(mu);                 \
    __tsan_mutex_post_unlock(mu, flags); \
  }

OCTET_WRAP_LOCK(_ZN4absl7debian75Mutex4LockEv, 0)
OCTET_WRAP_UNLOCK(_ZN4absl7debian75Mutex6UnlockEv, 0)
OCTET_WRAP_LOCK(_ZN4absl7debian75Mutex10ReaderLockEv, __tsan_mutex_read_lock)
OCTET_WRAP_UNLOCK(_ZN4absl7debian75Mutex12ReaderUnlockEv, __tsan_mutex_read_lock)

void __real__ZN4absl7debian75Mutex4DtorEv(void* mu);
void __wrap__ZN4absl7debian75Mutex4DtorEv(void* mu) {
  __real__ZN4absl7debian75Mutex4DtorEv(mu);
  __tsan_mutex_destroy(mu, 0);
}

// Waiting gives the mutex up and takes it again inside the library.
struct Timeout {
  unsigned long long representation;
};
bool __real__ZN4absl7debian77CondVar10WaitCommonEPNS0_5MutexENS0_24synchronization_internal13KernelTimeoutE(
    void* cv, void* mu, Timeout timeout);
bool __wrap__ZN4absl7debian77CondVar10WaitCommonEPNS0_5MutexENS0_24synchronization_internal13KernelTimeoutE(
    void* cv, void* mu, Timeout timeout) {
  __tsan_mutex_pre_unlock(mu, 0);
  __tsan_mutex_post_unlock(mu, 0);
  const bool timed_out =
      __real__ZN4absl7debian77CondVar10WaitCommonEPNS0_5MutexENS0_24synchronization_internal13KernelTimeoutE(
          cv, mu, timeout);
  __tsan_mutex_pre_lock(mu, 0);
  __tsan_mutex_post_lock(mu, 0, 0);
  return timed_out;
}

}  // extern "C"
