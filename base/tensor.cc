// Constant tensors and their conversions.
#include "base/tensor.h"

#include <cstring>

#include "base/float16.h"

namespace octet {
namespace internal {

Tensor CopyToTensor(DType dtype, Shape shape, const void* data) {
  const int64_t bytes = ByteSize(dtype, shape);
  // shared_ptr<byte[]> rather than Buffer: small constants outnumber large ones and cannot fail usefully here.
  auto owner = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(bytes));
  if (bytes > 0) std::memcpy(owner->data(), data, static_cast<size_t>(bytes));
  const std::byte* begin = owner->data();
  return Tensor(dtype, std::move(shape), begin, std::move(owner));
}

void CopyFromTensor(const Tensor& tensor, void* dst) {
  const int64_t bytes = tensor.size_bytes();
  if (bytes > 0) std::memcpy(dst, tensor.data(), static_cast<size_t>(bytes));
}

}  // namespace internal

namespace {

template <typename S, typename D>
void ConvertRun(const std::byte* src, int64_t n, D* dst) {
  for (int64_t i = 0; i < n; ++i) {
    S value;
    std::memcpy(&value, src + i * static_cast<int64_t>(sizeof(S)), sizeof(S));
    dst[i] = static_cast<D>(value);
  }
}

// Elements of 1, 2 or 4 bits, low bits first.
template <typename D>
void ConvertPacked(const std::byte* src, int64_t n, int bits, bool is_signed, D* dst) {
  const int per_byte = 8 / bits, mask = (1 << bits) - 1;
  for (int64_t i = 0; i < n; ++i) {
    int code = std::to_integer<int>(src[i / per_byte]) >> (i % per_byte * bits) & mask;
    if (is_signed && code >= 1 << (bits - 1)) code -= 1 << bits;
    dst[i] = static_cast<D>(code);
  }
}

template <typename D>
void ConvertHalf(const std::byte* src, int64_t n, bool bf16, D* dst) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits;
    std::memcpy(&bits, src + i * 2, 2);
    dst[i] = static_cast<D>(bf16 ? F32FromBF16(bits) : F32FromF16(bits));
  }
}

template <typename D>
std::vector<D> Convert(const Tensor& t) {
  const int64_t n = t.num_elements();
  std::vector<D> out(static_cast<size_t>(n));
  const std::byte* p = t.data();
  switch (t.dtype()) {
    case DType::kInvalid:
      break;
    case DType::kF32:
      ConvertRun<float>(p, n, out.data());
      break;
    case DType::kF64:
      ConvertRun<double>(p, n, out.data());
      break;
    case DType::kF16:
      ConvertHalf(p, n, false, out.data());
      break;
    case DType::kBF16:
      ConvertHalf(p, n, true, out.data());
      break;
    case DType::kS8:
      ConvertRun<int8_t>(p, n, out.data());
      break;
    case DType::kU8:
    case DType::kBool:
      ConvertRun<uint8_t>(p, n, out.data());
      break;
    case DType::kS16:
      ConvertRun<int16_t>(p, n, out.data());
      break;
    case DType::kU16:
      ConvertRun<uint16_t>(p, n, out.data());
      break;
    case DType::kS32:
      ConvertRun<int32_t>(p, n, out.data());
      break;
    case DType::kU32:
      ConvertRun<uint32_t>(p, n, out.data());
      break;
    case DType::kS64:
      ConvertRun<int64_t>(p, n, out.data());
      break;
    case DType::kU64:
      ConvertRun<uint64_t>(p, n, out.data());
      break;
    case DType::kS4:
      ConvertPacked(p, n, 4, true, out.data());
      break;
    case DType::kU4:
    case DType::kU2:
    case DType::kU1:
      ConvertPacked(p, n, BitsOf(t.dtype()), false, out.data());
      break;
  }
  return out;
}

}  // namespace

Tensor Tensor::FromBuffer(DType dtype, Shape shape, Buffer buffer) {
  auto owner = std::make_shared<Buffer>(std::move(buffer));
  const std::byte* begin = owner->data();
  return Tensor(dtype, std::move(shape), begin, std::move(owner));
}

std::vector<double> Tensor::ToF64() const { return Convert<double>(*this); }
std::vector<int64_t> Tensor::ToS64() const { return Convert<int64_t>(*this); }
std::vector<float> Tensor::ToF32() const { return Convert<float>(*this); }

}  // namespace octet
