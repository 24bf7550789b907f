// Attributes and operands of host operators into calls of kernels/selection.
#include "engine/host_nodes.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/selection/selection.h"

namespace octet::engine {
namespace {

using graph::Node;

std::optional<int64_t> AxisOf(const Node& node) {
  return node.Has("axis") ? std::make_optional(node.GetInt("axis", 0)) : std::nullopt;
}

absl::StatusOr<std::optional<double>> Scalar(absl::Span<const Tensor> operands, size_t i, absl::string_view what) {
  if (i >= operands.size() || !operands[i].valid()) return std::nullopt;
  if (operands[i].num_elements() == 1) return operands[i].ToF64()[0];
  return absl::InvalidArgumentError(absl::StrCat(what, " has ", operands[i].num_elements(), " elements, expected 1"));
}

absl::StatusOr<Tensor> Suppress(const Node& node, absl::Span<const Tensor> operands) {
  kernels::SuppressionParams params;
  OCTET_ASSIGN_OR_RETURN(const auto most, Scalar(operands, 2, "max_output_boxes_per_class"));
  OCTET_ASSIGN_OR_RETURN(const auto overlap, Scalar(operands, 3, "iou_threshold"));
  OCTET_ASSIGN_OR_RETURN(const auto score, Scalar(operands, 4, "score_threshold"));
  params.max_boxes_per_class = static_cast<int64_t>(most.value_or(0));
  params.iou_threshold = static_cast<float>(overlap.value_or(0));
  if (score.has_value()) params.score_threshold = static_cast<float>(*score);
  params.center_point_box = node.GetInt("center_point_box", 0) != 0;
  return kernels::NonMaxSuppression(operands[0], operands[1], params);
}

}  // namespace

bool IsHostOperator(const Node& node) {
  return node.domain.empty() && (node.op == "NonZero" || node.op == "Compress" || node.op == "Unique" ||
                                 node.op == "NonMaxSuppression");
}

absl::StatusOr<std::vector<Tensor>> RunHostNode(const Node& node, absl::Span<const Tensor> operands) {
  if (node.op == "Unique") {
    OCTET_ASSIGN_OR_RETURN(kernels::Distinct d,
                           kernels::Unique(operands[0], AxisOf(node), node.GetInt("sorted", 1) != 0));
    std::vector<Tensor> all = {d.values, d.first, d.inverse, d.counts};
    all.resize(node.outputs.size());
    return all;
  }
  absl::StatusOr<Tensor> out = absl::InternalError("no host operator");
  if (node.op == "NonZero") out = kernels::NonZero(operands[0]);
  if (node.op == "Compress") out = kernels::Compress(operands[0], operands[1], AxisOf(node));
  if (node.op == "NonMaxSuppression") out = Suppress(node, operands);
  if (!out.ok()) return out.status();
  return std::vector<Tensor>{*std::move(out)};
}

}  // namespace octet::engine
