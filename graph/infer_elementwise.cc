// Shape rules of element functions: one operand, broadcast operands, casts, quantization.
#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

// Any type; the result is like operand 0.
absl::StatusOr<Results> Same(const RuleArgs& args) { return One(args.dtype(0), args.shape(0)); }

absl::StatusOr<Results> SameFloat(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  return Same(args);
}

absl::StatusOr<Results> Not(const RuleArgs& args) {
  if (args.dtype(0) != DType::kBool && args.dtype(0) != DType::kInvalid) {
    return Invalid("operand 0 has type ", NameOf(args.dtype(0)), ", expected bool");
  }
  return One(DType::kBool, args.shape(0));
}

absl::StatusOr<Results> FloatTest(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  return One(DType::kBool, args.shape(0));
}

// min and max are scalars of the operand's type.
absl::StatusOr<Results> Clip(const RuleArgs& args) {
  for (size_t i : {size_t{1}, size_t{2}}) {
    if (!args.has(i)) continue;
    OCTET_RETURN_IF_ERROR(SameType(args, 0, i));
    if (args.shape(i).has_value() && !args.shape(i)->empty() && *args.shape(i) != Shape{1}) {
      return Invalid("limit ", i, " of shape ", Str(*args.shape(i)), ", expected a scalar");
    }
  }
  return Same(args);
}

absl::StatusOr<Results> Dropout(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  return Results{{args.dtype(0), args.shape(0)}, {DType::kBool, args.shape(0)}};
}

absl::StatusOr<std::optional<Shape>> BroadcastAll(const RuleArgs& args) {
  Shape out;
  for (size_t i = 0; i < args.in.size(); ++i) {
    if (!args.has(i)) return Invalid("operand ", i, " is missing");
    if (!args.shape(i).has_value()) return std::optional<Shape>();
    OCTET_ASSIGN_OR_RETURN(out, Broadcast(out, *args.shape(i)));
  }
  return std::optional<Shape>(std::move(out));
}

absl::StatusOr<Results> Variadic(const RuleArgs& args) {
  for (size_t i = 1; i < args.in.size(); ++i) OCTET_RETURN_IF_ERROR(SameType(args, 0, i));
  if (args.dtype(0) == DType::kBool) return Invalid("operands of type bool, expected numbers");
  OCTET_ASSIGN_OR_RETURN(std::optional<Shape> shape, BroadcastAll(args));
  return One(args.dtype(0), std::move(shape));
}

absl::StatusOr<Results> Bitwise(const RuleArgs& args) {
  for (size_t i = 0; i < args.in.size(); ++i) {
    if (args.dtype(i) != DType::kInvalid && !IsInteger(args.dtype(i))) {
      return Invalid("operand ", i, " has type ", NameOf(args.dtype(i)), ", expected integers");
    }
  }
  return Variadic(args);
}

absl::StatusOr<Results> Pow(const RuleArgs& args) {  // the exponent may have a type of its own
  OCTET_ASSIGN_OR_RETURN(std::optional<Shape> shape, BroadcastAll(args));
  return One(args.dtype(0), std::move(shape));
}

absl::StatusOr<Results> Compare(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 1));
  OCTET_ASSIGN_OR_RETURN(std::optional<Shape> shape, BroadcastAll(args));
  return One(DType::kBool, std::move(shape));
}

absl::StatusOr<Results> Logical(const RuleArgs& args) {
  for (size_t i : {size_t{0}, size_t{1}}) {
    if (args.dtype(i) != DType::kBool && args.dtype(i) != DType::kInvalid) {
      return Invalid("operand ", i, " has type ", NameOf(args.dtype(i)), ", expected bool");
    }
  }
  return Compare(args);
}

// The slope broadcasts to the operand, not the other way round.
absl::StatusOr<Results> PRelu(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 1));
  if (args.shape(0).has_value() && args.shape(1).has_value()) {
    OCTET_ASSIGN_OR_RETURN(const Shape both, Broadcast(*args.shape(0), *args.shape(1)));
    if (both.size() != args.shape(0)->size()) {
      return Invalid("slope of shape ", Str(*args.shape(1)), " does not broadcast to ",
                     Str(*args.shape(0)));
    }
    for (size_t i = 0; i < both.size(); ++i) {
      if (Known((*args.shape(0))[i]) && both[i] != (*args.shape(0))[i]) {
        return Invalid("slope of shape ", Str(*args.shape(1)), " does not broadcast to ",
                       Str(*args.shape(0)));
      }
    }
  }
  return Same(args);
}

