// com.microsoft operators that ONNX Runtime's optimizer writes for a few ONNX operators: taken
// apart again, so that the engine's own fusion sees them.
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "onnx/quant_operands.h"
#include "onnx/rules.h"

namespace octet::onnx_io {
namespace {

using graph::ValueId;

AttributeMap Without(AttributeMap attrs, std::initializer_list<const char*> keys) {
  for (const char* key : keys) attrs.erase(key);
  return attrs;
}

// The function that attributes `activation` and `params` name, applied to x, as Output(0).
absl::Status Activate(NodeImporter& node, ValueId x, const std::vector<float>& params) {
  const std::string kind = node.String("activation", "");
  const auto param = [&](size_t i, float absent) { return i < params.size() ? params[i] : absent; };
  AttributeMap attrs;
  std::vector<ValueId> operands = {x};
  if (kind == "LeakyRelu") {
    attrs["alpha"] = param(0, 0.01f);
  } else if (kind == "HardSigmoid") {
    attrs["alpha"] = param(0, 0.2f);
    attrs["beta"] = param(1, 0.5f);
  } else if (kind == "Clip") {
    operands.push_back(node.AddConstant("low", Tensor::FromF32({}, {param(0, -3.4e38f)})));
    operands.push_back(node.AddConstant("high", Tensor::FromF32({}, {param(1, 3.4e38f)})));
  } else if (kind != "Relu" && kind != "Sigmoid" && kind != "Tanh" && kind != "HardSwish") {
    return absl::UnimplementedError(absl::StrCat("activation ", Quoted(kind), " is not supported"));
  }
  return node.Emit1(kind, std::move(operands), node.Output(0), std::move(attrs)).status();
}

absl::StatusOr<ValueId> SwapLast(NodeImporter& node, ValueId x) {
  const std::optional<int64_t> rank = node.Rank(x);
  if (!rank.has_value() || *rank < 2) return absl::UnimplementedError("operand of unknown rank");
  std::vector<int64_t> perm;
  for (int64_t d = 0; d < *rank; ++d) perm.push_back(d);
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  AttributeMap attrs;
  attrs["perm"] = perm;
  return node.Emit1("Transpose", {x}, node.Fresh("transposed"), std::move(attrs));
}

absl::Status OnlyFirstOutput(const NodeImporter& node, size_t other) {
  for (size_t i = 1; i < node.num_outputs(); ++i) {
    if (i != other && node.OutputIsRead(i)) {
      return absl::UnimplementedError(
          absl::StrCat("output ", Quoted(node.Output(i)), " (statistics) is not supported"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

// inputs: X, W, B, Z
absl::Status TranslateFusedConv(NodeImporter& node) {
  const std::vector<float>* params = node.Floats("activation_params");
  const std::vector<float> none;
  std::vector<ValueId> operands(node.inputs.begin(),
                                node.inputs.begin() +
                                    std::min<std::ptrdiff_t>(3, std::ssize(node.inputs)));
  const bool activated = node.Has("activation") && node.String("activation", "") != "";
  const bool added = node.has_input(3);
  OCTET_ASSIGN_OR_RETURN(
      ValueId y, node.Emit1("Conv", std::move(operands),
                            activated || added ? node.Fresh("conv") : node.Output(0),
                            Without(node.attributes, {"activation", "activation_params"})));
  if (added) {
    OCTET_ASSIGN_OR_RETURN(y, node.Emit1("Add", {y, node.inputs[3]},
                                         activated ? node.Fresh("sum") : node.Output(0)));
  }
  return activated ? Activate(node, y, params != nullptr ? *params : none) : absl::OkStatus();
}

absl::Status TranslateFusedGemm(NodeImporter& node) {
  std::vector<float> params;
  for (const char* key : {"activation_alpha", "activation_beta"}) {
    if (node.Has(key)) params.push_back(node.Float(key, 0));
  }
  OCTET_ASSIGN_OR_RETURN(
      const ValueId y,
      node.Emit1("Gemm", node.inputs, node.Fresh("gemm"),
                 Without(node.attributes, {"activation", "activation_alpha", "activation_beta",
                                           "activation_gamma"})));
  return Activate(node, y, params);
}

absl::Status TranslateFusedMatMul(NodeImporter& node) {
  ValueId a = node.inputs[0], b = node.inputs[1];
  if (node.Int("transBatchA", 0) != 0 || node.Int("transBatchB", 0) != 0) {
    return absl::UnimplementedError("transBatchA and transBatchB are not supported");
  }
  if (node.Int("transA", 0) != 0 && node.Rank(a) != 1) {
    OCTET_ASSIGN_OR_RETURN(a, SwapLast(node, a));
  }
  if (node.Int("transB", 0) != 0 && node.Rank(b) != 1) {
    OCTET_ASSIGN_OR_RETURN(b, SwapLast(node, b));
  }
  const float alpha = node.Float("alpha", 1.0f);
  if (alpha == 1) return node.Emit1("MatMul", {a, b}, node.Output(0)).status();
  OCTET_ASSIGN_OR_RETURN(const ValueId y, node.Emit1("MatMul", {a, b}, node.Fresh("product")));
  const ValueId factor = node.AddConstant("alpha", Tensor::FromF32({}, {alpha}));
  return node.Emit1("Mul", {y, factor}, node.Output(0)).status();
}

// Gelu, FastGelu (X, bias) and BiasGelu (X, bias).
absl::Status TranslateMicrosoftGelu(NodeImporter& node) {
  ValueId x = node.inputs[0];
  if (node.has_input(1)) {
    OCTET_ASSIGN_OR_RETURN(x, node.Emit1("Add", {x, node.inputs[1]}, node.Fresh("biased")));
  }
  AttributeMap attrs;
  if (node.op() == "FastGelu") attrs["approximate"] = std::string("tanh");
  return node.Emit1("Gelu", {x}, node.Output(0), std::move(attrs)).status();
}

absl::Status TranslateQuickGelu(NodeImporter& node) {
  const ValueId x = node.inputs[0];
  const ValueId alpha =
      node.AddConstant("alpha", Tensor::FromF32({}, {node.Float("alpha", 1.702f)}));
  OCTET_ASSIGN_OR_RETURN(ValueId y, node.Emit1("Mul", {x, alpha}, node.Fresh("scaled")));
  OCTET_ASSIGN_OR_RETURN(y, node.Emit1("Sigmoid", {y}, node.Fresh("gate")));
  return node.Emit1("Mul", {x, y}, node.Output(0)).status();
}

// inputs: input, skip, gamma, beta, bias; output 3: the sum that is normalized
absl::Status TranslateSkipLayerNormalization(NodeImporter& node) {
  constexpr size_t kSum = 3;
  OCTET_RETURN_IF_ERROR(OnlyFirstOutput(node, kSum));
  ValueId x = node.inputs[0];
  if (node.has_input(4)) {
    OCTET_ASSIGN_OR_RETURN(x, node.Emit1("Add", {x, node.inputs[4]}, node.Fresh("biased")));
  }
  OCTET_ASSIGN_OR_RETURN(x, node.Emit1("Add", {x, node.inputs[1]},
                                       node.OutputIsRead(kSum) ? node.Output(kSum)
                                                               : node.Fresh("sum")));
  AttributeMap attrs;
  attrs["axis"] = int64_t{-1};
  attrs["epsilon"] = node.Float("epsilon", 1e-5f);
  std::vector<ValueId> operands = {x, node.inputs[2]};
  if (node.has_input(3)) operands.push_back(node.inputs[3]);
  return node.Emit1("LayerNormalization", std::move(operands), node.Output(0), std::move(attrs))
      .status();
}

}  // namespace octet::onnx_io
