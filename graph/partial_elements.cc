// Follows small tensors of shape arithmetic element by element, each known, a dimension's symbol,
// or unknown.
#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/container/flat_hash_map.h"
#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

using Operands = std::vector<std::optional<PartialElements>>;

struct FollowArgs {
  const Node& node;
  absl::Span<const OperandInfo> info;
  const Operands& in;
  DType dtype;  // of the result
  Shape shape;  // of the result; concrete and small

  bool all(size_t count) const {
    for (size_t i = 0; i < count; ++i) {
      if (i >= in.size() || !in[i].has_value()) return false;
    }
    return true;
  }
};

using Follow = std::optional<std::vector<Element>> (*)(const FollowArgs& args);

bool Fits(int64_t value, DType dtype) {
  if (dtype == DType::kS64 || dtype == DType::kU64 || IsFloat(dtype)) return true;
  if (dtype == DType::kBool) return value == 0 || value == 1;
  const int bits = BitsOf(dtype);
  const bool is_signed =
      dtype == DType::kS32 || dtype == DType::kS16 || dtype == DType::kS8 || dtype == DType::kS4;
  const int64_t span = int64_t{1} << (is_signed ? bits - 1 : bits);
  return value < span && value >= (is_signed ? -span : 0);
}

Element IntegerOf(int64_t value, DType dtype) {
  return Fits(value, dtype) ? Element::Integer(value) : Element();
}

Element RealOf(double value, DType dtype) {
  if (dtype != DType::kF64) value = static_cast<double>(static_cast<float>(value));
  Element out{true, 0, value, 0};
  if (std::abs(value) < 0x1.0p62) out.integer = static_cast<int64_t>(value);
  return out;
}

// For each element of `out`, the offset of the element of `in` that broadcasts to it.
std::vector<size_t> BroadcastOffsets(const Shape& in, const Shape& out) {
  const Shape strides = StridesOf(in);
  std::vector<size_t> offsets(static_cast<size_t>(NumElements(out)));
  for (size_t i = 0; i < offsets.size(); ++i) {
    int64_t rest = static_cast<int64_t>(i), offset = 0;
    for (size_t d = 0; d < out.size(); ++d) {  // innermost first
      const int64_t size = out[out.size() - 1 - d];
      const int64_t index = rest % size;
      rest /= size;
      if (d >= in.size()) continue;
      const size_t axis = in.size() - 1 - d;
      if (in[axis] != 1) offset += index * strides[axis];
    }
    offsets[i] = static_cast<size_t>(offset);
  }
  return offsets;
}

std::optional<std::vector<Element>> FollowShape(const FollowArgs& args) {
  if (!args.info[0].shape.has_value()) return std::nullopt;
  const Shape& x = *args.info[0].shape;
  const int64_t rank = static_cast<int64_t>(x.size());
  int64_t start = args.node.GetInt("start", 0);
  start = std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
  std::vector<Element> out;
  for (int64_t i = 0; i < args.shape[0]; ++i) {
    out.push_back(Element::OfDim(x[static_cast<size_t>(start + i)]));
  }
  return out;
}

std::optional<std::vector<Element>> FollowSize(const FollowArgs& args) {
  if (!args.info[0].shape.has_value()) return std::nullopt;
  int64_t product = 1, symbol = 0;
  for (int64_t dim : *args.info[0].shape) {
    if (!Known(dim)) {
      symbol = symbol == 0 ? dim : kUnknownDim;
    } else if (__builtin_mul_overflow(product, dim, &product)) {
      return std::nullopt;
    }
  }
  if (symbol == 0) return std::vector<Element>{Element::Integer(product)};
  return std::vector<Element>{Element::OfDim(product == 1 ? symbol : kUnknownDim)};
}

std::optional<std::vector<Element>> FollowSame(const FollowArgs& args) {
  if (!args.all(1)) return std::nullopt;
  return args.in[0]->elements;
}

std::optional<std::vector<Element>> FollowCast(const FollowArgs& args) {
  if (!args.all(1)) return std::nullopt;
  std::vector<Element> out = args.in[0]->elements;
  const bool from_real = IsFloat(args.in[0]->dtype);
  for (Element& element : out) {
    if (!element.known) continue;
    if (args.dtype == DType::kBool) {
      element = Element::Integer(from_real ? element.real != 0 : element.integer != 0);
    } else if (IsFloat(args.dtype)) {
      element = RealOf(element.real, args.dtype);
    } else if (from_real && !(std::abs(element.real) < 0x1.0p62)) {
      element = Element();
    } else {
      element = IntegerOf(element.integer, args.dtype);
    }
  }
  return out;
}

