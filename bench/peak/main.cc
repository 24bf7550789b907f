// bench_peak [THREADS]: prints the machine's peaks.
#include <cstdio>
#include <cstdlib>

#include "base/cpu.h"
#include "bench/peak/peaks.h"

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : octet::DetectCpuBudget().threads;
  if (threads < 1) {
    std::fprintf(stderr, "usage: bench_peak [THREADS]\n");
    return 2;
  }
  std::printf("%s, %d threads\n%s\n", octet::DetectCpuFeatures().model_name.c_str(), threads,
              octet::bench::PeaksString(octet::bench::MeasurePeaks(threads)).c_str());
  for (const bool int8 : {true, false}) {
    const absl::StatusOr<double> gops = octet::bench::MatmulGops(threads, int8);
    std::printf("oneDNN matmul 1024^3 %s: %.0f GOP/s\n", int8 ? "u8 x s8" : "f32", gops.ok() ? *gops : 0.0);
  }
  return 0;
}
