// What opsets 1 to 6 said otherwise: attributes that are gone, and what they meant in today's
// words.
#include <algorithm>
#include <optional>
#include <string>
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

// Operand 1 gets dimensions of 1 behind its own, so that they start at dimension `axis` of operand
// 0.
absl::Status AlignSecond(NodeImporter& node, int64_t axis) {
  const std::optional<int64_t> a = node.Rank(node.inputs[0]), b = node.Rank(node.inputs[1]);
  if (!a.has_value() || !b.has_value()) {
    return absl::UnimplementedError(
        absl::StrCat("axis ", axis, " of operands whose rank is not known"));
  }
  if (axis < 0) axis += *a;
  if (axis < 0 || axis + *b > *a) {
    return absl::InvalidArgumentError(absl::StrCat("operand 1 of rank ", *b, " at axis ", axis,
                                                   " does not fit into operand 0 of rank ", *a));
  }
  std::vector<int64_t> axes;
  for (int64_t i = *b; i < *a - axis; ++i) axes.push_back(i);
  if (axes.empty()) return absl::OkStatus();
  const ValueId id = node.AddInts("axes", axes);
  OCTET_ASSIGN_OR_RETURN(node.inputs[1],
                         node.Emit1("Unsqueeze", {node.inputs[1], id}, node.Fresh("aligned")));
  return absl::OkStatus();
}

absl::Status Broadcast(NodeImporter& node) {
  const bool aligns = node.Int("broadcast", 0) != 0 && node.Has("axis");
  const int64_t axis = node.Int("axis", 0);
  node.attributes.erase("broadcast");
  node.attributes.erase("axis");
  return aligns ? AlignSecond(node, axis) : absl::OkStatus();
}

// A slope of one dimension is one number per channel.
absl::Status Slope(NodeImporter& node) {
  const std::optional<Shape>& slope = node.value(node.inputs[1]).shape;
  if (!slope.has_value() || slope->size() != 1 || (*slope)[0] == 1) return absl::OkStatus();
  return AlignSecond(node, 1);
}

absl::Status IsTest(NodeImporter& node) {
  const bool test = node.Int("is_test", 0) != 0;
  node.attributes.erase("is_test");
  if (test || node.op() == "Dropout") return absl::OkStatus();
  return absl::UnimplementedError("is_test = 0 (training) is not supported");
}

absl::Status DropBroadcast(NodeImporter& node) {
  node.attributes.erase("broadcast");
  return absl::OkStatus();
}

absl::Status ConcatAxis(NodeImporter& node) {
  if (node.opset() < 4 && !node.Has("axis")) node.attributes["axis"] = int64_t{1};
  return absl::OkStatus();
}

absl::Status SeluDefaults(NodeImporter& node) {
  if (node.opset() >= 6) return absl::OkStatus();
  if (!node.Has("alpha")) node.attributes["alpha"] = 1.6732f;
  if (!node.Has("gamma")) node.attributes["gamma"] = 1.0507f;
  return absl::OkStatus();
}

struct LegacyRule {
  absl::string_view op;
  absl::string_view attributes;  // that opset 7 no longer has
  absl::Status (*translate)(NodeImporter& node);
};

constexpr LegacyRule kLegacy[] = {
    {"Add", "axis:i broadcast:i", Broadcast},
    {"And", "axis:i broadcast:i", Broadcast},
    {"BatchNormalization", "is_test:i", IsTest},
    {"Concat", "", ConcatAxis},
    {"Div", "axis:i broadcast:i", Broadcast},
    {"Dropout", "is_test:i", IsTest},
    {"Equal", "axis:i broadcast:i", Broadcast},
    {"Gemm", "broadcast:i", DropBroadcast},
    {"Greater", "axis:i broadcast:i", Broadcast},
    {"Less", "axis:i broadcast:i", Broadcast},
    {"Mul", "axis:i broadcast:i", Broadcast},
    {"Or", "axis:i broadcast:i", Broadcast},
    {"PRelu", "", Slope},
    {"Pow", "axis:i broadcast:i", Broadcast},
    {"Selu", "", SeluDefaults},
    {"Sub", "axis:i broadcast:i", Broadcast},
    {"Xor", "axis:i broadcast:i", Broadcast},
};

const LegacyRule* Find(absl::string_view op) {
  const auto* it = std::find_if(std::begin(kLegacy), std::end(kLegacy),
                                [&](const LegacyRule& r) { return r.op == op; });
  return it == std::end(kLegacy) ? nullptr : it;
}

}  // namespace

std::string LegacyAttributes(absl::string_view op, int64_t opset) {
  if (opset >= 7) return "";
  std::string attributes =
      opset < 6 ? " consumed_inputs:I" : "";  // which inputs may be overwritten: of no effect
  if (const LegacyRule* rule = Find(op)) absl::StrAppend(&attributes, " ", rule->attributes);
  return attributes;
}

absl::Status TranslateLegacy(NodeImporter& node) {
  if (node.opset() >= 7) return absl::OkStatus();
  node.attributes.erase("consumed_inputs");
  const LegacyRule* rule = Find(node.op());
  return rule == nullptr ? absl::OkStatus() : rule->translate(node);
}

}  // namespace octet::onnx_io
