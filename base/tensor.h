// Immutable constant tensors: dtype, shape and shared bytes (a block of their own or a slice of a model file).
#ifndef OCTET_BASE_TENSOR_H_
#define OCTET_BASE_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/buffer.h"
#include "base/dtype.h"
#include "base/shape.h"

namespace octet {

// Dense row-major tensor with shared ownership of its bytes; copying copies a pointer. Data may be unaligned when it
// is a slice of a file: kernels copy or pack it before use, and typed access goes through ToVector or At.
// Thread-safe: immutable.
class Tensor {
 public:
  Tensor() = default;

  // Requires: data has ByteSize(dtype, shape) bytes and lives as long as owner.
  Tensor(DType dtype, Shape shape, const std::byte* data, std::shared_ptr<const void> owner)
      : dtype_(dtype), shape_(std::move(shape)), data_(data), owner_(std::move(owner)) {}

  // Takes over the block. Requires: buffer.size_bytes() >= ByteSize(dtype, shape).
  static Tensor FromBuffer(DType dtype, Shape shape, Buffer buffer);

  // Copies values. Requires: values.size() == NumElements(shape), sizeof(T) == BytesOf(dtype).
  template <typename T>
  static Tensor FromValues(DType dtype, Shape shape, absl::Span<const T> values);
  static Tensor FromF32(Shape shape, absl::Span<const float> values) {
    return FromValues<float>(DType::kF32, std::move(shape), values);
  }
  static Tensor FromS64(Shape shape, absl::Span<const int64_t> values) {
    return FromValues<int64_t>(DType::kS64, std::move(shape), values);
  }

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  const std::byte* data() const { return data_; }
  int64_t num_elements() const { return NumElements(shape_); }
  int64_t size_bytes() const { return ByteSize(dtype_, shape_); }
  bool valid() const { return dtype_ != DType::kInvalid; }

  // Same bytes, other shape. Requires: equal element counts.
  Tensor Reshaped(Shape shape) const { return Tensor(dtype_, std::move(shape), data_, owner_); }

  // Elements copied out without conversion. Requires: sizeof(T) == BytesOf(dtype()).
  template <typename T>
  std::vector<T> ToVector() const;

  // Elements converted to double / int64 / float, types of less than 8 bits unpacked. Exact for what the target can hold.
  std::vector<double> ToF64() const;
  std::vector<int64_t> ToS64() const;
  std::vector<float> ToF32() const;

 private:
  DType dtype_ = DType::kInvalid;
  Shape shape_;
  const std::byte* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

// ---- implementation of the templates
namespace internal {
Tensor CopyToTensor(DType dtype, Shape shape, const void* data);
void CopyFromTensor(const Tensor& tensor, void* dst);
}  // namespace internal

template <typename T>
Tensor Tensor::FromValues(DType dtype, Shape shape, absl::Span<const T> values) {
  return internal::CopyToTensor(dtype, std::move(shape), values.data());
}

template <typename T>
std::vector<T> Tensor::ToVector() const {
  std::vector<T> out(static_cast<size_t>(num_elements()));
  internal::CopyFromTensor(*this, out.data());
  return out;
}

}  // namespace octet

#endif  // OCTET_BASE_TENSOR_H_