std::optional<std::vector<Element>> FollowConcat(const FollowArgs& args) {
  std::vector<Element> out(static_cast<size_t>(NumElements(args.shape)));
  const auto axis = NormalizeAxis(args.node.GetInt("axis", 0), args.shape.size());
  if (!axis.ok()) return std::nullopt;
  int64_t outer = 1, inner = 1, begin = 0;
  for (int d = 0; d < static_cast<int>(args.shape.size()); ++d) {
    if (d != *axis) (d < *axis ? outer : inner) *= args.shape[static_cast<size_t>(d)];
  }
  const int64_t row = args.shape[static_cast<size_t>(*axis)] * inner;
  for (size_t i = 0; i < args.info.size(); ++i) {
    const std::optional<Shape>& part = args.info[i].shape;
    if (!part.has_value() || !IsConcrete(*part)) return std::nullopt;
    const int64_t run = (*part)[static_cast<size_t>(*axis)] * inner;
    for (int64_t o = 0; o < outer && args.in[i].has_value(); ++o) {
      for (int64_t k = 0; k < run; ++k) {
        out[static_cast<size_t>(o * row + begin + k)] =
            args.in[i]->elements[static_cast<size_t>(o * run + k)];
      }
    }
    begin += run;
  }
  return out;
}

std::optional<std::vector<Element>> FollowGather(const FollowArgs& args) {
  if (!args.all(2)) return std::nullopt;
  const Shape& data = args.in[0]->shape;
  const auto axis = NormalizeAxis(args.node.GetInt("axis", 0), data.size());
  if (!axis.ok()) return std::nullopt;
  const int64_t size = data[static_cast<size_t>(*axis)];
  int64_t outer = 1, inner = 1;
  for (int d = 0; d < static_cast<int>(data.size()); ++d) {
    if (d != *axis) (d < *axis ? outer : inner) *= data[static_cast<size_t>(d)];
  }
  std::vector<Element> out;
  for (int64_t o = 0; o < outer; ++o) {
    for (const Element& index : args.in[1]->elements) {
      const int64_t at = index.integer < 0 ? index.integer + size : index.integer;
      const bool inside = index.known && at >= 0 && at < size;
      for (int64_t k = 0; k < inner; ++k) {
        out.push_back(inside
                          ? args.in[0]->elements[static_cast<size_t>((o * size + at) * inner + k)]
                          : Element());
      }
    }
  }
  return out;
}

// Elements of `x` at `offset` + sum of index * strides, over all indices of `shape`.
std::vector<Element> Strided(const PartialElements& x, const Shape& shape, const Shape& strides,
                             int64_t offset) {
  std::vector<Element> out(static_cast<size_t>(NumElements(shape)));
  for (size_t i = 0; i < out.size(); ++i) {
    int64_t rest = static_cast<int64_t>(i), at = offset;
    for (size_t d = shape.size(); d-- > 0;) {
      at += rest % shape[d] * strides[d];
      rest /= shape[d];
    }
    if (at >= 0 && at < static_cast<int64_t>(x.elements.size())) {
      out[i] = x.elements[static_cast<size_t>(at)];
    }
  }
  return out;
}

std::optional<std::vector<Element>> FollowTranspose(const FollowArgs& args) {
  if (!args.all(1)) return std::nullopt;
  const size_t rank = args.shape.size();
  std::vector<int64_t> perm = args.node.GetInts("perm");
  if (perm.size() != rank) {
    perm.clear();
    for (size_t i = 0; i < rank; ++i) perm.push_back(static_cast<int64_t>(rank - 1 - i));
  }
  const Shape source = StridesOf(args.in[0]->shape);
  Shape strides;
  for (int64_t axis : perm) {
    strides.push_back(
        source[static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis)]);
  }
  return Strided(*args.in[0], args.shape, strides, 0);
}

