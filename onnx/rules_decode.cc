// DecodeWeights of domain ai.octet: the node becomes a constant with levels (docs/format.md). Whatever the compressor
// would not have written is refused.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "graph/weight_levels.h"
#include "onnx/decode_weights.h"
#include "onnx/quant_operands.h"
#include "onnx/rules.h"

namespace octet::onnx_io {
namespace {

using graph::ValueId;

std::string List(absl::Span<const int64_t> values) { return absl::StrCat("[", absl::StrJoin(values, ", "), "]"); }

absl::StatusOr<const Tensor*> ConstantOf(const NodeImporter& node, size_t i, absl::string_view what) {
  const Tensor* t = node.ConstantInput(i);
  if (t != nullptr) return t;
  return absl::UnimplementedError(absl::StrCat("input ", i, " (", what, ") is computed, expected a constant"));
}

absl::Status Expect(absl::string_view what, absl::Span<const int64_t> found, absl::Span<const int64_t> expected) {
  if (found == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, ": expected ", List(expected), ", found ", List(found)));
}

absl::Status ExpectType(absl::string_view what, const Tensor& t, DType expected) {
  if (t.dtype() == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": expected ", NameOf(expected), ", found ", NameOf(t.dtype())));
}

absl::StatusOr<Shape> ReadShape(const NodeImporter& node) {
  const std::vector<int64_t>* dims = node.Ints("shape");
  if (dims == nullptr || dims->empty() || dims->size() > kMaxRank) {
    return absl::InvalidArgumentError(absl::StrCat("shape: expected 1 to ", kMaxRank, " dimensions"));
  }
  const Shape shape(dims->begin(), dims->end());
  if (std::any_of(shape.begin(), shape.end(), [](int64_t d) { return d < 1; })) {
    return absl::InvalidArgumentError(absl::StrCat("shape: expected positive dimensions, found ", List(*dims)));
  }
  OCTET_RETURN_IF_ERROR(CheckedByteSize(DType::kF32, shape).status());
  return shape;
}

// What later copies of these tensors may cost.
absl::Status Charge(NodeImporter& node, const Tensor& codes, int64_t numbers) {
  node.state().folded_bytes_left -= codes.size_bytes();
  node.state().scales_left -= numbers;
  if (node.state().folded_bytes_left < 0 || node.state().scales_left < 0) {
    return absl::ResourceExhaustedError("the file's nodes decode more codes, levels or scales than it has bytes");
  }
  return absl::OkStatus();
}

absl::Status ReadScales(NodeImporter& node, size_t rank, QuantParams* quant) {
  quant->axis = static_cast<int>(std::clamp<int64_t>(node.Int("axis", -1), -2, kMaxRank));
  quant->block = node.Int("block", 0);
  if (quant->axis < -1 || quant->axis >= static_cast<int>(rank)) {
    return absl::InvalidArgumentError(
        absl::StrCat("axis: expected -1 to ", rank - 1, ", found ", node.Int("axis", -1)));
  }
  if (quant->block < 0 || (quant->axis < 0 && quant->block != 0)) {
    return absl::InvalidArgumentError(absl::StrCat("block ", quant->block, " along axis ", quant->axis));
  }
  OCTET_ASSIGN_OR_RETURN(const Tensor* scales, ConstantOf(node, 2, "scales"));
  if (scales->dtype() != DType::kF32 && scales->dtype() != DType::kF16) {
    return absl::InvalidArgumentError(absl::StrCat("scales: expected f16 or f32, found ", NameOf(scales->dtype())));
  }
  quant->scale = scales->ToF32();
  return absl::OkStatus();
}

absl::Status ReadLevels(const Tensor& levels, int64_t bits, QuantParams* quant) {
  OCTET_RETURN_IF_ERROR(ExpectType("levels", levels, DType::kS8));
  const Shape& shape = levels.shape();
  const bool vectors = bits == 8;
  if (shape.size() != 2 || shape[0] < 1 || shape[1] != (vectors ? 4 : 1)) {
    return absl::InvalidArgumentError(absl::StrCat("levels: expected shape [entries, ", vectors ? 4 : 1,
                                                   "] for codes of ", bits, " bits, found ", ShapeString(shape)));
  }
  quant->levels = levels.ToVector<int8_t>();
  quant->vector = vectors ? 4 : 1;
  return absl::OkStatus();
}

