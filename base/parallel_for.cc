// Serial and OpenMP loops.
#include "base/parallel_for.h"

#include <omp.h>

#include <algorithm>

namespace octet {

void SerialFor::Run(int64_t n, int64_t, absl::FunctionRef<void(int64_t, int64_t)> body) {
  if (n > 0) body(0, n);
}

void OpenMpFor::Run(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> body) {
  if (n <= 0) return;
  const int64_t wanted = (n + std::max<int64_t>(grain, 1) - 1) / std::max<int64_t>(grain, 1);
  const int parts = static_cast<int>(std::min<int64_t>(threads_, wanted));
  if (parts <= 1) {
    body(0, n);
    return;
  }
#pragma omp parallel num_threads(parts)
  {
    // The runtime may grant fewer threads than asked for: split by what is really there.
    const int64_t count = omp_get_num_threads();
    const int64_t index = omp_get_thread_num();
    const int64_t begin = n * index / count;
    const int64_t end = n * (index + 1) / count;
    if (begin < end) body(begin, end);
  }
}

void SetTeamSize(int threads) { omp_set_num_threads(threads); }
int CurrentTeamSize() { return omp_get_max_threads(); }

}  // namespace octet
