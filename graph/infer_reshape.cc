// Shape rules of operators that keep the elements in order, and of those that ask for shapes.
#include <algorithm>

#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

// A product of dimensions: its known factor and the unknown ones.
struct Product {
  int64_t known = 1;
  std::vector<int64_t> unknown;
  bool empty = false;  // a dimension is 0

  absl::Status Multiply(int64_t dim) {
    if (!Known(dim)) {
      unknown.push_back(dim);
      return absl::OkStatus();
    }
    if (dim == 0) {
      empty = true;
      return absl::OkStatus();
    }
    if (known > (int64_t{1} << 62) / dim) return Invalid("more than 2^62 elements");
    known *= dim;
    return absl::OkStatus();
  }
};

// Removes pairs of equal symbols.
void Cancel(Product* a, Product* b) {
  std::erase_if(a->unknown, [&](int64_t dim) {
    if (dim == kUnknownDim) return false;
    const auto it = std::find(b->unknown.begin(), b->unknown.end(), dim);
    if (it == b->unknown.end()) return false;
    b->unknown.erase(it);
    return true;
  });
}

// Decides the one dimension of `out` that is open (`open`: -1 of the target, or unknown) so that
// counts agree. `implied`: the target says -1, so that a contradiction is an error of the file.
absl::Status DecideOpen(const Shape& in, bool implied, size_t open, Shape* out) {
  Product from, to;
  for (int64_t dim : in) OCTET_RETURN_IF_ERROR(from.Multiply(dim));
  for (size_t i = 0; i < out->size(); ++i) {
    if (i != open) OCTET_RETURN_IF_ERROR(to.Multiply((*out)[i]));
  }
  Cancel(&from, &to);
  if (!to.unknown.empty()) return absl::OkStatus();
  if (from.unknown.size() == 1 && !from.empty && !to.empty && from.known == to.known) {
    (*out)[open] = from.unknown[0];
  }
  if (!from.unknown.empty()) return absl::OkStatus();
  if (to.empty) {
    return implied ? Invalid("-1 beside a dimension of 0 in the target ", Str(*out))
                   : absl::OkStatus();
  }
  if (from.empty) {
    (*out)[open] = 0;
    return absl::OkStatus();
  }
  if (from.known % to.known != 0) {
    return Invalid("shape ", Str(in), " cannot become ", Str(*out), ": ", from.known,
                   " elements do not divide by ", to.known);
  }
  OCTET_ASSIGN_OR_RETURN((*out)[open], CheckedDim(from.known / to.known, "implied dimension"));
  return absl::OkStatus();
}

absl::Status CheckCounts(const Shape& in, const Shape& out) {
  if (!IsConcrete(in) || !IsConcrete(out)) return absl::OkStatus();
  OCTET_ASSIGN_OR_RETURN(const int64_t from, CheckedNumElements(in));
  OCTET_ASSIGN_OR_RETURN(const int64_t to, CheckedNumElements(out));
  if (from == to) return absl::OkStatus();
  return Invalid("shape ", Str(in), " has ", from, " elements, the target ", Str(out), " has ", to);
}

absl::StatusOr<Results> Reshape(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(const auto target, args.Integers(1, "target shape"));
  if (!target.has_value()) return One(args.dtype(0), std::nullopt);
  const bool allow_zero = args.node.GetInt("allowzero", 0) != 0;
  Shape out;
  std::optional<size_t> implied, unknown;
  size_t unknown_count = 0;
  for (size_t i = 0; i < target->size(); ++i) {
    const Element& element = (*target)[i];
    if (!element.known) {
      out.push_back(element.dim);
      if (element.dim == kUnknownDim) {
        unknown = i;
        ++unknown_count;
      }
    } else if (element.integer == -1) {
      if (implied.has_value()) return Invalid("the target shape has two dimensions of -1");
      implied = i;
      out.push_back(kUnknownDim);
    } else if (element.integer == 0 && !allow_zero) {
      if (args.shape(0).has_value() && i >= args.shape(0)->size()) {
        return Invalid("target dimension ", i, " is 0 (copy), the operand has shape ",
                       Str(*args.shape(0)));
      }
      out.push_back(args.shape(0).has_value() ? (*args.shape(0))[i] : kUnknownDim);
    } else {
      OCTET_ASSIGN_OR_RETURN(const int64_t dim, CheckedDim(element.integer, "target shape"));
      out.push_back(dim);
    }
  }
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::move(out));
  const Shape& in = *args.shape(0);
  if (implied.has_value() && unknown_count == 0) {
    OCTET_RETURN_IF_ERROR(DecideOpen(in, true, *implied, &out));
  } else if (!implied.has_value() && unknown_count == 1) {
    OCTET_RETURN_IF_ERROR(DecideOpen(in, false, *unknown, &out));
  }
  OCTET_RETURN_IF_ERROR(CheckCounts(in, out));
  return One(args.dtype(0), std::move(out));
}

