// Helpers of the shape rules.
#include "graph/infer_rules.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_join.h"

namespace octet::graph {

std::optional<PartialElements> PartialOf(const Tensor& tensor) {
  if (tensor.num_elements() > PartialElements::kMaxElements) return std::nullopt;
  PartialElements out{tensor.dtype(), tensor.shape(), {}};
  if (IsFloat(tensor.dtype())) {
    for (double real : tensor.ToF64()) {
      Element element{true, 0, real, 0};
      if (std::abs(real) < 0x1.0p62) element.integer = static_cast<int64_t>(real);
      out.elements.push_back(element);
    }
  } else {
    for (int64_t integer : tensor.ToS64()) out.elements.push_back(Element::Integer(integer));
  }
  return out;
}

const std::optional<Shape>& RuleArgs::shape(size_t i) const {
  static const std::optional<Shape> kNone;
  return has(i) ? in[i].shape : kNone;
}

absl::StatusOr<std::optional<std::vector<Element>>> RuleArgs::Integers(
    size_t i, absl::string_view what) const {
  if (!has(i)) return std::optional<std::vector<Element>>();
  const OperandInfo& operand = in[i];
  if (operand.dtype != DType::kInvalid && !IsInteger(operand.dtype)) {
    return Invalid(what, " of type ", NameOf(operand.dtype), ", expected s64");
  }
  if (operand.shape.has_value() && operand.shape->size() > 1) {
    return Invalid(what, " of shape ", Str(*operand.shape), ", expected a vector");
  }
  if (operand.constant != nullptr) {
    std::vector<Element> out;
    for (int64_t value : operand.constant->ToS64()) out.push_back(Element::Integer(value));
    return std::optional<std::vector<Element>>(std::move(out));
  }
  if (operand.partial != nullptr) {
    std::vector<Element> out = operand.partial->elements;
    for (Element& element : out) {
      if (element.dim == Element::kIndependent) element.dim = kUnknownDim;
    }
    return std::optional<std::vector<Element>>(std::move(out));
  }
  if (!operand.shape.has_value()) return std::optional<std::vector<Element>>();
  const int64_t count = operand.shape->empty() ? 1 : (*operand.shape)[0];
  if (!Known(count) || count > PartialElements::kMaxElements) {
    return std::optional<std::vector<Element>>();
  }
  return std::optional<std::vector<Element>>(std::vector<Element>(static_cast<size_t>(count)));
}

absl::StatusOr<std::optional<std::vector<int64_t>>> RuleArgs::KnownIntegers(
    size_t i, absl::string_view what) const {
  OCTET_ASSIGN_OR_RETURN(auto elements, Integers(i, what));
  if (!elements.has_value()) return std::optional<std::vector<int64_t>>();
  std::vector<int64_t> out;
  for (const Element& element : *elements) {
    if (!element.known) return std::optional<std::vector<int64_t>>();
    out.push_back(element.integer);
  }
  return std::optional<std::vector<int64_t>>(std::move(out));
}

std::string Str(absl::Span<const int64_t> shape) {
  Shape plain(shape.begin(), shape.end());
  for (int64_t& dim : plain) dim = std::max(dim, kUnknownDim);
  return ShapeString(plain);
}

Results One(DType dtype, std::optional<Shape> shape) {
  return Results{ResultInfo{dtype, std::move(shape)}};
}

Shape AllUnknown(size_t rank) { return Shape(rank, kUnknownDim); }

absl::StatusOr<int> NormalizeAxis(int64_t axis, size_t rank) {
  const int64_t signed_rank = static_cast<int64_t>(rank);
  if (axis < -signed_rank || axis >= signed_rank) {
    return Invalid("axis ", axis, " of a tensor of rank ", rank, ", expected an axis in [",
                   -signed_rank, ", ", signed_rank - 1, "]");
  }
  return static_cast<int>(axis < 0 ? axis + signed_rank : axis);
}

absl::StatusOr<std::vector<int>> NormalizeAxes(absl::Span<const int64_t> axes, size_t rank) {
  if (axes.size() > rank) {
    return Invalid(axes.size(), " axes of a tensor of rank ", rank);
  }
  std::vector<int> out;
  for (int64_t axis : axes) {
    OCTET_ASSIGN_OR_RETURN(const int normalized, NormalizeAxis(axis, rank));
    if (std::find(out.begin(), out.end(), normalized) != out.end()) {
      return Invalid("axis ", axis, " is named twice");
    }
    out.push_back(normalized);
  }
  return out;
}

absl::StatusOr<int64_t> MergeDims(int64_t a, int64_t b, absl::string_view what) {
  if (a == b) return a;
  if (Known(a) && Known(b)) return Invalid(what, ": found ", b, ", expected ", a);
  if (Known(a) || Known(b)) return std::max(a, b);
  if (a == kUnknownDim || b == kUnknownDim) return std::min(a, b);  // the one with a symbol
  return std::max(a, b);                                            // the older symbol
}

absl::StatusOr<Shape> Broadcast(absl::Span<const int64_t> a, absl::Span<const int64_t> b) {
  Shape out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t db = i < b.size() ? b[b.size() - 1 - i] : 1;
    int64_t& d = out[out.size() - 1 - i];
    if (da == db || db == 1) {
      d = da;
    } else if (da == 1) {
      d = db;
    } else if (Known(da) && Known(db)) {
      return Invalid("shapes ", Str(a), " and ", Str(b), " do not broadcast");
    } else if (Known(da) || Known(db)) {
      d = std::max(da, db);  // the known one: it is not 1, so the other is it or 1
    } else {
      d = kUnknownDim;
    }
  }
  return out;
}

absl::StatusOr<int64_t> CheckedMul(int64_t a, int64_t b, absl::string_view what) {
  if (b != 0 && a > kMaxDim / b) {
    return Invalid(what, ": ", a, " x ", b, " is above the limit of 2^40");
  }
  return a * b;
}

absl::StatusOr<int64_t> CheckedDim(int64_t value, absl::string_view what) {
  if (value < 0 || value > kMaxDim) {
    return Invalid(what, ": found ", value, ", expected a size in [0, 2^40]");
  }
  return value;
}

absl::Status SameType(const RuleArgs& args, size_t i, size_t j) {
  const DType a = args.dtype(i);
  const DType b = args.dtype(j);
  if (a == b || a == DType::kInvalid || b == DType::kInvalid) return absl::OkStatus();
  return Invalid("operand ", j, " has type ", NameOf(b), ", expected ", NameOf(a), " as operand ",
                 i);
}

absl::Status RequireFloat(const RuleArgs& args, size_t i) {
  const DType dtype = args.dtype(i);
  if (dtype == DType::kInvalid || IsFloat(dtype)) return absl::OkStatus();
  return Invalid("operand ", i, " has type ", NameOf(dtype), ", expected a float type");
}

absl::Status RequireRank(const Shape& shape, size_t min_rank, size_t max_rank) {
  if (shape.size() >= min_rank && shape.size() <= max_rank) return absl::OkStatus();
  return Invalid("operand of shape ", Str(shape), ", expected rank ", min_rank,
                 max_rank == min_rank ? std::string() : absl::StrCat(" to ", max_rank));
}

}  // namespace octet::graph
