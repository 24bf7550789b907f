// Speed of every implementation of Matmul with a constant right side on the layers of real models,
// bias fused.
#include "kernels/benchmarking.h"
#include "kernels/matmul/matmul.h"

namespace octet::kernels {
namespace {

MatmulParams MakeParams(const ShapeLine& line, DType dtype) {
  const int64_t m = line.at(0), n = line.at(1), k = line.at(2);
  MatmulParams p;
  p.a = {dtype, {m, k}, Layout::kPlain, {}};
  p.b = {dtype == DType::kF32 ? DType::kF32 : DType::kS8, {k, n}, Layout::kPlain, {}};
  p.dst = {dtype, {m, n}, Layout::kPlain, {}};
  if (dtype != DType::kF32) {
    p.a.quant = QuantParams::PerTensor(0.02f, 100);
    p.b.quant = QuantParams{std::vector<float>(static_cast<size_t>(n), 0.01f), {}, 1, 0};
    p.dst.quant = QuantParams::PerTensor(0.05f, 100);
  }
  p.b_constant = {1, RandomConstant(p.b.dtype, p.b.shape, 1), p.b.quant};
  p.bias = {2, RandomConstant(DType::kF32, {n}, 2), {}};
  return p;
}

void Run(benchmark::State& state, const Implementation<MatmulParams>& entry, const ShapeLine& line,
         DType dtype) {
  SetTeamSize(BenchmarkThreads());
  const MatmulParams p = MakeParams(line, dtype);
  const Buffer a = RandomOperand(p.a, 3);
  Buffer dst = RandomOperand(p.dst, 4);
  TimeKernel(
      state, entry.create(p, KernelEnv{nullptr, BenchmarkThreads()}), {a.data()}, dst.data(),
      {2.0 * static_cast<double>(NumElements(p.dst.shape)) * static_cast<double>(p.a.shape[1]),
       static_cast<double>(p.a.size_bytes() + p.b.size_bytes() + p.dst.size_bytes())});
}

const bool kRegistered = [] {
  for (const char* model : {"bert_base", "mlp"}) {
    for (const ShapeLine& line : ReadShapes(absl::StrCat("matmul/", model, ".txt"))) {
      for (DType dtype : {DType::kF32, DType::kU8}) {
        for (const auto& entry : MatmulImplementations()) {
          if (std::string(entry.name) == "reference") continue;  // seconds per run
          const std::string name =
              absl::StrCat("matmul/", model, "/", line.name, "/", NameOf(dtype), "/", entry.name);
          benchmark::RegisterBenchmark(name.c_str(),
                                       [=](benchmark::State& s) { Run(s, entry, line, dtype); })
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
