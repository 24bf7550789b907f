// Stored or random input tensors.
#include "bench/engine/inputs.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/buffer.h"
#include "base/rng.h"
#include "base/status.h"
#include "onnx/onnx_pb.h"
#include "onnx/tensors.h"

namespace octet::bench {
namespace {

std::optional<Tensor> ReadStored(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  ::onnx::TensorProto proto;
  if (!in || !proto.ParseFromIstream(&in)) return std::nullopt;
  const Shape shape(proto.dims().begin(), proto.dims().end());
  const DType dtype = onnx_io::DTypeFromOnnx(proto.data_type());
  if (dtype == DType::kInvalid) return std::nullopt;
  if (static_cast<int64_t>(proto.raw_data().size()) == ByteSize(dtype, shape)) {
    return Tensor::FromValues<char>(dtype, shape, proto.raw_data());
  }
  if (dtype == DType::kF32 && proto.float_data_size() == NumElements(shape)) {
    return Tensor::FromF32(shape, {proto.float_data().data(), static_cast<size_t>(proto.float_data_size())});
  }
  return std::nullopt;
}

// f32: standard normal; integers: small numbers, which are valid as pixels, tokens and lengths.
absl::StatusOr<Tensor> Noise(DType dtype, const Shape& shape, uint64_t stream) {
  const CounterRng rng(2024, stream);
  const auto count = static_cast<size_t>(NumElements(shape));
  if (dtype == DType::kF32) {
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(std::sqrt(-2 * std::log(1 - rng.Uniform(2 * i))) *
                                     std::cos(2 * std::numbers::pi * rng.Uniform(2 * i + 1)));
    }
    return Tensor::FromF32(shape, values);
  }
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(ByteSize(dtype, shape)));
  const auto width = static_cast<size_t>(BytesOf(dtype));
  if (IsFloat(dtype)) return absl::UnimplementedError(absl::StrCat("random inputs of type ", NameOf(dtype)));
  for (size_t i = 0; i < count; ++i) buffer.data()[i * width] = static_cast<std::byte>(rng.Bits(i) % 100);
  return Tensor::FromBuffer(dtype, shape, std::move(buffer));
}

absl::StatusOr<Tensor> Repeated(const Tensor& one, int64_t batch) {
  if (batch == 1 || one.shape().empty()) return one;
  Shape shape = one.shape();
  shape[0] *= batch;
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(ByteSize(one.dtype(), shape)));
  for (int64_t b = 0; b < batch; ++b) {
    std::memcpy(buffer.data() + b * one.size_bytes(), one.data(), static_cast<size_t>(one.size_bytes()));
  }
  return Tensor::FromBuffer(one.dtype(), shape, std::move(buffer));
}

}  // namespace

absl::StatusOr<std::vector<Tensor>> MakeInputs(const std::vector<engine::Signature>& signature,
                                               const std::vector<Shape>& shapes, int64_t batch,
                                               const std::string& folder) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < signature.size(); ++i) {
    Shape shape = i < shapes.size() ? shapes[i] : signature[i].shape;
    if (i >= shapes.size() && !shape.empty() && shape[0] == kUnknownDim) shape[0] = 1;
    std::optional<Tensor> stored;
    if (!folder.empty()) {
      stored = ReadStored(std::filesystem::path(folder) / absl::StrCat("input_", i, ".pb"));
    }
    if (stored.has_value() && stored->dtype() == signature[i].dtype &&
        (stored->shape() == shape || !IsConcrete(shape))) {
      OCTET_ASSIGN_OR_RETURN(Tensor tensor, Repeated(*stored, batch));
      inputs.push_back(std::move(tensor));
      continue;
    }
    if (!IsConcrete(shape)) {
      return absl::InvalidArgumentError(absl::StrCat("input '", signature[i].name, "' has shape ", ShapeString(shape),
                                                     ": the list must give one"));
    }
    if (!shape.empty()) shape[0] *= batch;
    OCTET_ASSIGN_OR_RETURN(Tensor tensor, Noise(signature[i].dtype, shape, i));
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

}  // namespace octet::bench
