// Shared by the tests and benchmarks of kernels: random operands, running a kernel, comparing
// destinations.
#ifndef OCTET_KERNELS_PRODUCT_TESTING_H_
#define OCTET_KERNELS_PRODUCT_TESTING_H_

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/rng.h"
#include "kernels/elements.h"
#include "kernels/kernel.h"
#include "kernels/onednn_product.h"

namespace octet::kernels {

inline TensorSpec F32Spec(Shape shape, Layout layout = Layout::kPlain) {
  return {DType::kF32, std::move(shape), layout, std::nullopt};
}
inline TensorSpec QuantSpec(DType dtype, Shape shape, float scale, int32_t zero_point,
                            Layout layout = Layout::kPlain) {
  return {dtype, std::move(shape), layout, QuantParams::PerTensor(scale, zero_point)};
}

// Memory of an operand: f32 uniform in [-1, 1), integers uniform over their whole range, the
// extremes included.
inline Buffer RandomOperand(DType dtype, int64_t elements, uint64_t seed) {
  Buffer buffer = *Buffer::Allocate(std::max<int64_t>(elements * BytesOf(dtype), 1));
  const CounterRng rng(seed);
  for (int64_t i = 0; i < elements; ++i) {
    const double u = rng.Uniform(static_cast<uint64_t>(i));
    if (dtype == DType::kF32) {
      StoreNumber(dtype, buffer.data(), i, 2 * u - 1);
    } else {
      const auto [low, high] = IntegerRange(dtype);
      StoreInteger(dtype, buffer.data(), i,
                   low + static_cast<int64_t>(u * static_cast<double>(high - low + 1)));
    }
  }
  return buffer;
}
inline Buffer RandomOperand(const TensorSpec& spec, uint64_t seed) {
  return RandomOperand(spec.dtype, NumElements(spec.shape), seed);
}

// A constant of random f32 in [-1, 1) or s8 in [-limit, limit].
inline Tensor RandomConstant(DType dtype, Shape shape, uint64_t seed, int limit = 127) {
  const int64_t n = NumElements(shape);
  Buffer buffer = RandomOperand(dtype, n, seed);
  if (dtype == DType::kS8) {
    auto* q = reinterpret_cast<int8_t*>(buffer.data());
    for (int64_t i = 0; i < n; ++i) q[i] = static_cast<int8_t>(q[i] % (limit + 1));
  }
  return Tensor::FromBuffer(dtype, std::move(shape), std::move(buffer));
}

// Largest weight that oneDNN multiplies exactly on this CPU.
inline int WeightsLimit() { return HasVnni() ? 127 : 63; }

// Binds the kernel to the operands and runs it once on a team of `threads`.
inline absl::Status RunOnce(const Kernel& kernel, std::vector<const void*> src, void* dst,
                            int threads = 2) {
  OpenMpFor team(threads);
  SetTeamSize(threads);
  absl::StatusOr<Buffer> scratch = Buffer::Allocate(kernel.scratch_bytes() + 1);
  if (!scratch.ok()) return scratch.status();
  void* const dsts[] = {dst};
  absl::StatusOr<BoundKernel> bound = kernel.Bind({src, dsts, scratch->data(), &team});
  if (!bound.ok()) return bound.status();
  return (*bound)();
}

// Largest difference in stored units (steps of integers; f32: relative to 1 + |expected|); "" or
// where it exceeds limit.
inline std::string Difference(const TensorSpec& spec, const void* expected, const void* actual,
                              double limit) {
  for (int64_t i = 0; i < NumElements(spec.shape); ++i) {
    const double want = LoadNumber(spec.dtype, expected, i),
                 got = LoadNumber(spec.dtype, actual, i);
    const double unit = spec.dtype == DType::kF32 ? 1 + std::fabs(want) : 1;
    if (!(std::fabs(want - got) <= limit * unit)) {
      return absl::StrCat("element ", i, " of ", ShapeString(spec.shape), " is ", got,
                          ", reference ", want, ", allowed difference ", limit * unit);
    }
  }
  return "";
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PRODUCT_TESTING_H_
