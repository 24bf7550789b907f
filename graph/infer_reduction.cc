// Shape rules of reductions along axes.
#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

// `axes` of a tensor reduced; kept as 1 or dropped.
Shape Reduced(const Shape& x, absl::Span<const int> axes, bool keep) {
  std::vector<bool> reduced(x.size());
  for (int axis : axes) reduced[static_cast<size_t>(axis)] = true;
  Shape out;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!reduced[i]) {
      out.push_back(x[i]);
    } else if (keep) {
      out.push_back(1);
    }
  }
  return out;
}

absl::StatusOr<Results> Reduce(const RuleArgs& args) {
  const bool picks = args.node.op == "ReduceMax" || args.node.op == "ReduceMin";
  if (args.dtype(0) == DType::kBool && !picks) return Invalid("operand 0 has type bool, expected a number");
  OCTET_ASSIGN_OR_RETURN(const auto given, args.KnownIntegers(1, "axes"));
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  const Shape& x = *args.shape(0);
  const bool keep = args.node.GetInt("keepdims", 1) != 0;
  if (args.has(1) && !given.has_value()) {
    return One(args.dtype(0), keep ? std::optional(AllUnknown(x.size())) : std::nullopt);
  }
  std::vector<int> axes;
  if (given.has_value() && !given->empty()) {
    OCTET_ASSIGN_OR_RETURN(axes, NormalizeAxes(*given, x.size()));
  } else if (args.node.GetInt("noop_with_empty_axes", 0) == 0) {
    for (size_t i = 0; i < x.size(); ++i) axes.push_back(static_cast<int>(i));
  }
  return One(args.dtype(0), Reduced(x, axes, keep));
}

absl::StatusOr<Results> Arg(const RuleArgs& args) {
  if (!args.shape(0).has_value()) return One(DType::kS64, std::nullopt);
  const Shape& x = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const int axis, NormalizeAxis(args.node.GetInt("axis", 0), x.size()));
  if (x[axis] == 0) return Invalid("axis ", axis, " of shape ", Str(x), " is empty");
  return One(DType::kS64, Reduced(x, {axis}, args.node.GetInt("keepdims", 1) != 0));
}

absl::StatusOr<Results> CumSum(const RuleArgs& args) { return One(args.dtype(0), args.shape(0)); }

absl::StatusOr<Results> Det(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  const Shape& x = *args.shape(0);
  OCTET_RETURN_IF_ERROR(RequireRank(x, 2, kMaxRank));
  const int64_t rows = x[x.size() - 2], columns = x[x.size() - 1];
  if (Known(rows) && Known(columns) && rows != columns) return Invalid("matrices of ", rows, " x ", columns);
  return One(args.dtype(0), Shape(x.begin(), x.end() - 2));
}

constexpr RuleEntry kRules[] = {
    {"ArgMax", Arg, 1, 1},
    {"ArgMin", Arg, 1, 1},
    {"CumSum", CumSum, 2, 2},
    {"Det", Det, 1, 1},
    {"ReduceL1", Reduce, 1, 2},
    {"ReduceL2", Reduce, 1, 2},
    {"ReduceLogSum", Reduce, 1, 2},
    {"ReduceLogSumExp", Reduce, 1, 2},
    {"ReduceMax", Reduce, 1, 2},
    {"ReduceMean", Reduce, 1, 2},
    {"ReduceMin", Reduce, 1, 2},
    {"ReduceProd", Reduce, 1, 2},
    {"ReduceSum", Reduce, 1, 2},
    {"ReduceSumSquare", Reduce, 1, 2},
};

}  // namespace

absl::Span<const RuleEntry> ReductionRules() { return kRules; }

}  // namespace octet::graph