std::optional<std::vector<Element>> FollowSlice(const FollowArgs& args) {
  if (!args.all(2)) return std::nullopt;
  for (size_t i : {size_t{3}, size_t{4}}) {
    if (i < args.info.size() && args.info[i].present && !args.in[i].has_value())
      return std::nullopt;
  }
  const PartialElements& x = *args.in[0];
  Shape strides = StridesOf(x.shape);
  int64_t offset = 0;
  for (size_t i = 0; i < args.in[1]->elements.size(); ++i) {
    const auto element = [&](size_t operand, int64_t absent) {
      if (operand >= args.in.size() || !args.in[operand].has_value())
        return Element::Integer(absent);
      return i < args.in[operand]->elements.size() ? args.in[operand]->elements[i] : Element();
    };
    const Element start = element(1, 0), axis = element(3, static_cast<int64_t>(i)),
                  step = element(4, 1);
    if (!start.known || !axis.known || !step.known || step.integer == 0) return std::nullopt;
    const auto d = NormalizeAxis(axis.integer, x.shape.size());
    if (!d.ok()) return std::nullopt;
    const int64_t size = x.shape[static_cast<size_t>(*d)];
    if (size == 0) return std::vector<Element>(static_cast<size_t>(NumElements(args.shape)));
    int64_t begin = start.integer < 0 ? start.integer + size : start.integer;
    begin = std::clamp<int64_t>(begin, 0, step.integer > 0 ? size : size - 1);
    int64_t& stride = strides[static_cast<size_t>(*d)];
    offset += begin * stride;
    stride *= std::clamp<int64_t>(step.integer, -size, size);
  }
  return Strided(x, args.shape, strides, offset);
}

std::optional<std::vector<Element>> FollowExpand(const FollowArgs& args) {
  if (!args.all(1)) return std::nullopt;
  std::vector<Element> out;
  for (size_t offset : BroadcastOffsets(args.in[0]->shape, args.shape)) {
    out.push_back(args.in[0]->elements[offset]);
  }
  return out;
}

std::optional<std::vector<Element>> FollowConstantOfShape(const FollowArgs& args) {
  Element fill = IsFloat(args.dtype) ? RealOf(0, args.dtype) : Element::Integer(0);
  if (const auto it = args.node.attributes.find("value"); it != args.node.attributes.end()) {
    const Tensor* value = std::get_if<Tensor>(&it->second);
    const auto partial = value == nullptr ? std::nullopt : PartialOf(*value);
    if (!partial.has_value() || partial->elements.size() != 1) return std::nullopt;
    fill = partial->elements[0];
  }
  return std::vector<Element>(static_cast<size_t>(NumElements(args.shape)), fill);
}

std::optional<std::vector<Element>> FollowRange(const FollowArgs& args) {
  if (!args.all(3) || IsFloat(args.dtype)) return std::nullopt;
  const Element start = args.in[0]->elements[0], delta = args.in[2]->elements[0];
  if (!start.known || !delta.known) return std::nullopt;
  std::vector<Element> out;
  int64_t value = start.integer;
  for (int64_t i = 0; i < args.shape[0]; ++i) {
    out.push_back(IntegerOf(value, args.dtype));
    if (__builtin_add_overflow(value, delta.integer, &value)) break;
  }
  out.resize(static_cast<size_t>(args.shape[0]));
  return out;
}

std::optional<std::vector<Element>> FollowReduceProd(const FollowArgs& args) {
  if (!args.all(1) || NumElements(args.shape) != 1 || IsFloat(args.dtype)) return std::nullopt;
  int64_t product = 1;
  for (const Element& element : args.in[0]->elements) {
    if (!element.known || __builtin_mul_overflow(product, element.integer, &product)) {
      return std::nullopt;
    }
  }
  return std::vector<Element>{IntegerOf(product, args.dtype)};
}

Element UnaryElement(absl::string_view op, const Element& x, DType dtype) {
  if (!x.known) return Element();
  if (op == "Not") return Element::Integer(x.integer == 0);
  if (!IsFloat(dtype)) {
    if (x.integer == std::numeric_limits<int64_t>::min()) return Element();
    const int64_t result = op == "Neg" ? -x.integer : op == "Abs" ? std::abs(x.integer) : x.integer;
    return op == "Neg" || op == "Abs" ? IntegerOf(result, dtype) : Element();
  }
  if (op == "Neg") return RealOf(-x.real, dtype);
  if (op == "Abs") return RealOf(std::abs(x.real), dtype);
  if (op == "Floor") return RealOf(std::floor(x.real), dtype);
  if (op == "Ceil") return RealOf(std::ceil(x.real), dtype);
  if (op == "Round") return RealOf(std::nearbyint(x.real), dtype);
  if (op == "Sqrt") return RealOf(std::sqrt(x.real), dtype);
  return Element();
}

std::optional<std::vector<Element>> FollowUnary(const FollowArgs& args) {
  if (!args.all(1)) return std::nullopt;
  std::vector<Element> out;
  for (const Element& x : args.in[0]->elements) {
    out.push_back(UnaryElement(args.node.op, x, args.dtype));
  }
  return out;
}

