// Convert: time by implementation for the inputs that networks see (images in, activations between
// regions).
#include "benchmark/benchmark.h"
#include "kernels/quantize/quantize.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

void RunCase(benchmark::State& state, const Implementation<ConvertParams>& entry,
             const ConvertParams& params, int threads) {
  SetTeamSize(threads);
  KernelEnv env;
  env.threads = threads;
  auto kernel = entry.create(params, env);
  if (!kernel.ok()) {
    state.SkipWithError(std::string(kernel.status().message()).c_str());
    return;
  }
  const Operand src = MakeRandom(params.src, 1);
  Operand dst = MakeOperand(params.dst);
  absl::StatusOr<Buffer> scratch =
      Buffer::Allocate(std::max<int64_t>((*kernel)->scratch_bytes(), 1));
  OpenMpFor team(threads);
  const std::vector<const void*> s{src.data()};
  const std::vector<void*> d{dst.data()};
  auto bound = (*kernel)->Bind({s, d, scratch->data(), &team});
  for (auto _ : state) benchmark::DoNotOptimize((*bound)().ok());
  state.SetLabel((*kernel)->implementation());
  state.SetBytesProcessed(state.iterations() * (params.src.size_bytes() + params.dst.size_bytes()));
}

const int kRegistered = [] {
  const auto add = [](const std::string& name, const TensorSpec& src, const TensorSpec& dst) {
    for (const auto& entry : ConvertImplementations()) {
      if (!entry.create({src, dst}, KernelEnv{}).ok()) continue;
      for (int threads : {1, 2}) {
        benchmark::RegisterBenchmark(
            (name + "/" + entry.name + "/threads:" + std::to_string(threads)).c_str(),
            [&entry, src, dst, threads](benchmark::State& state) {
              RunCase(state, entry, {src, dst}, threads);
            })
            ->UseRealTime()
            ->MinTime(0.1);
      }
    }
  };
  const Layout last = Layout::kChannelsLast;
  for (const Shape& shape : {Shape{32, 1, 28, 28}, Shape{1, 3, 224, 224}, Shape{8, 64, 56, 56}}) {
    const std::string s = ShapeString(shape);
    add("quantize_f32_plain_to_u8_last" + s, Spec(DType::kF32, shape),
        QuantSpec(DType::kU8, shape, 0.02f, 3, last));
    add("dequantize_u8_last_to_f32_plain" + s, QuantSpec(DType::kU8, shape, 0.02f, 3, last),
        Spec(DType::kF32, shape));
    add("requantize_u8" + s, QuantSpec(DType::kU8, shape, 0.02f, 3, last),
        QuantSpec(DType::kU8, shape, 0.05f, 0, last));
    add("layout_f32" + s, Spec(DType::kF32, shape), Spec(DType::kF32, shape, last));
    add("quantize_f32_plain_to_u8_plain" + s, Spec(DType::kF32, shape),
        QuantSpec(DType::kU8, shape, 0.02f, 3));
  }
  return 0;
}();

}  // namespace
}  // namespace octet::kernels
