// Shape rules of operators that make tensors from shapes and ranges.
#include <cmath>

#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

absl::StatusOr<Results> ConstantOfShape(const RuleArgs& args) {
  DType dtype = DType::kF32;
  if (const auto it = args.node.attributes.find("value"); it != args.node.attributes.end()) {
    const Tensor* value = std::get_if<Tensor>(&it->second);
    if (value == nullptr || value->num_elements() != 1) {
      return Invalid("attribute 'value' is not a tensor of one element");
    }
    dtype = value->dtype();
  }
  OCTET_ASSIGN_OR_RETURN(const auto dims, args.Integers(0, "shape"));
  if (!dims.has_value()) return One(dtype, std::nullopt);
  Shape out;
  for (const Element& dim : *dims) {
    out.push_back(dim.dim);
    if (!dim.known) continue;
    OCTET_ASSIGN_OR_RETURN(out.back(), CheckedDim(dim.integer, "shape"));
  }
  return One(dtype, std::move(out));
}

// max(ceil((limit - start) / delta), 0), exactly for integers.
absl::StatusOr<int64_t> RangeLength(const Element& start, const Element& limit,
                                    const Element& delta, bool real) {
  if (!start.known || !limit.known || !delta.known) return kUnknownDim;
  if (real ? delta.real == 0 : delta.integer == 0) return Invalid("delta is 0");
  if (real) {
    const double count = std::ceil((limit.real - start.real) / delta.real);
    if (!(count <= static_cast<double>(kMaxDim))) return Invalid("a range of ", count, " elements");
    return count > 0 ? static_cast<int64_t>(count) : 0;
  }
  const __int128 distance = static_cast<__int128>(limit.integer) - start.integer;
  const __int128 step = delta.integer;
  if (distance == 0 || (distance > 0) != (step > 0)) return 0;
  const __int128 count = (distance + step + (step > 0 ? -1 : 1)) / step;
  if (count > kMaxDim) return Invalid("a range of more than 2^40 elements");
  return static_cast<int64_t>(count);
}

absl::StatusOr<Results> Range(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 1));
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 2));
  Element parts[3];
  for (size_t i = 0; i < 3; ++i) {
    std::optional<PartialElements> partial;
    if (args.in[i].constant != nullptr) {
      partial = PartialOf(*args.in[i].constant);
    } else if (args.in[i].partial != nullptr) {
      partial = *args.in[i].partial;
    }
    if (!partial.has_value()) continue;
    if (partial->elements.size() != 1) return Invalid("operand ", i, " is not a scalar");
    parts[i] = partial->elements[0];
  }
  OCTET_ASSIGN_OR_RETURN(int64_t length,
                         RangeLength(parts[0], parts[1], parts[2], IsFloat(args.dtype(0))));
  const bool counts_a_dimension = parts[0].known && parts[0].integer == 0 && !parts[1].known &&
                                  parts[2].known && parts[2].integer == 1;
  if (counts_a_dimension) length = parts[1].dim;
  return One(args.dtype(0), Shape{length});
}

absl::StatusOr<Results> EyeLike(const RuleArgs& args) {
  DType dtype = args.dtype(0);
  if (args.node.Has("dtype")) dtype = DTypeOfOnnxCode(args.node.GetInt("dtype", 0));
  if (dtype == DType::kInvalid) return Invalid("attribute 'dtype' names an unknown type");
  if (args.shape(0).has_value()) OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(0), 2, 2));
  return One(dtype, args.shape(0));
}

absl::StatusOr<Results> Trilu(const RuleArgs& args) { return One(args.dtype(0), args.shape(0)); }

constexpr RuleEntry kRules[] = {
    {"ConstantOfShape", ConstantOfShape, 1, 1},
    {"EyeLike", EyeLike, 1, 1},
    {"Range", Range, 3, 3},
    {"Trilu", Trilu, 1, 2},
};

}  // namespace

absl::Span<const RuleEntry> GenerationRules() { return kRules; }

}  // namespace octet::graph
