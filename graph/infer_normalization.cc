// Shape rules of normalizations and softmax: the result has the shape of operand 0.
#include <algorithm>

#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

// Operands first..last are vectors with one element per channel (dimension 1).
absl::Status CheckPerChannel(const RuleArgs& args, size_t first, size_t last) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  if (!args.shape(0).has_value()) return absl::OkStatus();
  OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(0), 2, kMaxRank));
  const int64_t channels = (*args.shape(0))[1];
  for (size_t i = first; i <= last; ++i) {
    if (!args.shape(i).has_value()) continue;
    const Shape& shape = *args.shape(i);
    if (shape.size() != 1 || (Known(shape[0]) && Known(channels) && shape[0] != channels)) {
      return Invalid("operand ", i, " of shape ", Str(shape), ", expected ", Str({channels}),
                     ": one element per channel");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Results> BatchNormalization(const RuleArgs& args) {
  if (args.node.GetInt("training_mode", 0) != 0) {
    return absl::UnimplementedError("training_mode 1 is not supported");
  }
  OCTET_RETURN_IF_ERROR(CheckPerChannel(args, 1, 4));
  return One(args.dtype(0), args.shape(0));
}

absl::StatusOr<Results> InstanceNormalization(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(CheckPerChannel(args, 1, 2));
  if (args.shape(0).has_value()) OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(0), 3, kMaxRank));
  return One(args.dtype(0), args.shape(0));
}

absl::StatusOr<Results> GroupNormalization(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(CheckPerChannel(args, 1, 2));
  const int64_t groups = args.node.GetInt("num_groups", 0);
  if (groups < 1) return Invalid("attribute 'num_groups' is ", groups, ", expected at least 1");
  if (args.shape(0).has_value() && Known((*args.shape(0))[1]) &&
      (*args.shape(0))[1] % groups != 0) {
    return Invalid((*args.shape(0))[1], " channels do not divide into ", groups, " groups");
  }
  return One(args.dtype(0), args.shape(0));
}

// Outputs Y, mean and inverse deviation; the latter two have 1 in the normalized dimensions.
absl::StatusOr<Results> LayerNormalization(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  const DType dtype = args.dtype(0);
  if (!args.shape(0).has_value()) {
    return Results{{dtype, std::nullopt}, {DType::kF32, std::nullopt}, {DType::kF32, std::nullopt}};
  }
  const Shape& x = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const int axis, NormalizeAxis(args.node.GetInt("axis", -1), x.size()));
  for (size_t i : {size_t{1}, size_t{2}}) {
    if (!args.has(i) || !args.shape(i).has_value()) continue;
    OCTET_ASSIGN_OR_RETURN(const Shape both, Broadcast(x, *args.shape(i)));
    if (both.size() != x.size()) {
      return Invalid("operand ", i, " of shape ", Str(*args.shape(i)), " does not broadcast to ",
                     Str(x));
    }
  }
  Shape moments = x;
  std::fill(moments.begin() + axis, moments.end(), 1);
  return Results{{dtype, x}, {DType::kF32, moments}, {DType::kF32, moments}};
}

absl::StatusOr<Results> Lrn(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  const int64_t size = args.node.GetInt("size", 0);
  if (size < 1) return Invalid("attribute 'size' is ", size, ", expected at least 1");
  return One(args.dtype(0), args.shape(0));
}

absl::StatusOr<Results> AlongAxis(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  if (args.shape(0).has_value() && !args.shape(0)->empty()) {
    OCTET_RETURN_IF_ERROR(
        NormalizeAxis(args.node.GetInt("axis", -1), args.shape(0)->size()).status());
  }
  return One(args.dtype(0), args.shape(0));
}

absl::StatusOr<Results> SameFloat(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  return One(args.dtype(0), args.shape(0));
}

constexpr RuleEntry kRules[] = {
    {"BatchNormalization", BatchNormalization, 5, 5},
    {"GroupNormalization", GroupNormalization, 3, 3},
    {"Hardmax", AlongAxis, 1, 1},
    {"InstanceNormalization", InstanceNormalization, 3, 3},
    {"LRN", Lrn, 1, 1},
    {"LayerNormalization", LayerNormalization, 2, 3},
    {"LogSoftmax", AlongAxis, 1, 1},
    {"LpNormalization", AlongAxis, 1, 1},
    {"MeanVarianceNormalization", SameFloat, 1, 1},
    {"Softmax", AlongAxis, 1, 1},
};

}  // namespace

absl::Span<const RuleEntry> NormalizationRules() { return kRules; }

}  // namespace octet::graph
