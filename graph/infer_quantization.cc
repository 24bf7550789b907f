// Shape rules of integer products and of what gives integers their meaning.
//
// Source: ONNX ConvInteger-10, MatMulInteger-10, DynamicQuantizeLinear-11; graph.h for the others.
#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

absl::StatusOr<Results> Reinterpret(const RuleArgs& args) {
  const DType dtype = DTypeOfOnnxCode(args.node.GetInt("to", 0));
  if (dtype == DType::kInvalid) return Invalid("attribute 'to' names no type");
  return One(dtype, args.shape(0));
}

absl::StatusOr<Results> DynamicQuantizeLinear(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  return Results{{DType::kU8, args.shape(0)}, {DType::kF32, Shape{}}, {DType::kU8, Shape{}}};
}

absl::Status RequireBytes(const RuleArgs& args, size_t i) {
  const DType dtype = args.dtype(i);
  if (dtype == DType::kInvalid || dtype == DType::kU8 || dtype == DType::kS8) {
    return absl::OkStatus();
  }
  return Invalid("operand ", i, " has type ", NameOf(dtype), ", expected u8 or s8");
}

// The shape of the float product `op` of operands 0 and 1.
absl::StatusOr<Results> Product(const RuleArgs& args, const char* op, DType dtype) {
  Node product = args.node;
  product.op = op;
  product.outputs.assign(1, 0);
  std::vector<OperandInfo> operands(args.in.begin(), args.in.begin() + 2);
  for (OperandInfo& operand : operands) operand.dtype = DType::kF32;
  OCTET_ASSIGN_OR_RETURN(Results results, InferNode(product, operands));
  results[0].dtype = dtype;
  return results;
}

absl::StatusOr<Results> Integer(const RuleArgs& args) {
  for (size_t i : {size_t{0}, size_t{1}}) OCTET_RETURN_IF_ERROR(RequireBytes(args, i));
  for (size_t i : {size_t{2}, size_t{3}}) {
    if (args.has(i)) OCTET_RETURN_IF_ERROR(SameType(args, i - 2, i));
  }
  return Product(args, args.node.op == "ConvInteger" ? "Conv" : "MatMul", DType::kS32);
}

// Operands: see graph.h.
absl::StatusOr<Results> Dynamic(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireBytes(args, 0));
  if (args.has(3)) OCTET_RETURN_IF_ERROR(SameType(args, 0, 3));
  return Product(args, args.node.op == "DynamicConv" ? "Conv" : "MatMul",
                 args.has(2) ? DType::kF32 : DType::kS32);
}

constexpr RuleEntry kRules[] = {
    {"ConvInteger", Integer, 2, 4},
    {"DynamicConv", Dynamic, 2, 5},
    {"DynamicMatMul", Dynamic, 2, 5},
    {"DynamicQuantizeLinear", DynamicQuantizeLinear, 1, 1},
    {"MatMulInteger", Integer, 2, 4},
    {"Reinterpret", Reinterpret, 1, 1},
};

}  // namespace

absl::Span<const RuleEntry> QuantizationRules() { return kRules; }

}  // namespace octet::graph
