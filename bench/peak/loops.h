// Register-only loops, one per instruction set; each says how many operations one call does.
#ifndef OCTET_BENCH_PEAK_LOOPS_H_
#define OCTET_BENCH_PEAK_LOOPS_H_

#include <cstdint>

namespace octet::bench {

struct PeakLoop {
  const char* instruction;
  bool (*supported)();
  void (*run)(int64_t iterations);  // on the calling thread
  int64_t operations;               // per iteration
};

// Best first.
inline constexpr int kInt8Loops = 4, kF32Loops = 2;
extern const PeakLoop kInt8PeakLoops[kInt8Loops];
extern const PeakLoop kF32PeakLoops[kF32Loops];

// Sums `bytes` of memory (a multiple of 64) once; what it returns only keeps the reads alive.
uint64_t ReadAll(const void* data, int64_t bytes);

}  // namespace octet::bench

#endif  // OCTET_BENCH_PEAK_LOOPS_H_
