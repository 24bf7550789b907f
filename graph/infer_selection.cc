// Shape rules of operators whose result's size depends on content: that dimension is unknown.
#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

absl::StatusOr<Results> NonZero(const RuleArgs& args) {
  int64_t rank = kUnknownDim;
  if (args.shape(0).has_value()) rank = std::max<int64_t>(static_cast<int64_t>(args.shape(0)->size()), 1);
  return One(DType::kS64, Shape{rank, kUnknownDim});
}

// The operand with an unknown length along `axis`, or [unknown] without one.
absl::StatusOr<std::optional<Shape>> Selected(const RuleArgs& args) {
  if (!args.node.Has("axis")) return Shape{kUnknownDim};
  if (!args.shape(0).has_value()) return std::nullopt;
  Shape out = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const int axis, NormalizeAxis(args.node.GetInt("axis", 0), out.size()));
  out[static_cast<size_t>(axis)] = kUnknownDim;
  return out;
}

absl::StatusOr<Results> Compress(const RuleArgs& args) {
  if (args.dtype(1) != DType::kInvalid && args.dtype(1) != DType::kBool) {
    return Invalid("the condition is ", NameOf(args.dtype(1)), ", expected bool");
  }
  if (args.shape(1).has_value()) OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(1), 1, 1));
  OCTET_ASSIGN_OR_RETURN(std::optional<Shape> out, Selected(args));
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> Unique(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(std::optional<Shape> out, Selected(args));
  Results results = One(args.dtype(0), std::move(out));
  const Shape indices = {kUnknownDim};
  for (int i = 0; i < 3; ++i) results.push_back({DType::kS64, indices});
  return results;
}

absl::StatusOr<Results> NonMaxSuppression(const RuleArgs& args) {
  for (size_t i : {0, 1}) {
    if (args.shape(i).has_value()) OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(i), 3, 3));
  }
  return One(DType::kS64, Shape{kUnknownDim, 3});
}

constexpr RuleEntry kRules[] = {
    {"Compress", Compress, 2, 2},
    {"NonMaxSuppression", NonMaxSuppression, 2, 5},
    {"NonZero", NonZero, 1, 1},
    {"Unique", Unique, 1, 1},
};

}  // namespace

absl::Span<const RuleEntry> SelectionRules() { return kRules; }

}  // namespace octet::graph
