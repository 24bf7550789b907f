// MatmulNBits against oneDNN's int8 product of the same shape (u8 x s8 per column, layout `any`),
// alternating in one run.
//
// Per line: median times of both, median and 10 % and 90 % quantiles of peer / ours over the
// rounds, bytes of packed weights per second, and `peak` = that rate over the rate at which the
// same threads can merely read the packed bytes. Half of the cases have scales that f16 holds
// exactly, the others f32 scales. ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI takes AMX from both sides.
#include <hwy/highway.h>

#include "kernels/benchmarking.h"
#include "kernels/matmul/matmul.h"
#include "kernels/matmul_nbits/matmul_nbits.h"

namespace octet::kernels {
namespace {

using Clock = std::chrono::steady_clock;

struct Shape3 {
  int64_t m, k, n;
};

MatmulNBitsParams MakeParams(const Shape3& s, DType dtype, int64_t group, bool half_scales) {
  MatmulNBitsParams p;
  p.src = F32Spec({s.m, s.k});
  p.dst = F32Spec({s.m, s.n});
  p.weights = {dtype, {s.k, s.n}, Layout::kPlain, {}};
  QuantParams q{{}, {}, 0, group};
  const CounterRng rng(3);
  for (int64_t i = 0; i < (s.k + group - 1) / group * s.n; ++i) {
    const auto bits = static_cast<float>(rng.Bits(static_cast<uint64_t>(i)) % 1024);
    q.scale.push_back((1024 + bits) / (half_scales ? 1 << 18 : 262143.0f));
    if (dtype == DType::kU4) q.zero_point.push_back(static_cast<int>(bits) % 16);
  }
  p.weights.quant = std::move(q);
  Buffer data = RandomOperand(DType::kU8, ByteSize(dtype, p.weights.shape), 1);
  p.weights_constant = {1, Tensor::FromBuffer(dtype, p.weights.shape, std::move(data)), {}};
  return p;
}

MatmulParams PeerParams(const Shape3& s) {
  MatmulParams p;
  p.a = QuantSpec(DType::kU8, {s.m, s.k}, 0.02f, 0);
  p.b = {DType::kS8,
         {s.k, s.n},
         Layout::kPlain,
         QuantParams{std::vector<float>(static_cast<size_t>(s.n), 0.01f), {}, 1, 0}};
  p.dst = F32Spec({s.m, s.n});
  p.b_constant = {1, RandomConstant(DType::kS8, p.b.shape, 2), p.b.quant};
  return p;
}

// One side: kernel, operands and times.
struct Side {
  absl::StatusOr<std::unique_ptr<Kernel>> kernel;
  Buffer src, dst, scratch;
  BoundKernel bound;
  std::vector<double> us;

