// The only way our own kernels use threads: an injected loop, so that a caller decides which team runs it.
#ifndef OCTET_BASE_PARALLEL_FOR_H_
#define OCTET_BASE_PARALLEL_FOR_H_

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace octet {

// Runs body over [0, n) split into at most threads() contiguous ranges [begin, end); returns when all are done.
// body must not throw. Not reentrant: one Run at a time per object.
class ParallelFor {
 public:
  virtual ~ParallelFor() = default;
  virtual int threads() const = 0;
  // `grain` is the smallest useful range: fewer threads are used when n < threads() * grain.
  virtual void Run(int64_t n, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end)> body) = 0;
};

// On the calling thread.
class SerialFor final : public ParallelFor {
 public:
  int threads() const override { return 1; }
  void Run(int64_t n, int64_t grain,
           absl::FunctionRef<void(int64_t begin, int64_t end)> body) override;
};

// On the OpenMP team of the calling thread, `threads` wide: the same team that oneDNN's primitives use.
class OpenMpFor final : public ParallelFor {
 public:
  explicit OpenMpFor(int threads) : threads_(threads) {}
  int threads() const override { return threads_; }
  void Run(int64_t n, int64_t grain,
           absl::FunctionRef<void(int64_t begin, int64_t end)> body) override;

 private:
  int threads_;
};

// Sets the width of the calling thread's OpenMP team: primitives created or run afterwards on this thread use it. The
// team's threads flush denormal floats to zero from then on.
void SetTeamSize(int threads);

// The width that a parallel region started now on this thread would have.
int CurrentTeamSize();

}  // namespace octet

#endif  // OCTET_BASE_PARALLEL_FOR_H_
