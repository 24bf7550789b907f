// Timing of the loops on a team.
#include "bench/peak/peaks.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/buffer.h"
#include "base/parallel_for.h"
#include "bench/peak/loops.h"
#include "kernels/onednn.h"

namespace octet::bench {
namespace {

// Best seconds of `repeats` runs of body(thread) on every thread of the team.
double BestSeconds(int threads, int repeats, absl::FunctionRef<void(int64_t)> body) {
  OpenMpFor team(threads);
  double best = 1e30;
  for (int r = 0; r < repeats; ++r) {
    const absl::Time start = absl::Now();
    team.Run(threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) body(t);
    });
    best = std::min(best, absl::ToDoubleSeconds(absl::Now() - start));
  }
  return best;
}

// Operations per nanosecond; the number of iterations grows until a run takes 20 ms.
double Rate(const PeakLoop& loop, int threads) {
  for (int64_t iterations = 1 << 16;; iterations *= 4) {
    const double seconds = BestSeconds(threads, 5, [&](int64_t) { loop.run(iterations); });
    if (seconds < 0.02) continue;
    return static_cast<double>(loop.operations * iterations) * threads / seconds * 1e-9;
  }
}

double ReadGbps(int threads, int64_t bytes, int passes) {
  std::vector<Buffer> buffers(static_cast<size_t>(threads));
  for (Buffer& b : buffers) {
    absl::StatusOr<Buffer> made = Buffer::Allocate(bytes);
    if (!made.ok()) return 0;
    b = *std::move(made);
    std::memset(b.data(), 1, static_cast<size_t>(bytes));
  }
  volatile uint64_t sink = 0;
  const double seconds = BestSeconds(threads, 4, [&](int64_t t) {
    uint64_t sum = 0;
    for (int p = 0; p < passes; ++p) sum += ReadAll(buffers[static_cast<size_t>(t)].data(), bytes);
    sink = sum;
  });
  return static_cast<double>(bytes) * passes * threads / seconds * 1e-9;
}

}  // namespace

Peaks MeasurePeaks(int threads) {
  SetTeamSize(threads);
  Peaks peaks;
  for (const PeakLoop& loop : kInt8PeakLoops) {
    if (!loop.supported()) continue;
    const double rate = Rate(loop, threads);
    if (peaks.vnni_gops == 0 && std::strncmp(loop.instruction, "vpdpbusd", 8) == 0) peaks.vnni_gops = rate;
    if (rate <= peaks.int8_gops) continue;
    peaks.int8_gops = rate;
    peaks.int8_instruction = loop.instruction;
  }
  for (const PeakLoop& loop : kF32PeakLoops) {
    if (peaks.f32_gflops > 0 || !loop.supported()) continue;
    peaks.f32_gflops = Rate(loop, threads);
    peaks.f32_instruction = loop.instruction;
  }
  peaks.l2_gbps = ReadGbps(threads, 512 << 10, 64);
  peaks.l3_gbps = ReadGbps(threads, 12 << 20, 4);
  peaks.memory_gbps = ReadGbps(threads, 768 << 20, 1);
  return peaks;
}

absl::StatusOr<double> MatmulGops(int threads, bool int8) {
  using Type = dnnl::memory::data_type;
  using Tag = dnnl::memory::format_tag;
  constexpr int64_t kSize = 1024;
  SetTeamSize(threads);
  double best = 0;
  const absl::Status status = kernels::DnnlCall("peak product", [&] {
    const dnnl::memory::desc src({kSize, kSize}, int8 ? Type::u8 : Type::f32, Tag::ab);
    const dnnl::memory::desc any({kSize, kSize}, int8 ? Type::s8 : Type::f32, Tag::any);
    const dnnl::memory::desc dst({kSize, kSize}, int8 ? Type::s32 : Type::f32, Tag::ab);
    const dnnl::matmul::primitive_desc pd(kernels::CpuEngine(), src, any, dst);
    dnnl::memory a(src, kernels::CpuEngine()), b(pd.weights_desc(), kernels::CpuEngine()), c(dst, kernels::CpuEngine());
    std::memset(a.get_data_handle(), 1, src.get_size());
    std::memset(b.get_data_handle(), 1, pd.weights_desc().get_size());
    dnnl::stream stream(kernels::CpuEngine());
    const dnnl::matmul product(pd);
    for (int i = 0; i < 12; ++i) {
      const absl::Time start = absl::Now();
      product.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
      stream.wait();
      best = std::max(best, 2e-9 * kSize * kSize * kSize / absl::ToDoubleSeconds(absl::Now() - start));
    }
  });
  if (!status.ok()) return status;
  return best;
}

std::string PeaksString(const Peaks& p) {
  return absl::StrFormat(
      "int8 %.0f GOP/s (%s; vpdpbusd %.0f), f32 %.0f GFLOP/s (%s), read L2 %.0f, L3 %.0f, memory %.0f GB/s", p.int8_gops,
      p.int8_instruction, p.vnni_gops, p.f32_gflops, p.f32_instruction, p.l2_gbps, p.l3_gbps, p.memory_gbps);
}

}  // namespace octet::bench
