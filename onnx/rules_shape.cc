// Rules for operators whose attributes became inputs, and for resampling.
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "onnx/node_importer.h"
#include "onnx/rules.h"

namespace octet::onnx_io {
namespace {

using graph::kNoValue;
using graph::ValueId;

// Moves list attribute `key` to input `position` when the file has it as an attribute.
absl::Status AttributeToInput(NodeImporter& node, absl::string_view key, size_t position) {
  const std::vector<int64_t>* list = node.Ints(key);
  if (list == nullptr) return absl::OkStatus();
  if (node.has_input(position)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", key, "' is given both as attribute and as input ", position));
  }
  const std::vector<int64_t> values = *list;
  node.attributes.erase(key);
  if (node.inputs.size() <= position) node.inputs.resize(position + 1, kNoValue);
  node.inputs[position] = node.AddInts(key, values);
  return absl::OkStatus();
}

// A scalar constant of the data input's type, for bounds and fill values that were float
// attributes.
absl::StatusOr<ValueId> ScalarLike(NodeImporter& node, absl::string_view stem, float v) {
  const DType dtype = node.value(node.inputs[0]).dtype;
  const ValueId id = node.AddConstant(stem, Tensor::FromF32({}, {v}));
  if (dtype == DType::kF32 || dtype == DType::kInvalid) return id;
  AttributeMap to;
  to["to"] = int64_t{DTypeToOnnx(dtype)};
  return node.Emit1("Cast", {id}, node.Fresh(absl::StrCat(stem, "_cast")), std::move(to));
}

AttributeMap LegacyResize(absl::string_view mode) {
  AttributeMap attrs;
  attrs["mode"] = std::string(mode);
  attrs["coordinate_transformation_mode"] = std::string("asymmetric");
  attrs["nearest_mode"] = std::string("floor");
  return attrs;
}

// Upsample and Resize-10: asymmetric coordinates, floor for nearest. Source: their text in ONNX
// Operators.md, and the version converter from opset 9 and 10.
absl::Status EmitLegacyResize(NodeImporter& node, ValueId scales) {
  std::string mode = node.String("mode", "nearest");
  if (mode == "bilinear") mode = "linear";
  if (mode != "nearest" && mode != "linear") {
    return absl::InvalidArgumentError(
        absl::StrCat("mode: expected 'nearest' or 'linear', found ", Quoted(mode)));
  }
  return node
      .Emit1("Resize", {node.inputs[0], kNoValue, scales}, node.Output(0), LegacyResize(mode))
      .status();
}

bool IsEmptyConstant(const NodeImporter& node, size_t i) {
  const Tensor* tensor = node.ConstantInput(i);
  return tensor != nullptr && tensor->num_elements() == 0;
}

}  // namespace

absl::Status TranslateAxes(NodeImporter& node) {
  OCTET_RETURN_IF_ERROR(AttributeToInput(node, "axes", 1));
  if (node.op() == "Unsqueeze" && !node.has_input(1)) {
    return absl::InvalidArgumentError("expected axes, found none");
  }
  return node.EmitSelf();
}

absl::Status TranslateReduce(NodeImporter& node) {
  OCTET_RETURN_IF_ERROR(AttributeToInput(node, "axes", 1));
  return node.EmitSelf();
}

absl::Status TranslateSplit(NodeImporter& node) {
  OCTET_RETURN_IF_ERROR(AttributeToInput(node, "split", 1));
  if (!node.has_input(1)) {
    const int64_t outputs = static_cast<int64_t>(node.num_outputs());
    if (node.Int("num_outputs", outputs) != outputs) {
      return absl::InvalidArgumentError(absl::StrCat("num_outputs is ", node.Int("num_outputs", 0),
                                                     ", found ", outputs, " outputs"));
    }
    node.attributes["num_outputs"] = outputs;
  } else if (node.Has("num_outputs")) {
    return absl::InvalidArgumentError("both split and num_outputs are given");
  }
  return node.EmitSelf();
}

absl::Status TranslateSlice(NodeImporter& node) {
  OCTET_RETURN_IF_ERROR(AttributeToInput(node, "starts", 1));
  OCTET_RETURN_IF_ERROR(AttributeToInput(node, "ends", 2));
  OCTET_RETURN_IF_ERROR(AttributeToInput(node, "axes", 3));
  if (!node.has_input(1) || !node.has_input(2)) {
    return absl::InvalidArgumentError("expected starts and ends, found none");
  }
  return node.EmitSelf();
}

absl::Status TranslateClip(NodeImporter& node) {
  const char* const keys[] = {"min", "max"};
  for (size_t i = 0; i < 2; ++i) {
    if (!node.Has(keys[i])) continue;
    if (node.has_input(i + 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", keys[i], "' is given both as attribute and as input ", i + 1));
    }
    const float bound = node.Float(keys[i], 0);
    node.attributes.erase(keys[i]);
    // The largest float means "none" in files of opset 6 to 10.
    if (std::abs(bound) == std::numeric_limits<float>::max()) continue;
    if (node.inputs.size() <= i + 1) node.inputs.resize(i + 2, kNoValue);
    OCTET_ASSIGN_OR_RETURN(node.inputs[i + 1], ScalarLike(node, keys[i], bound));
  }
  return node.EmitSelf();
}

absl::Status TranslatePad(NodeImporter& node) {
  const bool legacy = node.Has("pads");
  OCTET_RETURN_IF_ERROR(AttributeToInput(node, "pads", 1));
  const float fill = node.Float("value", 0);
  node.attributes.erase("value");
  if (!node.has_input(1)) return absl::InvalidArgumentError("expected pads, found none");
  if (legacy && fill != 0 && !node.has_input(2)) {
    node.inputs.resize(3, kNoValue);
    OCTET_ASSIGN_OR_RETURN(node.inputs[2], ScalarLike(node, "value", fill));
  }
  return node.EmitSelf();
}

absl::Status TranslateResize(NodeImporter& node) {
  if (node.opset() < 11) {
    if (!node.has_input(1) || node.inputs.size() > 2) {
      return absl::InvalidArgumentError(absl::StrCat("expected 2 inputs in opset ", node.opset(),
                                                     ", found ", node.inputs.size()));
    }
    return EmitLegacyResize(node, node.inputs[1]);
  }
  if (node.Int("antialias", 0) == 0) node.attributes.erase("antialias");
  node.inputs.resize(4, kNoValue);
  const bool crops =
      node.String("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize";
  if (!crops) node.inputs[1] = kNoValue;  // the region of interest has no effect
  // Files of opset 11 and 12 say "no scales" with an empty tensor.
  if (node.has_input(2) && IsEmptyConstant(node, 2)) node.inputs[2] = kNoValue;
  if (node.has_input(3) && IsEmptyConstant(node, 3)) node.inputs[3] = kNoValue;
  if (node.has_input(2) == node.has_input(3)) {
    return absl::InvalidArgumentError("expected either scales or sizes, found both or none");
  }
  return node.EmitSelf();
}

absl::Status TranslateUpsample(NodeImporter& node) {
  if (node.has_input(1)) return EmitLegacyResize(node, node.inputs[1]);
  const std::vector<float>* scales = node.Floats("scales");
  if (scales == nullptr) return absl::InvalidArgumentError("expected scales, found none");
  const ValueId id =
      node.AddConstant("scales", Tensor::FromF32({static_cast<int64_t>(scales->size())}, *scales));
  return EmitLegacyResize(node, id);
}

absl::Status TranslateTopK(NodeImporter& node) {
  if (node.Has("k")) {
    if (node.has_input(1)) {
      return absl::InvalidArgumentError("k is given both as attribute and as input 1");
    }
    const int64_t k = node.Int("k", 0);
    node.attributes.erase("k");
    node.inputs.resize(2, kNoValue);
    node.inputs[1] = node.AddInts("k", {k});
  }
  if (!node.has_input(1)) return absl::InvalidArgumentError("expected k, found none");
  return node.EmitSelf();
}

absl::Status TranslateScatter(NodeImporter& node) {
  return node.Emit1("ScatterElements", node.inputs, node.Output(0), node.attributes).status();
}

absl::Status TranslateReshape(NodeImporter& node) {
  if (node.Int("allowzero", 0) == 0) node.attributes.erase("allowzero");
  return node.EmitSelf();
}

}  // namespace octet::onnx_io
