// Convolutions with weights of less than 8 bits against oneDNN's of s8 weights of the same shape, alternating in one run.
//
// Per line: medians of both, median and 10 % and 90 % quantiles of peer / ours over the rounds, resident bytes of weights
// of both. `l2` runs one layer; `l3` takes turns among as many copies as exceed L2, which is what a network does; `memory`
// evicts the weights in front of every run, as in a network whose weights exceed all caches.
#include "kernels/benchmarking.h"
#include "kernels/conv/conv.h"

namespace octet::kernels {
namespace {

struct CodeForm {
  const char* name;
  DType dtype;
  int64_t entries;  // 0: integers
  int vector;
  int64_t group;    // 0: per channel
};
constexpr CodeForm kForms[] = {{"int4_g32", DType::kS4, 0, 1, 32},     {"int4", DType::kS4, 0, 1, 0},
                               {"levels16", DType::kU4, 16, 1, 0},     {"ternary", DType::kU2, 3, 1, 0},
                               {"binary", DType::kU1, 2, 1, 0},        {"vectors", DType::kU2, 256, 4, 0}};

ConvParams MakeS8(const ShapeLine& line, int64_t batch) {
  const int64_t channels = line.at(0), height = line.at(1), width = line.at(2), outputs = line.at(3), kernel = line.at(4),
                stride = line.at(5), pad = line.at(6), groups = line.at(7);
  const auto out = [&](int64_t size) { return (size + 2 * pad - kernel) / stride + 1; };
  ConvParams p;
  p.src = QuantSpec(DType::kU8, {batch, channels, height, width}, 0.02f, 0, Layout::kChannelsLast);
  p.dst = QuantSpec(DType::kU8, {batch, outputs, out(height), out(width)}, 0.05f, 0, Layout::kChannelsLast);
  p.weights_shape = {outputs, channels / groups, kernel, kernel};
  p.weights_dtype = DType::kS8;
  p.weights = {1, RandomConstant(DType::kS8, p.weights_shape, 1), {}};
  p.weights.quant = QuantParams{std::vector<float>(static_cast<size_t>(outputs), 0.01f), {}, 0, 0, {}, 1};
  p.bias = {2, RandomConstant(DType::kF32, {outputs}, 2), {}};
  p.groups = groups;
  p.strides = {stride, stride};
  p.dilations = {1, 1};
  p.pads_begin = p.pads_end = {pad, pad};
  p.post_ops = {{PostOp::Kind::kActivation, {ActivationKind::kRelu, 0, 0}, {}}};
  return p;
}

ConvParams MakeCodes(const ConvParams& s8, const CodeForm& form) {
  ConvParams p = s8;
  const int64_t bytes = ByteSize(form.dtype, p.weights_shape), inputs = p.weights_shape[1];
  Buffer data = RandomOperand(DType::kU8, bytes, 7);
  for (int64_t i = 0; form.entries == 3 && i < bytes; ++i) {  // the fourth code of two bits does not occur
    data.data()[i] &= ~(data.data()[i] >> 1 & std::byte{0x55});
  }
  QuantParams& q = *p.weights.quant;
  q.vector = form.vector;
  for (int64_t i = 0; i < form.entries * form.vector; ++i) {
    q.levels.push_back(static_cast<int8_t>(form.entries == 3 ? i - 1 : form.entries == 2 ? 2 * i - 1 : i * 37 % 255 - 127));
  }
  if (form.group > 0) {
    q.axis = 1;
    q.block = form.group;
    q.scale.clear();
    const int64_t scales = NumElements(p.weights_shape) / inputs * ((inputs + form.group - 1) / form.group);
    for (int64_t i = 0; i < scales; ++i) q.scale.push_back(0.01f * static_cast<float>(1 + i * 7 % 15));
  }
  p.weights_dtype = form.dtype;
  p.weights.tensor = Tensor::FromBuffer(form.dtype, p.weights_shape, std::move(data));
  return p;
}

enum class Cache : uint8_t { kL2, kL3, kMemory };
constexpr int64_t kBeyondL2 = 16 << 20;

void Compare(benchmark::State& state, const ShapeLine& line, const CodeForm& form, int64_t batch, Cache cache) {
  const int threads = BenchmarkThreads();
  SetTeamSize(threads);
  OpenMpFor team(threads);
  WeightStore ours_store, peer_store;
  ConvParams s8 = MakeS8(line, batch), codes = MakeCodes(s8, form);
  const int64_t copies = cache == Cache::kL3 ? std::clamp<int64_t>(kBeyondL2 / NumElements(s8.weights_shape), 4, 256) : 1;
  Side ours, peer;
  for (int64_t i = 0; i < copies; ++i) {
    s8.weights.id = codes.weights.id = static_cast<int>(i) * 2 + 3;
    for (const absl::Status& status :
         {ours.Add(CreateConv(codes, KernelEnv{&ours_store, threads}), codes.src, codes.dst, &team),
          peer.Add(CreateConv(s8, KernelEnv{&peer_store, threads}), s8.src, s8.dst, &team)}) {
      if (status.ok()) continue;
      state.SkipWithError(std::string(status.message()).c_str());
      return;
    }
  }
  const auto ours_weights = ours_store.FindFirst("3/conv_codes/"), peer_weights = peer_store.FindFirst("3/conv/");
  for (auto _ : state) {
    if (cache == Cache::kMemory) Evict(peer_weights->data);
    peer.RunOnce();
    if (cache == Cache::kMemory) Evict(ours_weights->data);
    ours.RunOnce();
    state.SetIterationTime(ours.us.back() * 1e-6);
  }
  ReportSides(state, ours, peer);
  state.counters["resident_KB"] = static_cast<double>(ours_weights->data.size_bytes()) * 1e-3;
  state.counters["peer_KB"] = static_cast<double>(peer_weights->data.size_bytes()) * 1e-3;
}

const bool kRegistered = [] {
  for (const ShapeLine& line : ReadShapes("conv/codes.txt")) {
    for (const CodeForm& form : kForms) {
      for (const int64_t batch : {1, 8}) {
        for (const Cache cache : {Cache::kL2, Cache::kL3, Cache::kMemory}) {
          const std::string name = absl::StrCat("conv_codes/", line.name, "/", form.name, "/batch:", batch,
                                                cache == Cache::kL2 ? "/l2" : cache == Cache::kL3 ? "/l3" : "/memory");
          benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& s) { Compare(s, line, form, batch, cache); })
              ->UseManualTime()
              ->Unit(benchmark::kMicrosecond)
              ->MinTime(0.1);
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace octet::kernels
