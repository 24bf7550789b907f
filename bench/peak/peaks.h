// What this machine can do at most: arithmetic from registers, bytes from each level of memory.
#ifndef OCTET_BENCH_PEAK_PEAKS_H_
#define OCTET_BENCH_PEAK_PEAKS_H_

#include <string>

#include "absl/status/statusor.h"

namespace octet::bench {

// Rates of `threads` threads together, best of several runs. An operation is a multiplication or an addition.
struct Peaks {
  std::string int8_instruction;  // "tdpbusd" (AMX), "vpdpbusd" (512 or 256 bits), "vpmaddubsw"
  double int8_gops = 0;          // of that instruction
  double vnni_gops = 0;          // of vpdpbusd, where the CPU has it: AMX machines have both
  std::string f32_instruction;
  double f32_gflops = 0;
  double l2_gbps = 0, l3_gbps = 0, memory_gbps = 0;  // reading 512 kB, 12 MB and 768 MB per thread
};

// ONEDNN_MAX_CPU_ISA limits the choice of instructions as it limits the engine's.
Peaks MeasurePeaks(int threads);

// The rate of oneDNN's matrix product 1024 x 1024 x 1024 with operands in the cache: what a library reaches of the peak.
// Errors: oneDNN's.
absl::StatusOr<double> MatmulGops(int threads, bool int8);

std::string PeaksString(const Peaks& peaks);

}  // namespace octet::bench

#endif  // OCTET_BENCH_PEAK_PEAKS_H_
