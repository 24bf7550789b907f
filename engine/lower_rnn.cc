// Lowering of recurrent layers: LSTM, GRU, RNN.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "kernels/rnn/rnn.h"

namespace octet::engine {
namespace {

using graph::Node;
using kernels::GateFunction;
using kernels::Layout;
using kernels::RnnParams;
using Kind = GateFunction::Kind;

// A gate function by its ONNX name, with the parameters it has when the node gives none.
struct NamedFunction {
  GateFunction function;
  int parameters = 0;  // how many of alpha, beta it takes
};

const absl::flat_hash_map<std::string, NamedFunction>& Functions() {
  static const auto* const kTable = new absl::flat_hash_map<std::string, NamedFunction>{
      {"affine", {{Kind::kAffine, 1, 0}, 2}},
      {"elu", {{Kind::kElu, 1, 0}, 1}},
      {"hardsigmoid", {{Kind::kHardSigmoid, 0.2f, 0.5f}, 2}},
      {"leakyrelu", {{Kind::kLeakyRelu, 0.01f, 0}, 1}},
      {"relu", {{Kind::kRelu, 0, 0}, 0}},
      {"scaledtanh", {{Kind::kScaledTanh, 1, 1}, 2}},
      {"sigmoid", {{Kind::kSigmoid, 0, 0}, 0}},
      {"softplus", {{Kind::kSoftplus, 0, 0}, 0}},
      {"softsign", {{Kind::kSoftsign, 0, 0}, 0}},
      {"tanh", {{Kind::kTanh, 0, 0}, 0}},
      {"thresholdedrelu", {{Kind::kThresholdedRelu, 1, 0}, 1}},
  };
  return *kTable;
}

template <typename T>
std::vector<T> ListOf(const Node& node, absl::string_view key) {
  const auto it = node.attributes.find(key);
  const auto* list = it == node.attributes.end() ? nullptr : std::get_if<std::vector<T>>(&it->second);
  return list == nullptr ? std::vector<T>() : *list;
}

// Alphas and betas belong, in turn, to the functions that have such a parameter.
absl::Status ReadFunctions(const Node& node, RnnParams* params) {
  std::vector<std::string> names = ListOf<std::string>(node, "activations");
  const auto wanted = static_cast<size_t>(params->directions() * params->functions_per_direction());
  if (names.empty()) {
    const std::vector<std::string> standard = params->cell == RnnParams::Cell::kLstm ? std::vector<std::string>{"sigmoid", "tanh", "tanh"}
                                              : params->cell == RnnParams::Cell::kGru ? std::vector<std::string>{"sigmoid", "tanh"}
                                                                                      : std::vector<std::string>{"tanh"};
    while (names.size() < wanted) names.insert(names.end(), standard.begin(), standard.end());
  }
  if (names.size() != wanted) {
    return absl::InvalidArgumentError(
        absl::StrCat("attribute 'activations' has ", names.size(), " names, expected ", wanted));
  }
  const std::vector<float> alphas = ListOf<float>(node, "activation_alpha"), betas = ListOf<float>(node, "activation_beta");
  size_t alpha = 0, beta = 0;
  for (const std::string& name : names) {
    const auto it = Functions().find(absl::AsciiStrToLower(name));
    if (it == Functions().end()) {
      return absl::InvalidArgumentError(absl::StrCat("attribute 'activations': there is no function '", name, "'"));
    }
    GateFunction function = it->second.function;
    if (it->second.parameters > 0 && alpha < alphas.size()) function.alpha = alphas[alpha++];
    if (it->second.parameters > 1 && beta < betas.size()) function.beta = betas[beta++];
    params->functions.push_back(function);
  }
  return absl::OkStatus();
}

absl::Status ReadAttributes(const Node& node, RnnParams* params) {
  params->cell = node.op == "LSTM"  ? RnnParams::Cell::kLstm
                 : node.op == "GRU" ? RnnParams::Cell::kGru
                                    : RnnParams::Cell::kRnn;
  const std::string direction = node.GetString("direction", "forward");
  if (direction == "forward") {
    params->direction = RnnParams::Direction::kForward;
  } else if (direction == "reverse") {
    params->direction = RnnParams::Direction::kReverse;
  } else if (direction == "bidirectional") {
    params->direction = RnnParams::Direction::kBidirectional;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("attribute 'direction' is '", direction, "', expected forward, reverse or bidirectional"));
  }
  if (node.GetInt("layout", 0) != 0) params->layout = RnnParams::Layout::kBatchFirst;
  if (node.GetInt("input_forget", 0) != 0) params->forget = RnnParams::Forget::kOneMinusInput;
  if (node.GetInt("linear_before_reset", 0) != 0) params->reset = RnnParams::Reset::kAfterProduct;
  if (node.Has("clip") && node.GetFloat("clip", 0) > 0) params->clip = node.GetFloat("clip", 0);
  return ReadFunctions(node, params);
}

// Inputs 1 (W), 2 (R), 3 (B) and, of an LSTM, 7 (P): constants of the program when all are f32 constants, else operands.
class Weights {
 public:
  Weights(Builder& b, const Node& node, RnnParams* params) : b_(b), node_(node) {
    parts_ = {{1, &params->weights}, {2, &params->recurrence}, {3, &params->bias}};
    if (params->cell == RnnParams::Cell::kLstm) parts_.push_back({7, &params->peepholes});
    std::erase_if(parts_, [&](const Part& part) { return !node.has_input(part.input); });
  }

