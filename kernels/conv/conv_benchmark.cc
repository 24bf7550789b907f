// Speed of every implementation of Conv on the layers of real models, channels-last, bias and ReLU
// fused.
#include "absl/strings/match.h"
#include "kernels/benchmarking.h"
#include "kernels/conv/conv.h"

namespace octet::kernels {
namespace {

ConvParams MakeParams(const ShapeLine& line, DType dtype, int64_t batch) {
  const int64_t channels = line.at(0), height = line.at(1), width = line.at(2),
                outputs = line.at(3), kernel = line.at(4), stride = line.at(5), pad = line.at(6),
                groups = line.at(7);
  const auto out = [&](int64_t size) { return (size + 2 * pad - kernel) / stride + 1; };
  ConvParams p;
  p.src = {dtype, {batch, channels, height, width}, Layout::kChannelsLast, {}};
  p.dst = {dtype, {batch, outputs, out(height), out(width)}, Layout::kChannelsLast, {}};
  p.weights_shape = {outputs, channels / groups, kernel, kernel};
  p.weights_dtype = dtype == DType::kF32 ? DType::kF32 : DType::kS8;
  p.weights = {1, RandomConstant(p.weights_dtype, p.weights_shape, 1), {}};
  p.bias = {2, RandomConstant(DType::kF32, {outputs}, 2), {}};
  if (dtype != DType::kF32) {
    p.src.quant = QuantParams::PerTensor(0.02f, 0);
    p.dst.quant = QuantParams::PerTensor(0.05f, 0);
    p.weights.quant =
        QuantParams{std::vector<float>(static_cast<size_t>(outputs), 0.01f), {}, 0, 0};
  }
  p.groups = groups;
  p.strides = {stride, stride};
  p.dilations = {1, 1};
  p.pads_begin = p.pads_end = {pad, pad};
  p.post_ops = {{PostOp::Kind::kActivation, {ActivationKind::kRelu, 0, 0}, {}}};
  return p;
}

void Run(benchmark::State& state, const Implementation<ConvParams>& entry, const ShapeLine& line,
         DType dtype, int64_t batch) {
  SetTeamSize(BenchmarkThreads());
  const ConvParams p = MakeParams(line, dtype, batch);
  const Buffer src = RandomOperand(p.src, 3);
  Buffer dst = RandomOperand(p.dst, 4);
  const double depth = static_cast<double>(NumElements(p.weights_shape) / p.weights_shape[0]);
  TimeKernel(state, entry.create(p, KernelEnv{nullptr, BenchmarkThreads()}), {src.data()},
             dst.data(),
             {2 * depth * static_cast<double>(NumElements(p.dst.shape)),
              static_cast<double>(p.src.size_bytes() + p.dst.size_bytes() +
                                  p.weights.tensor.size_bytes())});
}

const bool kRegistered = [] {
  for (const char* model : {"resnet50", "mobilenet_v2", "fashion_mnist"}) {
    for (const ShapeLine& line : ReadShapes(absl::StrCat("conv/", model, ".txt"))) {
      for (DType dtype : {DType::kF32, DType::kU8}) {
        for (int64_t batch : {1, 8}) {
          for (const auto& entry : ConvImplementations()) {
            if (std::string(entry.name) == "reference") continue;     // seconds per run
            if (absl::EndsWith(entry.name, "_codes")) continue;  // conv_codes_benchmark.cc
            const std::string name = absl::StrCat("conv/", model, "/", line.name, "/",
                                                  NameOf(dtype), "/batch:", batch, "/", entry.name);
            benchmark::RegisterBenchmark(
                name.c_str(), [=](benchmark::State& s) { Run(s, entry, line, dtype, batch); })
                ->UseRealTime()
                ->Unit(benchmark::kMicrosecond);
          }
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace octet::kernels