absl::StatusOr<DType> TypeOfCodes(int64_t bits) {
  switch (bits) {
    case 1:
      return DType::kU1;
    case 2:
    case 8:  // a byte for four weights
      return DType::kU2;
    case 4:
      return DType::kU4;
    default:
      return absl::InvalidArgumentError(absl::StrCat("bits: expected 1, 2, 4 or 8, found ", bits));
  }
}

// The codes under a type and shape of their own; shares the bytes.
Tensor Retyped(const Tensor& codes, DType dtype, const Shape& shape) {
  auto owner = std::make_shared<const Tensor>(codes);
  return Tensor(dtype, shape, owner->data(), owner);
}

// The constant of these codes: the file's initializer itself where nothing else reads it.
ValueId Place(NodeImporter& node, Tensor codes, QuantParams quant) {
  const ValueId id = node.inputs[0];
  const Readers& readers = node.state().value_readers[id];
  if (readers.total != 1 || readers.is_output || node.value(id).quant.has_value()) {
    const ValueId copy = node.AddConstant("weights", std::move(codes));
    node.SetQuant(copy, node.value(copy).dtype, std::move(quant));
    return copy;
  }
  graph::Value& value = node.state().graph.value(id);
  value.dtype = codes.dtype();
  value.shape = codes.shape();
  value.quant = std::move(quant);
  value.data = std::move(codes);
  return id;
}

}  // namespace

absl::Status TranslateDecodeWeights(NodeImporter& node) {
  for (const char* key : {"axis", "bits", "block", "perm", "shape", "stored"}) {
    if (!node.Has(key)) return absl::InvalidArgumentError(absl::StrCat("attribute '", key, "' is missing"));
  }
  OCTET_ASSIGN_OR_RETURN(const Tensor* codes, ConstantOf(node, 0, "codes"));
  OCTET_ASSIGN_OR_RETURN(const Tensor* levels, ConstantOf(node, 1, "levels"));
  OCTET_ASSIGN_OR_RETURN(const Tensor* scales, ConstantOf(node, 2, "scales"));
  OCTET_RETURN_IF_ERROR(Charge(node, *codes, levels->num_elements() + scales->num_elements()));
  OCTET_ASSIGN_OR_RETURN(const Shape shape, ReadShape(node));
  const int64_t bits = node.Int("bits", 0);
  OCTET_ASSIGN_OR_RETURN(const DType dtype, TypeOfCodes(bits));
  QuantParams quant;
  OCTET_RETURN_IF_ERROR(ReadLevels(*levels, bits, &quant));
  OCTET_RETURN_IF_ERROR(ReadScales(node, shape.size(), &quant));
  OCTET_RETURN_IF_ERROR(graph::CheckLevels(dtype, shape, quant));
  const DecodeAttributes expected = DecodeAttributesOf(dtype, shape, quant);
  OCTET_RETURN_IF_ERROR(Expect("stored", *node.Ints("stored"), expected.stored));
  OCTET_RETURN_IF_ERROR(Expect("perm", *node.Ints("perm"), expected.perm));
  OCTET_RETURN_IF_ERROR(Expect("shape of scales", scales->shape(), expected.scales));
  OCTET_RETURN_IF_ERROR(ExpectType("codes", *codes, DType::kU8));
  OCTET_RETURN_IF_ERROR(Expect("shape of codes", codes->shape(), {ByteSize(dtype, shape)}));
  Tensor retyped = Retyped(*codes, dtype, shape);
  OCTET_RETURN_IF_ERROR(Annotate(graph::CheckCodes(retyped, quant), "codes"));
  const ValueId weights = Place(node, std::move(retyped), std::move(quant));
  return node.Emit1("Dequantize", {weights}, node.Output(0)).status();
}

}  // namespace octet::onnx_io