  absl::Status Read(DType dtype, std::vector<Location>* src) {
    bool constant = dtype == DType::kF32;
    for (const Part& part : parts_) {
      const graph::ValueId id = node_.inputs[part.input];
      const bool f32 = b_.graph().value(id).quant.has_value() || b_.info(id).dtype == DType::kF32;
      constant = constant && b_.info(id).is_constant && f32;
    }
    for (const Part& part : parts_) {
      OCTET_RETURN_IF_ERROR(constant ? ReadConstant(part) : ReadOperand(part, dtype, src));
    }
    return absl::OkStatus();
  }

  bool local() const { return local_; }

 private:
  struct Part {
    size_t input;
    kernels::RnnWeight* weight;
  };

  absl::Status ReadConstant(const Part& part) {
    const graph::ValueId id = node_.inputs[part.input];
    part.weight->spec = kernels::TensorSpec{DType::kF32, b_.info(id).shape, Layout::kPlain, std::nullopt};
    if (b_.graph().value(id).quant.has_value()) {
      OCTET_ASSIGN_OR_RETURN(part.weight->constant, DequantizedConstant(b_, id, &local_));
    } else {
      part.weight->constant = b_.Constant(id, &local_);
    }
    return absl::OkStatus();
  }

  absl::Status ReadOperand(const Part& part, DType dtype, std::vector<Location>* src) {
    OCTET_ASSIGN_OR_RETURN(const Location l, b_.GetAs(node_.inputs[part.input], Layout::kPlain, dtype, std::nullopt));
    part.weight->spec = l.spec;
    src->push_back(l);
    return absl::OkStatus();
  }

  Builder& b_;
  const Node& node_;
  std::vector<Part> parts_;
  bool local_ = false;
};

absl::Status LowerRecurrent(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  RnnParams params;
  OCTET_RETURN_IF_ERROR(ReadAttributes(node, &params));
  OCTET_ASSIGN_OR_RETURN(const Location raw, b.Get(node.inputs[0]));
  const DType dtype = raw.spec.dtype == DType::kF64 ? DType::kF64 : DType::kF32;
  OCTET_ASSIGN_OR_RETURN(const Location x, b.GetAs(node.inputs[0], Layout::kPlain, dtype, std::nullopt));
  params.src = x.spec;
  std::vector<Location> src = {x}, dst;
  Weights weights(b, node, &params);
  OCTET_RETURN_IF_ERROR(weights.Read(dtype, &src));
  if (node.has_input(4)) {
    OCTET_ASSIGN_OR_RETURN(const Location lens, b.GetPlain(node.inputs[4]));
    params.sequence_lens = lens.spec;
    src.push_back(lens);
  }
  const auto state = [&](size_t input, std::optional<kernels::TensorSpec>* spec) -> absl::Status {
    if (!node.has_input(input)) return absl::OkStatus();
    OCTET_ASSIGN_OR_RETURN(const Location l, b.GetAs(node.inputs[input], Layout::kPlain, dtype, std::nullopt));
    *spec = l.spec;
    src.push_back(l);
    return absl::OkStatus();
  };
  OCTET_RETURN_IF_ERROR(state(5, &params.initial_h));
  OCTET_RETURN_IF_ERROR(state(6, &params.initial_c));
  std::vector<graph::ValueId> bound;
  std::optional<kernels::TensorSpec>* const results[] = {&params.y, &params.y_h, &params.y_c};
  for (size_t i = 0; i < node.outputs.size() && i < 3; ++i) {
    if (node.outputs[i] == graph::kNoValue) continue;
    *results[i] = kernels::TensorSpec{dtype, b.info(node.outputs[i]).shape, Layout::kPlain, std::nullopt};
    dst.push_back(b.NewBuffer(**results[i]));
    bound.push_back(node.outputs[i]);
  }
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel, kernels::CreateRnn(params, b.env(weights.local())));
  const int64_t products = NumElements(params.weights.spec->shape) + NumElements(params.recurrence.spec->shape);
  b.Emit(std::move(kernel), std::move(src), dst, &fused, products * params.time() * params.batch(),
         params.has_constant_weights() ? products * BytesOf(DType::kF32) : 0);
  for (size_t i = 0; i < bound.size(); ++i) OCTET_RETURN_IF_ERROR(b.Bind(bound[i], dst[i]));
  return absl::OkStatus();
}

}  // namespace

void AddRecurrentRules(LowerTable* table) {
  for (const char* op : {"LSTM", "GRU", "RNN"}) table->Add(op, LowerRecurrent);
}

}  // namespace octet::engine
