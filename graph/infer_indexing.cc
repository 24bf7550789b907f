// Shape rules of operators whose operands are indices.
#include <algorithm>

#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

absl::Status RequireIndices(const RuleArgs& args, size_t i) {
  const DType dtype = args.dtype(i);
  if (dtype == DType::kInvalid || dtype == DType::kS64 || dtype == DType::kS32) {
    return absl::OkStatus();
  }
  return Invalid("indices of type ", NameOf(dtype), ", expected s32 or s64");
}

absl::StatusOr<Results> Gather(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireIndices(args, 1));
  if (!args.shape(0).has_value() || !args.shape(1).has_value()) {
    return One(args.dtype(0), std::nullopt);
  }
  const Shape& data = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const int axis, NormalizeAxis(args.node.GetInt("axis", 0), data.size()));
  Shape out(data.begin(), data.begin() + axis);
  out.insert(out.end(), args.shape(1)->begin(), args.shape(1)->end());
  out.insert(out.end(), data.begin() + axis + 1, data.end());
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> GatherElements(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireIndices(args, 1));
  if (args.shape(0).has_value() && args.shape(1).has_value()) {
    const Shape& data = *args.shape(0);
    if (data.size() != args.shape(1)->size()) {
      return Invalid("indices of shape ", Str(*args.shape(1)), ", expected rank ", data.size());
    }
    OCTET_RETURN_IF_ERROR(NormalizeAxis(args.node.GetInt("axis", 0), data.size()).status());
  }
  return One(args.dtype(0), args.shape(1));
}

absl::StatusOr<Results> GatherNd(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireIndices(args, 1));
  if (!args.shape(0).has_value() || !args.shape(1).has_value()) {
    return One(args.dtype(0), std::nullopt);
  }
  const Shape& data = *args.shape(0);
  const Shape& indices = *args.shape(1);
  const int64_t batch = args.node.GetInt("batch_dims", 0);
  if (indices.empty() || batch < 0 || batch >= static_cast<int64_t>(indices.size())) {
    return Invalid("attribute 'batch_dims' is ", batch, " for indices of shape ", Str(indices));
  }
  if (!Known(indices.back())) return One(args.dtype(0), std::nullopt);
  if (indices.back() < 1 || indices.back() > static_cast<int64_t>(data.size()) - batch) {
    return Invalid("index tuples of ", indices.back(), " for an operand of shape ", Str(data),
                   " with batch_dims ", batch);
  }
  Shape out(indices.begin(), indices.end() - 1);
  out.insert(out.end(), data.begin() + batch + indices.back(), data.end());
  return One(args.dtype(0), std::move(out));
}

absl::Status CheckReduction(const Node& node) {
  const std::string reduction = node.GetString("reduction", "none");
  for (const char* known : {"none", "add", "mul", "max", "min"}) {
    if (reduction == known) return absl::OkStatus();
  }
  return Invalid("attribute 'reduction' is '", reduction, "', expected none, add, mul, max or min");
}

absl::StatusOr<Results> ScatterElements(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireIndices(args, 1));
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 2));
  OCTET_RETURN_IF_ERROR(CheckReduction(args.node));
  if (args.shape(0).has_value()) {
    OCTET_RETURN_IF_ERROR(
        NormalizeAxis(args.node.GetInt("axis", 0), args.shape(0)->size()).status());
  }
  return One(args.dtype(0), args.shape(0));
}

absl::StatusOr<Results> ScatterNd(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireIndices(args, 1));
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 2));
  OCTET_RETURN_IF_ERROR(CheckReduction(args.node));
  return One(args.dtype(0), args.shape(0));
}

absl::StatusOr<Results> TopK(const RuleArgs& args) {
  Results none = {{args.dtype(0), std::nullopt}, {DType::kS64, std::nullopt}};
  OCTET_ASSIGN_OR_RETURN(const auto k, args.KnownIntegers(1, "K"));
  if (!args.shape(0).has_value()) return none;
  Shape out = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const int axis, NormalizeAxis(args.node.GetInt("axis", -1), out.size()));
  if (!k.has_value()) {
    out[axis] = kUnknownDim;
  } else {
    if (k->size() != 1 || (*k)[0] < 0 || (Known(out[axis]) && (*k)[0] > out[axis])) {
      return Invalid("K is ", k->empty() ? 0 : (*k)[0], ", axis ", axis, " has ", out[axis]);
    }
    OCTET_ASSIGN_OR_RETURN(out[axis], CheckedDim((*k)[0], "K"));
  }
  return Results{{args.dtype(0), out}, {DType::kS64, out}};
}

absl::StatusOr<Results> OneHot(const RuleArgs& args) {
  int64_t depth = kUnknownDim;
  if (args.in[1].constant != nullptr) {
    if (args.in[1].constant->num_elements() != 1) return Invalid("depth is not one number");
    OCTET_ASSIGN_OR_RETURN(depth, CheckedDim(args.in[1].constant->ToS64()[0], "depth"));
  }
  if (!args.shape(0).has_value()) return One(args.dtype(2), std::nullopt);
  Shape out = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const int axis,
                         NormalizeAxis(args.node.GetInt("axis", -1), out.size() + 1));
  out.insert(out.begin() + axis, depth);
  return One(args.dtype(2), std::move(out));
}

absl::StatusOr<Results> ReverseSequence(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireIndices(args, 1));
  const int64_t batch = args.node.GetInt("batch_axis", 1), time = args.node.GetInt("time_axis", 0);
  if (batch < 0 || batch > 1 || time != 1 - batch) {
    return Invalid("batch_axis ", batch, " and time_axis ", time, ", expected 0 and 1 or 1 and 0");
  }
  if (args.shape(0).has_value() && args.shape(0)->size() < 2) {
    return Invalid("operand of shape ", Str(*args.shape(0)), ", expected at least rank 2");
  }
  return One(args.dtype(0), args.shape(0));
}

constexpr RuleEntry kRules[] = {
    {"Gather", Gather, 2, 2},
    {"GatherElements", GatherElements, 2, 2},
    {"GatherND", GatherNd, 2, 2},
    {"OneHot", OneHot, 3, 3},
    {"ReverseSequence", ReverseSequence, 2, 2},
    {"ScatterElements", ScatterElements, 3, 3},
    {"ScatterND", ScatterNd, 3, 3},
    {"TopK", TopK, 2, 2},
};

}  // namespace

absl::Span<const RuleEntry> IndexingRules() { return kRules; }

}  // namespace octet::graph
