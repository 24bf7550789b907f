// The bounded background pool for loading models and specialising programs: never the threads that
// run inference.
#ifndef OCTET_SERVER_LOADER_H_
#define OCTET_SERVER_LOADER_H_

#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace octet::server {

// Thread-safe. Tasks run in order of arrival on `threads` threads of lower priority.
class Loader {
 public:
  Loader(int threads, int max_queued);
  ~Loader();  // runs what is queued, then joins

  // False when the queue is full.
  [[nodiscard]] bool Schedule(absl::AnyInvocable<void() &&> task);

 private:
  void Work();

  const size_t max_queued_;
  absl::Mutex mu_;
  absl::CondVar wake_;
  std::deque<absl::AnyInvocable<void() &&>> tasks_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_LOADER_H_
