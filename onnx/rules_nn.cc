// Rules for layers, constants and what inference leaves out.
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

using graph::ValueId;

AttributeMap Axis(int64_t axis) {
  AttributeMap attrs;
  attrs["axis"] = axis;
  return attrs;
}

// Softmax over all dimensions from `axis` on, taken together: what opsets below 13 mean.
absl::Status FlattenedSoftmax(NodeImporter& node, int64_t axis) {
  const ValueId x = node.inputs[0];
  const std::optional<Shape>& shape = node.value(x).shape;
  std::vector<int64_t> target;
  if (shape.has_value() && axis == 1) {
    // Dimension 0 is copied, so that rows stay provably apart.
    target.push_back(0);
    for (size_t i = 1; i < shape->size(); ++i) target.push_back((*shape)[i]);
    for (size_t i = 1; i < target.size(); ++i) {
      if (target[i] <= 0) target.clear();
    }
  }
  ValueId shape_id;
  if (!target.empty()) {
    shape_id = node.AddInts("shape", target);
  } else {
    OCTET_ASSIGN_OR_RETURN(shape_id, node.Emit1("Shape", {x}, node.Fresh("shape")));
  }
  OCTET_ASSIGN_OR_RETURN(const ValueId flat,
                         node.Emit1("Flatten", {x}, node.Fresh("flat"), Axis(axis)));
  OCTET_ASSIGN_OR_RETURN(const ValueId soft,
                         node.Emit1(node.op(), {flat}, node.Fresh("soft"), Axis(-1)));
  return node.Emit1("Reshape", {soft, shape_id}, node.Output(0)).status();
}

}  // namespace

absl::Status TranslateSoftmax(NodeImporter& node) {
  if (node.opset() >= 13) {
    node.attributes["axis"] = node.Int("axis", -1);
    return node.EmitSelf();
  }
  int64_t axis = node.Int("axis", 1);
  const std::optional<Shape>& shape = node.value(node.inputs[0]).shape;
  if (!shape.has_value()) {
    if (axis != -1) return FlattenedSoftmax(node, axis);
  } else {
    const int64_t rank = static_cast<int64_t>(shape->size());
    if (axis < 0) axis += rank;
    if (axis < 0 || axis > rank) {
      return absl::InvalidArgumentError(
          absl::StrCat("axis ", node.Int("axis", 1), " of an input of rank ", rank));
    }
    for (int64_t i = axis + 1; i < rank; ++i) {
      if ((*shape)[static_cast<size_t>(i)] != 1) return FlattenedSoftmax(node, axis);
    }
    if (axis == rank) return FlattenedSoftmax(node, axis);
  }
  return node.Emit1(node.op(), {node.inputs[0]}, node.Output(0), Axis(axis)).status();
}

absl::Status TranslateBatchNormalization(NodeImporter& node) {
  if (node.Int("spatial", 1) != 1) {
    return absl::UnimplementedError("spatial = 0 (statistics per activation) is not supported");
  }
  if (node.Int("training_mode", 0) != 0) {
    return absl::UnimplementedError("training_mode = 1 is not supported");
  }
  for (size_t i = 1; i < node.num_outputs(); ++i) {
    if (node.OutputIsRead(i)) {
      return absl::UnimplementedError(absl::StrCat("output ", Quoted(node.Output(i)),
                                                   " (statistics of training) is not supported"));
    }
  }
  AttributeMap attrs;
  attrs["epsilon"] = node.Float("epsilon", 1e-5f);
  return node.Emit1("BatchNormalization", node.inputs, node.Output(0), std::move(attrs)).status();
}

// Opset 18 has one scale and bias per group; later ones, and the graph, one per channel.
absl::Status TranslateGroupNormalization(NodeImporter& node) {
  if (node.opset() >= 21) return node.EmitSelf();
  const int64_t groups = node.Int("num_groups", 0);
  const std::optional<Shape>& x = node.value(node.inputs[0]).shape;
  if (!x.has_value() || x->size() < 2 || (*x)[1] < 0 || groups < 1 || (*x)[1] % groups != 0) {
    return absl::UnimplementedError(absl::StrCat("scales per group (opset 18) of an input of shape ",
                                                 x.has_value() ? ShapeString(*x) : "unknown", " in ", groups,
                                                 " groups are not supported"));
  }
  const int64_t within = (*x)[1] / groups;
  for (size_t i : {size_t{1}, size_t{2}}) {
    const ValueId column_shape = node.AddInts("column", {groups, 1});
    OCTET_ASSIGN_OR_RETURN(const ValueId column,
                           node.Emit1("Reshape", {node.inputs[i], column_shape}, node.Fresh("column")));
    OCTET_ASSIGN_OR_RETURN(const ValueId full, node.Emit1("Expand", {column, node.AddInts("full", {groups, within})},
                                                          node.Fresh("full")));
    OCTET_ASSIGN_OR_RETURN(node.inputs[i],
                           node.Emit1("Reshape", {full, node.AddInts("flat", {groups * within})}, node.Fresh("flat")));
  }
  return node.EmitSelf();
}

