// Speed of every implementation of Pool, channels-last.
#include "kernels/benchmarking.h"
#include "kernels/pool/pool.h"

namespace octet::kernels {
namespace {

PoolParams MakeParams(const ShapeLine& line, DType dtype, int64_t batch) {
  const int64_t channels = line.at(1), height = line.at(2), width = line.at(3), kernel = line.at(4),
                stride = line.at(5), pad = line.at(6);
  const auto out = [&](int64_t size) { return (size + 2 * pad - kernel) / stride + 1; };
  PoolParams p;
  p.kind = line.words[0] == "max" ? PoolParams::Kind::kMax : PoolParams::Kind::kAverage;
  p.src = {dtype, {batch, channels, height, width}, Layout::kChannelsLast, {}};
  p.dst = {dtype, {batch, channels, out(height), out(width)}, Layout::kChannelsLast, {}};
  if (dtype != DType::kF32) p.src.quant = p.dst.quant = QuantParams::PerTensor(0.02f, 0);
  p.kernel = {kernel, kernel};
  p.strides = {stride, stride};
  p.dilations = {1, 1};
  p.pads_begin = p.pads_end = {pad, pad};
  return p;
}

void Run(benchmark::State& state, const Implementation<PoolParams>& entry, const ShapeLine& line,
         DType dtype, int64_t batch) {
  SetTeamSize(BenchmarkThreads());
  const PoolParams p = MakeParams(line, dtype, batch);
  const Buffer src = RandomOperand(p.src, 3);
  Buffer dst = RandomOperand(p.dst, 4);
  const double window = static_cast<double>(p.kernel[0] * p.kernel[1]);
  TimeKernel(state, entry.create(p, KernelEnv{nullptr, BenchmarkThreads()}), {src.data()},
             dst.data(),
             {window * static_cast<double>(NumElements(p.dst.shape)),
              static_cast<double>(p.src.size_bytes() + p.dst.size_bytes())});
}

const bool kRegistered = [] {
  for (const ShapeLine& line : ReadShapes("pool/resnet50.txt")) {
    for (DType dtype : {DType::kF32, DType::kU8}) {
      for (int64_t batch : {1, 8}) {
        for (const auto& entry : PoolImplementations()) {
          const std::string name = absl::StrCat("pool/", line.name, "/", NameOf(dtype),
                                                "/batch:", batch, "/", entry.name);
          benchmark::RegisterBenchmark(
              name.c_str(), [=](benchmark::State& s) { Run(s, entry, line, dtype, batch); })
              ->UseRealTime()
              ->Unit(benchmark::kMicrosecond);
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace octet::kernels