// Product of dimensions: known, or the one symbol that is left beside ones, or unknown.
absl::StatusOr<int64_t> MergedDim(absl::Span<const int64_t> dims) {
  Product product;
  for (int64_t dim : dims) OCTET_RETURN_IF_ERROR(product.Multiply(dim));
  if (product.empty) return 0;
  if (product.unknown.empty()) return CheckedDim(product.known, "flattened dimension");
  return product.unknown.size() == 1 && product.known == 1 ? product.unknown[0] : kUnknownDim;
}

absl::StatusOr<Results> Flatten(const RuleArgs& args) {
  if (!args.shape(0).has_value()) return One(args.dtype(0), AllUnknown(2));
  const Shape& x = *args.shape(0);
  const int64_t rank = static_cast<int64_t>(x.size());
  int64_t axis = args.node.GetInt("axis", 1);
  if (axis < -rank || axis > rank) {
    return Invalid("attribute 'axis' is ", axis, " for an operand of shape ", Str(x));
  }
  if (axis < 0) axis += rank;
  const auto dims = absl::MakeConstSpan(x);
  OCTET_ASSIGN_OR_RETURN(const int64_t rows, MergedDim(dims.first(static_cast<size_t>(axis))));
  OCTET_ASSIGN_OR_RETURN(const int64_t columns, MergedDim(dims.subspan(static_cast<size_t>(axis))));
  return One(args.dtype(0), Shape{rows, columns});
}

absl::StatusOr<Results> Squeeze(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(const auto axes, args.KnownIntegers(1, "axes"));
  if (!args.shape(0).has_value() || (args.has(1) && !axes.has_value())) {
    return One(args.dtype(0), std::nullopt);
  }
  const Shape& x = *args.shape(0);
  std::vector<bool> drop(x.size());
  if (axes.has_value()) {
    OCTET_ASSIGN_OR_RETURN(const std::vector<int> along, NormalizeAxes(*axes, x.size()));
    for (int axis : along) {
      if (Known(x[axis]) && x[axis] != 1) {
        return Invalid("axis ", axis, " of shape ", Str(x), " has size ", x[axis], ", expected 1");
      }
      drop[static_cast<size_t>(axis)] = true;
    }
  } else {
    for (size_t i = 0; i < x.size(); ++i) {
      if (!Known(x[i])) return One(args.dtype(0), std::nullopt);
      drop[i] = x[i] == 1;
    }
  }
  Shape out;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!drop[i]) out.push_back(x[i]);
  }
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> Unsqueeze(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(const auto axes, args.KnownIntegers(1, "axes"));
  if (!args.shape(0).has_value() || !axes.has_value()) return One(args.dtype(0), std::nullopt);
  const Shape& x = *args.shape(0);
  if (axes->size() > kMaxRank) return Invalid(axes->size(), " axes");
  const size_t rank = x.size() + axes->size();
  OCTET_ASSIGN_OR_RETURN(std::vector<int> along, NormalizeAxes(*axes, rank));
  Shape out;
  auto next = x.begin();
  for (int i = 0; i < static_cast<int>(rank); ++i) {
    const bool added = std::find(along.begin(), along.end(), i) != along.end();
    out.push_back(added ? 1 : *next++);
  }
  return One(args.dtype(0), std::move(out));
}

// [start, end) of the operand's dimensions, clamped.
absl::StatusOr<Results> ShapeOf(const RuleArgs& args) {
  if (!args.shape(0).has_value()) return One(DType::kS64, Shape{kUnknownDim});
  const int64_t rank = static_cast<int64_t>(args.shape(0)->size());
  const auto clamp = [&](int64_t axis) {
    return std::clamp<int64_t>(axis < 0 ? axis + rank : axis, 0, rank);
  };
  const int64_t start = clamp(args.node.GetInt("start", 0));
  const int64_t end = clamp(args.node.GetInt("end", rank));
  return One(DType::kS64, Shape{std::max<int64_t>(end - start, 0)});
}

absl::StatusOr<Results> Size(const RuleArgs&) { return One(DType::kS64, Shape{}); }

constexpr RuleEntry kRules[] = {
    {"Flatten", Flatten, 1, 1}, {"Reshape", Reshape, 2, 2}, {"Shape", ShapeOf, 1, 1},
    {"Size", Size, 1, 1},       {"Squeeze", Squeeze, 1, 2}, {"Unsqueeze", Unsqueeze, 2, 2},
};

}  // namespace

absl::Span<const RuleEntry> ReshapeRules() { return kRules; }

}  // namespace octet::graph
