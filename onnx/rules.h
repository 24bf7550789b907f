// Import rules: one per operator of a file, each translating any opset's form into the semantics of
// graph/graph.h.
//
// Adding an operator: one line in rules.cc; a translate function (rules_*.cc) when older opsets
// said it otherwise.
#ifndef OCTET_ONNX_RULES_H_
#define OCTET_ONNX_RULES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace octet::onnx_io {

class NodeImporter;

inline constexpr int kAnyNumber = -1;

struct Rule {
  absl::string_view domain;  // "" for ai.onnx
  absl::string_view op;
  int min_inputs;  // the first min_inputs inputs must be present
  int max_inputs;  // kAnyNumber: variadic
  int max_outputs;
  absl::string_view attributes;                   // as ReadAttributes takes it
  absl::Status (*translate)(NodeImporter& node);  // nullptr: the node goes into the graph as it is
};

// nullptr when there is none.
const Rule* FindRule(absl::string_view domain, absl::string_view op);

// Why a known operator is refused ("control flow"), or "" for an operator that we have never heard
// of.
absl::string_view ReasonNotSupported(absl::string_view domain, absl::string_view op);

// rules_legacy.cc: attributes of an operator that only opsets before 7 have, as ReadAttributes takes them; and the
// rewriting of such a node's inputs and attributes into what opset 7 says, before its rule sees it.
std::string LegacyAttributes(absl::string_view op, int64_t opset);
absl::Status TranslateLegacy(NodeImporter& node);

// rules_shape.cc: what older opsets said with attributes.
absl::Status TranslateAxes(NodeImporter& node);    // Squeeze, Unsqueeze
absl::Status TranslateReduce(NodeImporter& node);  // ReduceSum, ReduceMean, ...
absl::Status TranslateSplit(NodeImporter& node);
absl::Status TranslateSlice(NodeImporter& node);
absl::Status TranslateClip(NodeImporter& node);
absl::Status TranslatePad(NodeImporter& node);
absl::Status TranslateResize(NodeImporter& node);
absl::Status TranslateUpsample(NodeImporter& node);
absl::Status TranslateTopK(NodeImporter& node);
absl::Status TranslateReshape(NodeImporter& node);
absl::Status TranslateScatter(NodeImporter& node);

// rules_control.cc
absl::Status TranslateControlFlow(NodeImporter& node);  // If, Loop, Scan

// rules_nn.cc
absl::Status TranslateSoftmax(NodeImporter& node);  // Softmax, LogSoftmax, Hardmax
absl::Status TranslateBatchNormalization(NodeImporter& node);
absl::Status TranslateGroupNormalization(NodeImporter& node);
absl::Status TranslateRecurrent(NodeImporter& node);  // LSTM, GRU, RNN
absl::Status TranslateDropout(NodeImporter& node);
absl::Status TranslateIdentity(NodeImporter& node);
absl::Status TranslateCast(NodeImporter& node);
absl::Status TranslateCastLike(NodeImporter& node);
absl::Status TranslateSum(NodeImporter& node);  // Sum, Mean
absl::Status TranslateConstant(NodeImporter& node);
absl::Status TranslateMaxPool(NodeImporter& node);

// rules_sampling.cc
absl::Status TranslateDft(NodeImporter& node);
absl::Status TranslateGridSample(NodeImporter& node);
absl::Status TranslateRoiAlign(NodeImporter& node);
absl::Status TranslateTfIdf(NodeImporter& node);

// rules_quantize.cc: QDQ forms into quant on values.
absl::Status TranslateQuantizeLinear(NodeImporter& node);
absl::Status TranslateDequantizeLinear(NodeImporter& node);

// rules_qlinear.cc: QOperator forms into quant on values.
absl::Status TranslateQLinearConv(NodeImporter& node);
absl::Status TranslateQLinearMatMul(NodeImporter& node);
absl::Status TranslateQGemm(NodeImporter& node);
absl::Status TranslateQLinearBinary(NodeImporter& node);  // com.microsoft QLinearAdd, QLinearMul
absl::Status TranslateQLinearUnary(
    NodeImporter& node);  // com.microsoft QLinearSigmoid, QLinearAveragePool, ...
absl::Status TranslateQLinearReduceMean(NodeImporter& node);
absl::Status TranslateQLinearConcat(NodeImporter& node);
absl::Status TranslateQLinearWhere(NodeImporter& node);

// rules_integer.cc: products of plain integers, dynamic quantization.
absl::Status TranslateIntegerProduct(NodeImporter& node);  // ConvInteger, MatMulInteger
absl::Status TranslateMatMulIntegerToFloat(NodeImporter& node);
absl::Status TranslateDynamicQuantizeMatMul(NodeImporter& node);

// rules_nbits.cc: blocked weights.
absl::Status TranslateMatMulNBits(NodeImporter& node);

// rules_decode.cc: weights on grids of levels.
absl::Status TranslateDecodeWeights(NodeImporter& node);

// rules_draw.cc
absl::Status TranslateDrawWeights(NodeImporter& node);

// rules_fused.cc: what ONNX Runtime's optimizer writes.
absl::Status TranslateFusedConv(NodeImporter& node);
absl::Status TranslateFusedGemm(NodeImporter& node);
absl::Status TranslateFusedMatMul(NodeImporter& node);
absl::Status TranslateMicrosoftGelu(NodeImporter& node);  // Gelu, FastGelu, BiasGelu
absl::Status TranslateQuickGelu(NodeImporter& node);
absl::Status TranslateSkipLayerNormalization(NodeImporter& node);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_RULES_H_
