// Rules for sampling and signal operators whose attributes changed their place or meaning between
// opsets.
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "onnx/node_importer.h"
#include "onnx/rules.h"

namespace octet::onnx_io {

using graph::kNoValue;

// Opset 17 had the axis as an attribute, counted from 1; opset 20 as input 2 with default -2.
absl::Status TranslateDft(NodeImporter& node) {
  if (node.opset() < 20) {
    if (node.has_input(2))
      return absl::InvalidArgumentError("3 inputs, expected at most 2 before opset 20");
    node.inputs.resize(3, kNoValue);
    node.inputs[2] = node.AddConstant("axis", Tensor::FromS64({}, {node.Int("axis", 1)}));
    node.attributes.erase("axis");
  } else if (node.Has("axis")) {
    return absl::InvalidArgumentError("attribute 'axis' is an input since opset 20");
  }
  return node.EmitSelf();
}

// Opset 16 said bilinear and bicubic of what works in any dimension.
absl::Status TranslateGridSample(NodeImporter& node) {
  const std::string mode = node.String("mode", "linear");
  if (mode == "bilinear") node.attributes["mode"] = std::string("linear");
  if (mode == "bicubic") node.attributes["mode"] = std::string("cubic");
  return node.EmitSelf();
}

// Before opset 16 coordinates had no half-pixel shift, and no attribute to say so.
absl::Status TranslateRoiAlign(NodeImporter& node) {
  if (!node.Has("coordinate_transformation_mode")) {
    node.attributes["coordinate_transformation_mode"] =
        std::string(node.opset() < 16 ? "output_half_pixel" : "half_pixel");
  }
  return node.EmitSelf();
}

absl::Status TranslateTfIdf(NodeImporter& node) {
  if (node.Has("pool_strings") && !node.Has("pool_int64s")) {
    return absl::UnimplementedError(
        "TfIdfVectorizer over STRING n-grams (pool_strings) is not supported");
  }
  node.attributes.erase("pool_strings");
  return node.EmitSelf();
}

}  // namespace octet::onnx_io
