// Binary: time by implementation for residual additions and per-channel scales.
#include "benchmark/benchmark.h"
#include "kernels/binary/binary.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

void RunCase(benchmark::State& state, const Implementation<BinaryParams>& entry,
             const BinaryParams& params, int threads) {
  SetTeamSize(threads);
  auto kernel = entry.create(params, KernelEnv{nullptr, threads});
  if (!kernel.ok()) {
    state.SkipWithError(std::string(kernel.status().message()).c_str());
    return;
  }
  const Operand a = MakeRandom(params.a, 1), b = MakeRandom(params.b, 2);
  Operand dst = MakeOperand(params.dst);
  absl::StatusOr<Buffer> scratch =
      Buffer::Allocate(std::max<int64_t>((*kernel)->scratch_bytes(), 1));
  OpenMpFor team(threads);
  const std::vector<const void*> s{a.data(), b.data()};
  const std::vector<void*> d{dst.data()};
  auto bound = (*kernel)->Bind({s, d, scratch->data(), &team});
  for (auto _ : state) benchmark::DoNotOptimize((*bound)().ok());
  state.SetLabel((*kernel)->implementation());
  state.SetBytesProcessed(state.iterations() * (params.a.size_bytes() + params.b.size_bytes() +
                                                params.dst.size_bytes()));
}

const int kRegistered = [] {
  const auto add = [](const std::string& name, const BinaryParams& params) {
    for (const auto& entry : BinaryImplementations()) {
      if (!entry.create(params, KernelEnv{}).ok()) continue;
      for (int threads : {1, 2}) {
        benchmark::RegisterBenchmark(
            (name + "/" + entry.name + "/threads:" + std::to_string(threads)).c_str(),
            [&entry, params, threads](benchmark::State& state) {
              RunCase(state, entry, params, threads);
            })
            ->UseRealTime()
            ->MinTime(0.1);
      }
    }
  };
  const Layout last = Layout::kChannelsLast;
  for (const Shape& shape : {Shape{1, 64, 28, 28}, Shape{8, 64, 56, 56}}) {
    const std::string s = ShapeString(shape);
    const Shape channel{1, shape[1], 1, 1};
    const TensorSpec u8 = QuantSpec(DType::kU8, shape, 0.02f, 3, last),
                     f32 = Spec(DType::kF32, shape, last);
    add("add_u8" + s, {BinaryKind::kAdd, u8, u8, QuantSpec(DType::kU8, shape, 0.04f, 0, last), {}});
    add("add_f32" + s, {BinaryKind::kAdd, f32, f32, f32, {}});
    add("mul_channel_f32_last" + s,
        {BinaryKind::kMul, f32, Spec(DType::kF32, channel, last), f32, {}});
    add("mul_channel_f32_plain" + s, {BinaryKind::kMul,
                                      Spec(DType::kF32, shape),
                                      Spec(DType::kF32, channel),
                                      Spec(DType::kF32, shape),
                                      {}});
    add("mul_scalar_f32" + s, {BinaryKind::kMul, f32, Spec(DType::kF32, {}), f32, {}});
  }
  return 0;
}();

}  // namespace
}  // namespace octet::kernels