  absl::Status Bind(const TensorSpec& src_spec, const TensorSpec& dst_spec, ParallelFor* team) {
    if (!kernel.ok()) return kernel.status();
    src = RandomOperand(src_spec, 4);
    dst = RandomOperand(dst_spec, 5);
    scratch = *Buffer::Allocate((*kernel)->scratch_bytes() + 1);
    const void* const srcs[] = {src.data()};
    void* const dsts[] = {dst.data()};
    auto made = (*kernel)->Bind({srcs, dsts, scratch.data(), team});
    if (!made.ok()) return made.status();
    bound = *std::move(made);
    return bound();
  }
  void RunOnce() {
    const Clock::time_point start = Clock::now();
    benchmark::DoNotOptimize(bound());
    us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
};

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

// Reads `bytes` with the team; what a product over them cannot beat.
double ReadUs(const std::byte* data, int64_t bytes, ParallelFor& team) {
  const Clock::time_point start = Clock::now();
  team.Run(bytes / 256, 1, [&](int64_t begin, int64_t end) {
    namespace hn = hwy::HWY_NAMESPACE;
    const hn::ScalableTag<uint64_t> d;
    auto sum = hn::Zero(d);
    const auto* p = reinterpret_cast<const uint64_t*>(data);
    for (int64_t i = begin * 32; i < end * 32; i += static_cast<int64_t>(hn::Lanes(d))) {
      if (i % 8 == 0) __builtin_prefetch(p + i + 256);
      sum = hn::Xor(sum, hn::LoadU(d, p + i));
    }
    benchmark::DoNotOptimize(hn::ReduceSum(d, sum));
  });
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

void Compare(benchmark::State& state, const Implementation<MatmulNBitsParams>& entry,
             const Shape3& shape, DType dtype, int64_t group, bool half_scales) {
  const int threads = BenchmarkThreads();
  SetTeamSize(threads);
  OpenMpFor team(threads);
  WeightStore ours_store, peer_store;
  const MatmulNBitsParams ours_params = MakeParams(shape, dtype, group, half_scales);
  const MatmulParams peer_params = PeerParams(shape);
  Side ours{entry.create(ours_params, KernelEnv{&ours_store, threads}), {}, {}, {}, {}, {}};
  Side peer{CreateMatmul(peer_params, KernelEnv{&peer_store, threads}), {}, {}, {}, {}, {}};
  for (const absl::Status& status : {ours.Bind(ours_params.src, ours_params.dst, &team),
                                     peer.Bind(peer_params.a, peer_params.dst, &team)}) {
    if (status.ok()) continue;
    state.SkipWithError(std::string(status.message()).c_str());
    return;
  }
  const auto packed =
      ours_store.GetOrPack("1/matmul_nbits/n", [] { return absl::InternalError("not packed"); });
  std::vector<double> ratios, reads;
  for (auto _ : state) {
    peer.RunOnce();
    ours.RunOnce();
    ratios.push_back(peer.us.back() / ours.us.back());
    reads.push_back(ReadUs((*packed)->data.data(), (*packed)->data.size_bytes(), team));
    state.SetIterationTime(ours.us.back() * 1e-6);
  }
  const double bytes = static_cast<double>((*packed)->data.size_bytes());
  const double us = Quantile(ours.us, 0.5);
  state.counters["us"] = us;
  state.counters["peer_us"] = Quantile(peer.us, 0.5);
  state.counters["ratio"] = Quantile(ratios, 0.5);
  state.counters["ratio_p10"] = Quantile(ratios, 0.1);
  state.counters["ratio_p90"] = Quantile(ratios, 0.9);
  state.counters["GB/s"] = bytes / us * 1e-3;
  state.counters["peak"] = Quantile(reads, 0.5) / us;
  state.SetLabel((*ours.kernel)->implementation() + " | " + (*peer.kernel)->implementation());
}

void Register(const Shape3& s, DType dtype, int64_t group, bool half_scales) {
  for (const auto& entry : MatmulNBitsImplementations()) {
    if (std::string(entry.name) == "reference") continue;  // seconds per run
    if (std::string(entry.name) == "amx" && s.m < 4) continue;
    const std::string name =
        absl::StrCat("matmul_nbits/M", s.m, "/K", s.k, "/N", s.n, "/", NameOf(dtype), "/group",
                     group, half_scales ? "/f16/" : "/f32/", entry.name);
    benchmark::RegisterBenchmark(
        name.c_str(),
        [=](benchmark::State& state) { Compare(state, entry, s, dtype, group, half_scales); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond)
        ->MinTime(0.15);
  }
}

const bool kRegistered = [] {
  for (const int64_t size : {4096, 8192}) {
    for (const int64_t m : {1, 2, 4, 8, 16, 32, 128}) {
      for (const bool half_scales : {true, false})
        Register({m, size, size}, DType::kS4, 32, half_scales);
    }
    for (const DType dtype : {DType::kS4, DType::kU4, DType::kS8}) {
      for (const int64_t m : {1, 32}) Register({m, size, size}, dtype, 128, true);
    }
  }
  for (const int64_t m : {1, 32}) Register({m, 768, 3072}, DType::kS4, 32, true);
  return true;
}();

}  // namespace
}  // namespace octet::kernels
