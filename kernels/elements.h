// Element access for references and generic loops: strides of a layout, any dtype read and written
// as a number, walks over multi-indices and over the contiguous runs of broadcast operands.
#ifndef OCTET_KERNELS_ELEMENTS_H_
#define OCTET_KERNELS_ELEMENTS_H_

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "base/parallel_for.h"
#include "base/shape.h"
#include "kernels/kernel.h"

namespace octet::kernels {

inline constexpr int64_t kGrainBytes = 64 << 10;  // smallest piece of memory worth a thread

// parallel->Run, or on the calling thread when the binding has no team (constant folding).
void RunParallel(ParallelFor* parallel, int64_t n, int64_t grain,
                 absl::FunctionRef<void(int64_t begin, int64_t end)> body);

// Dimensions from outermost to innermost in memory: 0, 1, 2, 3 or 0, 2, 3, 1.
absl::InlinedVector<int, 6> MemoryOrder(const TensorSpec& spec);

// Strides in elements, one per dimension in ONNX order.
Shape StridesIn(const TensorSpec& spec);

// True when equal shapes put every element at the same offset (dimensions of size 1 do not count).
bool SameMemoryOrder(const TensorSpec& a, const TensorSpec& b);

// Element `index` as a number, without quantization; exact but for 64-bit integers beyond 2^53.
double LoadNumber(DType dtype, const void* data, int64_t index);
// The same of integers and bool, exact (u64 wraps).
int64_t LoadInteger(DType dtype, const void* data, int64_t index);
// Floats round to nearest; integers truncate toward zero and saturate (NaN gives 0); bool becomes
// value != 0.
void StoreNumber(DType dtype, void* data, int64_t index, double value);
// Integers wrap; bool becomes value != 0.
void StoreInteger(DType dtype, void* data, int64_t index, int64_t value);
// Copies one element, types of less than 8 bits included.
void CopyElement(DType dtype, const void* src, int64_t src_index, void* dst, int64_t dst_index);

// Smallest and largest value of an integer type (u64: largest s64).
std::pair<int64_t, int64_t> IntegerRange(DType dtype);

// scale * (stored - zero_point), and its inverse: round half to even, saturated to dtype; NaN gives
// the smallest value.
inline float Dequantize(int64_t stored, float scale, int32_t zero_point) {
  return scale * static_cast<float>(stored - zero_point);
}
int64_t Quantize(float real, float scale, int32_t zero_point, DType dtype);

// Element `index` of a spec as a real (per-tensor quant applied), and back.
double LoadReal(const TensorSpec& spec, const void* data, int64_t index);
void StoreReal(const TensorSpec& spec, void* data, int64_t index, double real);

// OK when quant is absent, or fits dtype and shape. Errors: kInvalidArgument naming the rule.
absl::Status ValidateQuant(const TensorSpec& spec);

// u8 or s8 that stand for reals by one scale; f32 without quant.
bool IsQuantized8(const TensorSpec& spec);
bool IsPlainF32(const TensorSpec& spec);

using Index = absl::InlinedVector<int64_t, 12>;

// Calls body(Index) for every multi-index of shape, last dimension fastest.
template <typename Body>
void ForEachIndex(absl::Span<const int64_t> shape, Body&& body) {
  if (NumElements(shape) == 0) return;
  Index index(shape.size(), 0);
  for (;;) {
    body(index);
    size_t d = shape.size();
    while (d > 0 && ++index[d - 1] == shape[d - 1]) index[--d] = 0;
    if (d == 0) return;
  }
}

inline int64_t Offset(absl::Span<const int64_t> strides, absl::Span<const int64_t> index) {
  int64_t offset = 0;
  for (size_t d = 0; d < strides.size(); ++d) offset += strides[d] * index[d];
  return offset;
}

// Loops over a dense destination in its memory order, with the strides of some operands (in
// elements).
struct LoopNest {
  Shape dims;                  // outermost first, at least one
  std::vector<Shape> strides;  // [operand][dim]
};

// Drops dimensions of size 1 and merges neighbours that every operand walks in one step.
LoopNest MergeLoops(absl::Span<const int64_t> dims, absl::Span<const Shape> strides);

// The nest of numpy broadcast of `operands` to dst, in dst's memory order.
LoopNest BroadcastNest(absl::Span<const TensorSpec* const> operands, const TensorSpec& dst);

// Calls body(offsets, count) for the pieces of innermost loops that cover destination elements
// [begin, end): offsets[k] is operand k's first element, its step is nest.strides[k].back().
template <typename Body>
void ForEachRun(const LoopNest& nest, int64_t begin, int64_t end, Body&& body) {
  const size_t rank = nest.dims.size();
  const size_t operands = nest.strides.size();
  Index at(rank, 0);
  Index offsets(operands, 0);
  int64_t rest = begin;
  for (size_t d = rank; d-- > 0;) {
    at[d] = rest % std::max<int64_t>(nest.dims[d], 1);
    rest /= std::max<int64_t>(nest.dims[d], 1);
    for (size_t k = 0; k < operands; ++k) offsets[k] += at[d] * nest.strides[k][d];
  }
  while (begin < end) {
    const int64_t count = std::min(nest.dims[rank - 1] - at[rank - 1], end - begin);
    body(static_cast<const int64_t*>(offsets.data()), count);
    begin += count;
    if (begin == end) return;
    for (size_t k = 0; k < operands; ++k) offsets[k] += count * nest.strides[k][rank - 1];
    at[rank - 1] += count;
    for (size_t d = rank - 1; at[d] == nest.dims[d] && d > 0; --d) {
      at[d] = 0;
      ++at[d - 1];
      for (size_t k = 0; k < operands; ++k) {
        offsets[k] += nest.strides[k][d - 1] - nest.dims[d] * nest.strides[k][d];
      }
    }
  }
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_ELEMENTS_H_