Element RealElement(absl::string_view op, double a, double b, DType dtype) {
  if (op == "Add") return RealOf(a + b, dtype);
  if (op == "Sub") return RealOf(a - b, dtype);
  if (op == "Mul") return RealOf(a * b, dtype);
  if (op == "Div") return RealOf(a / b, dtype);
  if (op == "Max") return RealOf(std::max(a, b), dtype);
  if (op == "Min") return RealOf(std::min(a, b), dtype);
  return Element();
}

Element IntegerElement(absl::string_view op, int64_t a, int64_t b, DType dtype) {
  int64_t out = 0;
  if (op == "Add") return __builtin_add_overflow(a, b, &out) ? Element() : IntegerOf(out, dtype);
  if (op == "Sub") return __builtin_sub_overflow(a, b, &out) ? Element() : IntegerOf(out, dtype);
  if (op == "Mul") return __builtin_mul_overflow(a, b, &out) ? Element() : IntegerOf(out, dtype);
  if (op == "Max") return Element::Integer(std::max(a, b));
  if (op == "Min") return Element::Integer(std::min(a, b));
  if (op == "Div" || op == "Mod") {
    if (b == 0 || b == -1) return Element();
    if (op == "Div") return Element::Integer(a / b);
    const int64_t rest = a % b;
    return Element::Integer(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
  }
  return Element();
}

Element CompareElement(absl::string_view op, const Element& a, const Element& b, bool real) {
  const int order = real ? (a.real > b.real) - (a.real < b.real)
                         : (a.integer > b.integer) - (a.integer < b.integer);
  if (op == "Equal") return Element::Integer(order == 0);
  if (op == "Less") return Element::Integer(order < 0);
  if (op == "LessOrEqual") return Element::Integer(order <= 0);
  if (op == "Greater") return Element::Integer(order > 0);
  if (op == "GreaterOrEqual") return Element::Integer(order >= 0);
  if (op == "And") return Element::Integer(a.integer != 0 && b.integer != 0);
  if (op == "Or") return Element::Integer(a.integer != 0 || b.integer != 0);
  return Element();
}

bool IsSymbol(const Element& x) {
  return !x.known && x.dim != kUnknownDim && x.dim != Element::kIndependent;
}

// What can be said when a dimension's symbol meets a known number: neutral elements, and that it is
// not negative.
Element SymbolElement(absl::string_view op, const Element& a, const Element& b) {
  const auto is = [](const Element& x, int64_t value) {
    return x.known && x.integer == value && x.real == static_cast<double>(value);
  };
  if (IsSymbol(a)) {
    if ((op == "Add" || op == "Sub") && is(b, 0)) return a;
    if ((op == "Mul" || op == "Div") && is(b, 1)) return a;
    if (op == "Equal" && b.known && b.integer < 0) return Element::Integer(0);
  }
  if (IsSymbol(b)) {
    if (op == "Add" && is(a, 0)) return b;
    if (op == "Mul" && is(a, 1)) return b;
    if (op == "Equal" && a.known && a.integer < 0) return Element::Integer(0);
  }
  if (op == "Mul" && (is(a, 0) || is(b, 0))) return Element::Integer(0);
  return Element();
}

std::optional<std::vector<Element>> FollowBinary(const FollowArgs& args) {
  if (!args.all(2) || args.info.size() != 2) return std::nullopt;
  const std::vector<size_t> a = BroadcastOffsets(args.in[0]->shape, args.shape);
  const std::vector<size_t> b = BroadcastOffsets(args.in[1]->shape, args.shape);
  const bool real = IsFloat(args.in[0]->dtype);
  std::vector<Element> out;
  for (size_t i = 0; i < a.size(); ++i) {
    const Element& x = args.in[0]->elements[a[i]];
    const Element& y = args.in[1]->elements[b[i]];
    if (!x.known || !y.known) {
      out.push_back(SymbolElement(args.node.op, x, y));
    } else if (args.dtype == DType::kBool) {
      out.push_back(CompareElement(args.node.op, x, y, real));
    } else if (real) {
      out.push_back(RealElement(args.node.op, x.real, y.real, args.dtype));
    } else {
      out.push_back(IntegerElement(args.node.op, x.integer, y.integer, args.dtype));
    }
  }
  return out;
}

std::optional<std::vector<Element>> FollowWhere(const FollowArgs& args) {
  if (!args.all(3)) return std::nullopt;
  std::vector<size_t> at[3];
  for (size_t i = 0; i < 3; ++i) at[i] = BroadcastOffsets(args.in[i]->shape, args.shape);
  std::vector<Element> out;
  for (size_t i = 0; i < at[0].size(); ++i) {
    const Element& condition = args.in[0]->elements[at[0][i]];
    const size_t side = condition.integer != 0 ? 1 : 2;
    out.push_back(condition.known ? args.in[side]->elements[at[side][i]] : Element());
  }
  return out;
}

const absl::flat_hash_map<absl::string_view, Follow>& Table() {
  static const auto& table = *new absl::flat_hash_map<absl::string_view, Follow>{
      {"Shape", FollowShape},
      {"Size", FollowSize},
      {"Identity", FollowSame},
      {"Reshape", FollowSame},
      {"Squeeze", FollowSame},
      {"Unsqueeze", FollowSame},
      {"Flatten", FollowSame},
      {"Cast", FollowCast},
      {"Concat", FollowConcat},
      {"Gather", FollowGather},
      {"Transpose", FollowTranspose},
      {"Slice", FollowSlice},
      {"Expand", FollowExpand},
      {"ConstantOfShape", FollowConstantOfShape},
      {"Range", FollowRange},
      {"ReduceProd", FollowReduceProd},
      {"Neg", FollowUnary},
      {"Abs", FollowUnary},
      {"Floor", FollowUnary},
      {"Ceil", FollowUnary},
      {"Round", FollowUnary},
      {"Sqrt", FollowUnary},
      {"Not", FollowUnary},
      {"Add", FollowBinary},
      {"Sub", FollowBinary},
      {"Mul", FollowBinary},
      {"Div", FollowBinary},
      {"Mod", FollowBinary},
      {"Max", FollowBinary},
      {"Min", FollowBinary},
      {"Equal", FollowBinary},
      {"Less", FollowBinary},
      {"LessOrEqual", FollowBinary},
      {"Greater", FollowBinary},
      {"GreaterOrEqual", FollowBinary},
      {"And", FollowBinary},
      {"Or", FollowBinary},
      {"Where", FollowWhere},
  };
  return table;
}

bool Small(const ResultInfo& result) {
  if (!result.shape.has_value() || !IsConcrete(*result.shape)) return false;
  const auto count = CheckedNumElements(*result.shape);
  return count.ok() && *count <= PartialElements::kMaxElements;
}

// Split is a Slice per output.
std::vector<std::optional<PartialElements>> FollowSplit(const Node& node, const Operands& in,
                                                        const Results& results) {
  std::vector<std::optional<PartialElements>> out(results.size());
  if (in.empty() || !in[0].has_value()) return out;
  const auto axis = NormalizeAxis(node.GetInt("axis", 0), in[0]->shape.size());
  if (!axis.ok()) return out;
  const Shape strides = StridesOf(in[0]->shape);
  int64_t begin = 0;
  for (size_t i = 0; i < results.size() && Small(results[i]); ++i) {
    const Shape& shape = *results[i].shape;
    const int64_t stride = strides[static_cast<size_t>(*axis)];
    out[i] =
        PartialElements{results[i].dtype, shape, Strided(*in[0], shape, strides, begin * stride)};
    begin += shape[static_cast<size_t>(*axis)];
  }
  return out;
}

}  // namespace

std::vector<std::optional<PartialElements>> FollowElements(const Node& node,
                                                           absl::Span<const OperandInfo> operands,
                                                           const Results& results) {
  if (!node.domain.empty() || results.empty() || !Small(results[0])) return {};
  const auto it = Table().find(node.op);
  if (it == Table().end() && node.op != "Split") return {};
  Operands in;
  for (const OperandInfo& operand : operands) {
    if (operand.constant != nullptr) {
      in.push_back(PartialOf(*operand.constant));
    } else if (operand.partial != nullptr) {
      in.push_back(*operand.partial);
    } else {
      in.emplace_back();
    }
  }
  if (node.op == "Split") return FollowSplit(node, in, results);
  const FollowArgs args{node, operands, in, results[0].dtype, *results[0].shape};
  std::optional<std::vector<Element>> elements = it->second(args);
  if (!elements.has_value() || static_cast<int64_t>(elements->size()) != NumElements(args.shape)) {
    return {};
  }
  const bool any = std::any_of(elements->begin(), elements->end(),
                               [](const Element& e) { return e.known || e.dim != kUnknownDim; });
  if (!any && !elements->empty()) return {};
  return {PartialElements{args.dtype, args.shape, std::move(*elements)}};
}

}  // namespace octet::graph