absl::StatusOr<Results> Where(const RuleArgs& args) {
  if (args.dtype(0) != DType::kBool && args.dtype(0) != DType::kInvalid) {
    return Invalid("condition of type ", NameOf(args.dtype(0)), ", expected bool");
  }
  OCTET_RETURN_IF_ERROR(SameType(args, 1, 2));
  OCTET_ASSIGN_OR_RETURN(std::optional<Shape> shape, BroadcastAll(args));
  return One(args.dtype(1), std::move(shape));
}

absl::StatusOr<Results> Cast(const RuleArgs& args) {
  const int64_t to = args.node.GetInt("to", 0);
  const DType dtype = DTypeOfOnnxCode(to);
  if (dtype == DType::kInvalid) {
    return absl::UnimplementedError(
        absl::StrCat("attribute 'to' names the type ", to, ", which is not supported"));
  }
  return One(dtype, args.shape(0));
}

absl::StatusOr<Results> CastLike(const RuleArgs& args) { return One(args.dtype(1), args.shape(0)); }

absl::StatusOr<Results> Real(const RuleArgs& args) { return One(DType::kF32, args.shape(0)); }

constexpr RuleEntry kRules[] = {
    {"Abs", Same, 1, 1},
    {"Acos", SameFloat, 1, 1},
    {"Acosh", SameFloat, 1, 1},
    {"Add", Variadic, 2, 2},
    {"And", Logical, 2, 2},
    {"Asin", SameFloat, 1, 1},
    {"Asinh", SameFloat, 1, 1},
    {"Atan", SameFloat, 1, 1},
    {"Atanh", SameFloat, 1, 1},
    {"BitShift", Bitwise, 2, 2},
    {"BitwiseAnd", Bitwise, 2, 2},
    {"BitwiseNot", Bitwise, 1, 1},
    {"BitwiseOr", Bitwise, 2, 2},
    {"BitwiseXor", Bitwise, 2, 2},
    {"Cast", Cast, 1, 1},
    {"CastLike", CastLike, 2, 2},
    {"Ceil", SameFloat, 1, 1},
    {"Celu", SameFloat, 1, 1},
    {"Clip", Clip, 1, 3},
    {"Cos", SameFloat, 1, 1},
    {"Cosh", SameFloat, 1, 1},
    {"Dequantize", Real, 1, 1},
    {"Div", Variadic, 2, 2},
    {"Dropout", Dropout, 1, 3},
    {"Elu", SameFloat, 1, 1},
    {"Equal", Compare, 2, 2},
    {"Erf", Same, 1, 1},
    {"Exp", SameFloat, 1, 1},
    {"Floor", SameFloat, 1, 1},
    {"Gelu", SameFloat, 1, 1},
    {"Greater", Compare, 2, 2},
    {"GreaterOrEqual", Compare, 2, 2},
    {"HardSigmoid", SameFloat, 1, 1},
    {"HardSwish", SameFloat, 1, 1},
    {"Identity", Same, 1, 1},
    {"IsInf", FloatTest, 1, 1},
    {"IsNaN", FloatTest, 1, 1},
    {"LeakyRelu", SameFloat, 1, 1},
    {"Less", Compare, 2, 2},
    {"LessOrEqual", Compare, 2, 2},
    {"Log", SameFloat, 1, 1},
    {"Max", Variadic, 1, kVariadic},
    {"Mean", Variadic, 1, kVariadic},
    {"Min", Variadic, 1, kVariadic},
    {"Mish", SameFloat, 1, 1},
    {"Mod", Variadic, 2, 2},
    {"Mul", Variadic, 2, 2},
    {"Neg", Same, 1, 1},
    {"Not", Not, 1, 1},
    {"Or", Logical, 2, 2},
    {"PRelu", PRelu, 2, 2},
    {"Pow", Pow, 2, 2},
    {"Quantize", Real, 1, 1},
    {"Reciprocal", SameFloat, 1, 1},
    {"Relu", Same, 1, 1},
    {"Round", SameFloat, 1, 1},
    {"Selu", SameFloat, 1, 1},
    {"Shrink", Same, 1, 1},
    {"Sigmoid", SameFloat, 1, 1},
    {"Sign", Same, 1, 1},
    {"Sin", SameFloat, 1, 1},
    {"Sinh", SameFloat, 1, 1},
    {"Softplus", SameFloat, 1, 1},
    {"Softsign", SameFloat, 1, 1},
    {"Sqrt", SameFloat, 1, 1},
    {"Sub", Variadic, 2, 2},
    {"Sum", Variadic, 1, kVariadic},
    {"Tan", SameFloat, 1, 1},
    {"Tanh", SameFloat, 1, 1},
    {"ThresholdedRelu", SameFloat, 1, 1},
    {"Where", Where, 3, 3},
    {"Xor", Logical, 2, 2},
};

}  // namespace

absl::Span<const RuleEntry> ElementwiseRules() { return kRules; }

}  // namespace octet::graph