// The graph names a recurrent layer by its first output, so that one is never omitted.
absl::Status TranslateRecurrent(NodeImporter& node) {
  std::vector<std::string> outputs;
  for (size_t i = 0; i < node.num_outputs(); ++i) outputs.push_back(node.Output(i));
  if (outputs.empty() || outputs[0].empty()) {
    outputs.resize(std::max<size_t>(outputs.size(), 1));
    outputs[0] = node.Fresh("y");
  }
  return node.Emit(node.op(), node.inputs, std::move(outputs), node.attributes).status();
}

absl::Status TranslateDropout(NodeImporter& node) {
  if (node.has_input(2)) {
    const Tensor* training = node.ConstantInput(2);
    if (training == nullptr || training->num_elements() != 1 || training->ToS64()[0] != 0) {
      return absl::UnimplementedError("training_mode: expected the constant false");
    }
  }
  if (node.OutputIsRead(1)) {  // the mask: everything is kept
    AttributeMap fill;
    fill["value"] = Tensor::FromValues<uint8_t>(DType::kBool, {1}, {uint8_t{1}});
    OCTET_ASSIGN_OR_RETURN(const ValueId shape, node.Emit1("Shape", {node.inputs[0]}, node.Fresh("shape")));
    OCTET_RETURN_IF_ERROR(node.Emit1("ConstantOfShape", {shape}, node.Output(1), std::move(fill)).status());
  }
  return node.Alias(0, node.inputs[0]);
}

absl::Status TranslateIdentity(NodeImporter& node) { return node.Alias(0, node.inputs[0]); }

absl::Status TranslateCast(NodeImporter& node) {
  if (!node.Has("to")) return absl::InvalidArgumentError("expected attribute 'to', found none");
  const int64_t to = node.Int("to", 0);
  const DType dtype = DTypeFromOnnx(to);
  if (dtype == DType::kInvalid) {
    return absl::UnimplementedError(absl::StrCat("to ", OnnxTypeName(to), " is not supported"));
  }
  if (node.value(node.inputs[0]).dtype == dtype) return node.Alias(0, node.inputs[0]);
  node.attributes.erase("saturate");
  return node.EmitSelf();
}

absl::Status TranslateCastLike(NodeImporter& node) {
  const DType dtype = node.value(node.inputs[1]).dtype;
  if (dtype == DType::kInvalid || node.value(node.inputs[1]).quant.has_value()) {
    return absl::UnimplementedError(absl::StrCat("the type of ", Quoted(node.value(node.inputs[1]).name), " is not known"));
  }
  if (node.value(node.inputs[0]).dtype == dtype) return node.Alias(0, node.inputs[0]);
  AttributeMap to;
  to["to"] = int64_t{DTypeToOnnx(dtype)};
  return node.Emit1("Cast", {node.inputs[0]}, node.Output(0), std::move(to)).status();
}

absl::Status TranslateSum(NodeImporter& node) {
  if (node.inputs.size() == 1) return node.Alias(0, node.inputs[0]);
  const bool mean = node.op() == "Mean";
  ValueId sum = node.inputs[0];
  for (size_t i = 1; i < node.inputs.size(); ++i) {
    if (!node.has_input(i)) return absl::InvalidArgumentError(absl::StrCat("input ", i, " is empty"));
    const bool last = i + 1 == node.inputs.size() && !mean;
    OCTET_ASSIGN_OR_RETURN(sum, node.Emit1("Add", {sum, node.inputs[i]}, last ? node.Output(0) : node.Fresh("sum")));
  }
  if (!mean) return absl::OkStatus();
  ValueId count = node.AddConstant("count", Tensor::FromF32({}, {static_cast<float>(node.inputs.size())}));
  const DType dtype = node.value(node.inputs[0]).dtype;
  if (dtype != DType::kF32 && dtype != DType::kInvalid) {
    AttributeMap to;
    to["to"] = int64_t{DTypeToOnnx(dtype)};
    OCTET_ASSIGN_OR_RETURN(count, node.Emit1("Cast", {count}, node.Fresh("count_cast"), std::move(to)));
  }
  return node.Emit1("Div", {sum, count}, node.Output(0)).status();
}

absl::Status TranslateConstant(NodeImporter& node) {
  if (node.attributes.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected one attribute, found ", node.attributes.size()));
  }
  const graph::Attribute& value = node.attributes.begin()->second;
  Tensor tensor;
  if (const auto* t = std::get_if<Tensor>(&value)) tensor = *t;
  if (const auto* f = std::get_if<float>(&value)) tensor = Tensor::FromF32({}, {*f});
  if (const auto* i = std::get_if<int64_t>(&value)) tensor = Tensor::FromS64({}, {*i});
  if (const auto* f = std::get_if<std::vector<float>>(&value)) {
    tensor = Tensor::FromF32({static_cast<int64_t>(f->size())}, *f);
  }
  if (const auto* i = std::get_if<std::vector<int64_t>>(&value)) {
    tensor = Tensor::FromS64({static_cast<int64_t>(i->size())}, *i);
  }
  node.SetConstant(0, std::move(tensor));
  return absl::OkStatus();
}

absl::Status TranslateMaxPool(NodeImporter& node) {
  if (node.OutputIsRead(1)) return node.EmitSelf();
  node.attributes.erase("storage_order");  // it only orders the indices
  return node.Emit1("MaxPool", node.inputs, node.Output(0), node.attributes).status();
}

}  // namespace octet::onnx_io
