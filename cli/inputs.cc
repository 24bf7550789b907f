// Shapes and contents of inputs.
#include "cli/inputs.h"

#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/float16.h"
#include "base/rng.h"
#include "base/status.h"
#include "client/datatype.h"
#include "compress/observe.h"

namespace octet::cli {
namespace {

absl::StatusOr<Tensor> RandomTensor(const engine::Signature& input, const Shape& shape, const CounterRng& rng) {
  const int64_t n = NumElements(shape);
  std::vector<float> reals(static_cast<size_t>(n));
  for (size_t k = 0; k < reals.size(); ++k) reals[k] = static_cast<float>(rng.Uniform(k));
  if (input.dtype == DType::kF32) return Tensor::FromF32(shape, reals);
  if (input.dtype == DType::kF64) {
    return Tensor::FromValues<double>(input.dtype, shape, std::vector<double>(reals.begin(), reals.end()));
  }
  if (input.dtype == DType::kF16 || input.dtype == DType::kBF16) {
    std::vector<uint16_t> halves(reals.size());
    for (size_t k = 0; k < reals.size(); ++k) {
      halves[k] = input.dtype == DType::kF16 ? F16FromF32(reals[k]) : BF16FromF32(reals[k]);
    }
    return Tensor::FromValues<uint16_t>(input.dtype, shape, halves);
  }
  if (!IsInteger(input.dtype) && input.dtype != DType::kBool) {
    return absl::InvalidArgumentError(
        absl::StrCat("input '", input.name, "' has a type without random contents: give --data"));
  }
  // Little-endian: the low byte is the value, the others are zero.
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(ByteSize(input.dtype, shape)));
  const int64_t width = BytesOf(input.dtype);
  for (int64_t k = 0; k < n; ++k)
    buffer.data()[k * width] = std::byte{static_cast<uint8_t>(rng.Bits(static_cast<uint64_t>(k)) & 1)};
  return Tensor::FromBuffer(input.dtype, shape, std::move(buffer));
}

}  // namespace

std::vector<engine::Signature> SignaturesOf(const std::vector<client::TensorSpec>& specs) {
  std::vector<engine::Signature> out;
  for (const client::TensorSpec& s : specs) out.push_back({s.name, client::DTypeOf(s.datatype), s.shape});
  return out;
}

absl::StatusOr<std::vector<Shape>> ParseShapes(const std::string& text) {
  std::vector<Shape> shapes;
  for (absl::string_view one : absl::StrSplit(text, ';', absl::SkipEmpty())) {
    Shape shape;
    for (absl::string_view dim : absl::StrSplit(one, 'x', absl::SkipEmpty())) {
      int64_t d = 0;
      if (!absl::SimpleAtoi(dim, &d) || d < 0) return absl::InvalidArgumentError(absl::StrCat("--shape ", text));
      shape.push_back(d);
    }
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

absl::StatusOr<std::vector<Tensor>> FitSample(absl::Span<const engine::Signature> inputs,
                                              const std::vector<Tensor>& sample) {
  if (sample.size() != inputs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a sample has ", sample.size(), " tensors, the model has ", inputs.size(), " inputs"));
  }
  std::vector<Tensor> fitted;
  for (size_t i = 0; i < inputs.size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(Tensor one, compress::FitInput(inputs[i], sample[i]));
    fitted.push_back(std::move(one));
  }
  return fitted;
}

absl::StatusOr<Tensor> JoinRows(const std::vector<Tensor>& rows) {
  Shape shape = rows[0].shape();
  if (shape.empty()) return absl::InvalidArgumentError("scalars cannot be batched");
  int64_t count = 0, bytes = 0;
  for (const Tensor& row : rows) {
    Shape same = row.shape();
    if (same.size() == shape.size()) same[0] = shape[0];
    if (same != shape || row.dtype() != rows[0].dtype()) {
      return absl::InvalidArgumentError(absl::StrCat("samples of shapes ", ShapeString(shape), " and ",
                                                     ShapeString(row.shape()), " cannot share a batch"));
    }
    count += row.shape()[0];
    bytes += row.size_bytes();
  }
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(bytes));
  std::byte* to = buffer.data();
  for (const Tensor& row : rows) {
    std::memcpy(to, row.data(), static_cast<size_t>(row.size_bytes()));
    to += row.size_bytes();
  }
  shape[0] = count;
  return Tensor::FromBuffer(rows[0].dtype(), std::move(shape), std::move(buffer));
}

absl::StatusOr<std::vector<Tensor>> BatchOf(absl::Span<const engine::Signature> inputs,
                                            const std::vector<std::vector<Tensor>>& samples, int64_t first,
                                            int64_t batch) {
  std::vector<std::vector<Tensor>> rows(inputs.size());
  for (int64_t i = 0; i < batch; ++i) {
    OCTET_ASSIGN_OR_RETURN(const std::vector<Tensor> fitted,
                           FitSample(inputs, samples[static_cast<size_t>(first + i) % samples.size()]));
    for (size_t k = 0; k < fitted.size(); ++k) rows[k].push_back(fitted[k]);
  }
  std::vector<Tensor> joined;
  for (const std::vector<Tensor>& one : rows) {
    if (one.size() == 1) {
      joined.push_back(one[0]);
      continue;
    }
    OCTET_ASSIGN_OR_RETURN(Tensor tensor, JoinRows(one));
    joined.push_back(std::move(tensor));
  }
  return joined;
}

absl::StatusOr<std::vector<Shape>> ShapesFor(absl::Span<const engine::Signature> inputs, int64_t batch,
                                             const std::vector<Shape>& given) {
  if (!given.empty() && given.size() != inputs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--shape has ", given.size(), " shapes, the model ", inputs.size(), " inputs"));
  }
  if (!given.empty()) return given;
  std::vector<Shape> shapes;
  for (const engine::Signature& input : inputs) {
    Shape shape = input.shape;
    if (!shape.empty() && shape[0] == kUnknownDim) shape[0] = batch;
    if (!IsConcrete(shape)) {
      return absl::InvalidArgumentError(
          absl::StrCat("input '", input.name, "' has shape ", ShapeString(input.shape), ": give --shape"));
    }
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

absl::StatusOr<std::vector<Tensor>> RandomInputs(absl::Span<const engine::Signature> inputs,
                                                 absl::Span<const Shape> shapes, uint64_t seed, uint64_t stream) {
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < inputs.size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(Tensor one, RandomTensor(inputs[i], shapes[i], CounterRng(seed + i, stream)));
    tensors.push_back(std::move(one));
  }
  return tensors;
}

}  // namespace octet::cli
