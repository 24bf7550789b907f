// Strided copy: transpositions that networks contain, against the bytes moved.
#include "benchmark/benchmark.h"
#include "kernels/movement/movement.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

void Transpose(benchmark::State& state, DType type, const Shape& shape,
               const std::vector<size_t>& order) {
  const int threads = static_cast<int>(state.range(0));
  const Shape strides = StridesOf(shape);
  StridedCopyParams params{type, {}, {}, 0};
  for (size_t d : order) {
    params.dst_shape.push_back(shape[d]);
    params.src_strides.push_back(strides[d]);
  }
  auto kernel = CreateStridedCopy(params, KernelEnv{nullptr, threads});
  const Operand src = MakeRandom(Spec(type, shape), 1);
  Operand dst = MakeOperand(Spec(type, params.dst_shape));
  OpenMpFor team(threads);
  const std::vector<const void*> s{src.data()};
  const std::vector<void*> d{dst.data()};
  auto bound = (*kernel)->Bind({s, d, nullptr, &team});
  for (auto _ : state) benchmark::DoNotOptimize((*bound)().ok());
  state.SetLabel((*kernel)->implementation());
  state.SetBytesProcessed(state.iterations() * 2 * src.spec.size_bytes());
}

const std::vector<size_t> kToLast{0, 2, 3, 1}, kToFirst{0, 3, 1, 2}, kHeads{0, 2, 1, 3};
BENCHMARK_CAPTURE(Transpose, f32_image_to_last, DType::kF32, Shape{1, 3, 224, 224}, kToLast)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime();
BENCHMARK_CAPTURE(Transpose, f32_to_last, DType::kF32, Shape{8, 64, 56, 56}, kToLast)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime();
BENCHMARK_CAPTURE(Transpose, f32_to_first, DType::kF32, Shape{8, 56, 56, 64}, kToFirst)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime();
BENCHMARK_CAPTURE(Transpose, u8_to_last, DType::kU8, Shape{8, 64, 56, 56}, kToLast)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime();
BENCHMARK_CAPTURE(Transpose, f32_heads, DType::kF32, Shape{1, 128, 12, 64}, kHeads)
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime();

}  // namespace
}  // namespace octet::kernels
