// MatmulNBits against oneDNN's int8 product of the same shape (u8 x s8 per column, layout `any`),
// alternating in one run: integers in groups, and codes (16 levels, ternary, vectors, binary).
//
// Per line: median times of both, median and 10 % and 90 % quantiles of peer / ours over the
// rounds, bytes of packed weights per second, and `peak` = that rate over the rate at which the
// same threads can merely read the packed bytes; resident_MB of ours and of the peer. Half of the cases have scales that f16 holds
// exactly, the others f32 scales. ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI takes AMX from both sides.
#include <hwy/highway.h>

#include <functional>

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

// Codes with one scale per column.
MatmulNBitsParams CodeParams(const Shape3& s, DType dtype, int64_t entries, int vector) {
  MatmulNBitsParams p = MakeParams(s, dtype, s.k, true);
  QuantParams& q = *p.weights.quant;
  q.zero_point.clear();
  q.vector = vector;
  for (int64_t i = 0; i < entries * vector; ++i) q.levels.push_back(static_cast<int8_t>(i * 37 % 255 - 127));
  if (entries == 3) {  // the fourth code of two bits does not occur
    const Tensor& codes = p.weights_constant.tensor;
    std::vector<uint8_t> bytes(reinterpret_cast<const uint8_t*>(codes.data()), reinterpret_cast<const uint8_t*>(codes.data()) + codes.size_bytes());
    for (uint8_t& byte : bytes) byte &= static_cast<uint8_t>(~(byte >> 1 & 0x55));
    p.weights_constant.tensor = Tensor::FromValues<uint8_t>(dtype, p.weights.shape, bytes);
  }
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
             const Shape3& shape, const MatmulNBitsParams& ours_params) {
  const int threads = BenchmarkThreads();
  SetTeamSize(threads);
  OpenMpFor team(threads);
  WeightStore ours_store, peer_store;
  const MatmulParams peer_params = PeerParams(shape);
  Side ours, peer;
  for (const absl::Status& status :
       {ours.Add(entry.create(ours_params, KernelEnv{&ours_store, threads}), ours_params.src, ours_params.dst, &team),
        peer.Add(CreateMatmul(peer_params, KernelEnv{&peer_store, threads}), peer_params.a, peer_params.dst, &team)}) {
    if (status.ok()) continue;
    state.SkipWithError(std::string(status.message()).c_str());
    return;
  }
  const auto packed =
      ours_store.GetOrPack("1/matmul_nbits/n", [] { return absl::InternalError("not packed"); });
  std::vector<double> reads;
  for (auto _ : state) {
    peer.RunOnce();
    ours.RunOnce();
    reads.push_back(ReadUs((*packed)->data.data(), (*packed)->data.size_bytes(), team));
    state.SetIterationTime(ours.us.back() * 1e-6);
  }
  ReportSides(state, ours, peer);
  const double bytes = static_cast<double>((*packed)->data.size_bytes()), us = Quantile(ours.us, 0.5);
  state.counters["GB/s"] = bytes / us * 1e-3;
  state.counters["peak"] = Quantile(reads, 0.5) / us;
  state.counters["resident_MB"] = static_cast<double>(ours_store.TotalBytes()) * 1e-6;
  state.counters["peer_MB"] = static_cast<double>(peer_store.TotalBytes()) * 1e-6;
}

void RegisterForAll(const std::string& name, const Shape3& s, const std::function<MatmulNBitsParams()>& make) {
  for (const auto& entry : MatmulNBitsImplementations()) {
    if (std::string(entry.name) == "reference") continue;  // seconds per run
    if (std::string(entry.name) == "amx" && s.m < 4) continue;
    benchmark::RegisterBenchmark(absl::StrCat("matmul_nbits/M", s.m, "/K", s.k, "/N", s.n, "/", name, "/", entry.name).c_str(),
                                 [=](benchmark::State& state) { Compare(state, entry, s, make()); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond)
        ->MinTime(0.15);
  }
}

void Register(const Shape3& s, DType dtype, int64_t group, bool half_scales) {
  RegisterForAll(absl::StrCat(NameOf(dtype), "/group", group, half_scales ? "/f16" : "/f32"), s,
                 [=] { return MakeParams(s, dtype, group, half_scales); });
}

void RegisterCodes(const Shape3& s) {
  RegisterForAll("levels16", s, [=] { return CodeParams(s, DType::kU4, 16, 1); });
  RegisterForAll("ternary", s, [=] { return CodeParams(s, DType::kU2, 3, 1); });
  RegisterForAll("binary", s, [=] { return CodeParams(s, DType::kU1, 2, 1); });
  RegisterForAll("vectors", s, [=] { return CodeParams(s, DType::kU2, 256, 4); });
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
  Register({1, 1024, 1024}, DType::kS4, 32, true);
  for (const int64_t size : {1024, 4096, 8192}) {
    for (const int64_t m : {1, 32}) RegisterCodes({m, size, size});
  }
  return true;
}();

}  // namespace
}  // namespace octet::kernels
