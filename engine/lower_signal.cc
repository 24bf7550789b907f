// Lowering of signal processing: Fourier transforms, window functions, mel filters, n-gram counts.
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "kernels/plain/dft.h"
#include "kernels/plain/ngram_counts.h"
#include "kernels/plain/signal_tables.h"

namespace octet::engine {
namespace {

using graph::Node;

absl::StatusOr<int64_t> ConstantInt(Builder& b, const Node& node, size_t i, int64_t absent) {
  if (!node.has_input(i)) return absent;
  OCTET_ASSIGN_OR_RETURN(const std::vector<int64_t> values, b.ConstantInts(node.inputs[i]));
  if (values.size() == 1) return values[0];
  return absl::InvalidArgumentError(
      absl::StrCat("operand ", i, " has ", values.size(), " elements, expected one"));
}

absl::Status LowerDft(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const std::vector<Location> src, RealOperands(b, {node.inputs[0]}));
  const auto rank = static_cast<int64_t>(src[0].spec.shape.size());
  OCTET_ASSIGN_OR_RETURN(int64_t axis, ConstantInt(b, node, 2, -2));
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank)
    return absl::InvalidArgumentError(absl::StrCat("axis of an operand of rank ", rank));
  kernels::DftParams params;
  params.src = params.dst = src[0].spec;
  params.dst.shape = b.info(fused.output).shape;
  params.axis = static_cast<int>(axis);
  OCTET_ASSIGN_OR_RETURN(params.length,
                         ConstantInt(b, node, 1, src[0].spec.shape[static_cast<size_t>(axis)]));
  using Direction = kernels::DftParams::Direction;
  params.direction = node.GetInt("inverse", 0) != 0 ? Direction::kInverse : Direction::kForward;
  const Location dst = b.NewBuffer(params.dst);
  OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateDft(params, b.env()));
  b.Emit(std::move(kernel), {src[0]}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status LowerStft(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  std::vector<graph::ValueId> ids = {node.inputs[0]};
  if (node.has_input(2)) ids.push_back(node.inputs[2]);
  OCTET_ASSIGN_OR_RETURN(const std::vector<Location> src, RealOperands(b, ids));
  kernels::StftParams params;
  params.signal = params.dst = src[0].spec;
  params.dst.shape = b.info(fused.output).shape;
  params.length = src[0].spec.shape[1];
  if (node.has_input(2)) {
    params.window = src[1].spec;
    params.length = NumElements(src[1].spec.shape);
  }
  OCTET_ASSIGN_OR_RETURN(params.length, ConstantInt(b, node, 3, params.length));
  OCTET_ASSIGN_OR_RETURN(params.step, ConstantInt(b, node, 1, 1));
  const Location dst = b.NewBuffer(params.dst);
  OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateStft(params, b.env()));
  b.Emit(std::move(kernel), src, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

absl::Status EmitTable(Builder& b, const FusedNode& fused, std::vector<double> values) {
  const Location dst = b.NewBuffer(b.OutputSpec(fused.output, kernels::Layout::kPlain));
  OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateTable(dst.spec, std::move(values)));
  b.Emit(std::move(kernel), {}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

// Tables are worked out in f64 while the program is made: a file must not ask for more than this.
constexpr int64_t kMaxTableElements = int64_t{1} << 24;

absl::Status CheckTableSize(Builder& b, const FusedNode& fused) {
  const Shape& shape = b.info(fused.output).shape;
  OCTET_ASSIGN_OR_RETURN(const int64_t n, CheckedNumElements(shape));
  if (n <= kMaxTableElements) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("a table of shape ", ShapeString(shape), ", the limit is 2^24 elements"));
}

absl::Status LowerWindow(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_RETURN_IF_ERROR(CheckTableSize(b, fused));
  using Kind = kernels::WindowKind;
  using Period = kernels::WindowPeriod;
  const Kind kind = node.op == "HannWindow"      ? Kind::kHann
                    : node.op == "HammingWindow" ? Kind::kHamming
                                                 : Kind::kBlackman;
  const Period period = node.GetInt("periodic", 1) != 0 ? Period::kPeriodic : Period::kSymmetric;
  return EmitTable(b, fused, kernels::WindowTable(kind, period, b.info(fused.output).shape[0]));
}

absl::Status LowerMelWeightMatrix(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  kernels::MelParams params;
  OCTET_RETURN_IF_ERROR(CheckTableSize(b, fused));
  OCTET_ASSIGN_OR_RETURN(params.mel_bins, ConstantInt(b, node, 0, 0));
  OCTET_ASSIGN_OR_RETURN(params.dft_length, ConstantInt(b, node, 1, 0));
  OCTET_ASSIGN_OR_RETURN(params.sample_rate, ConstantInt(b, node, 2, 0));
  for (size_t i : {size_t{3}, size_t{4}}) {
    OCTET_ASSIGN_OR_RETURN(const std::vector<float> edge, b.ConstantFloats(node.inputs[i]));
    if (edge.size() != 1)
      return absl::InvalidArgumentError(absl::StrCat("operand ", i, " is not one number"));
    (i == 3 ? params.lower_hertz : params.upper_hertz) = edge[0];
  }
  OCTET_ASSIGN_OR_RETURN(std::vector<double> table, kernels::MelTable(params));
  return EmitTable(b, fused, std::move(table));
}

absl::StatusOr<std::vector<float>> FloatsOf(const Node& node, const std::string& key) {
  const auto it = node.attributes.find(key);
  if (it == node.attributes.end()) return std::vector<float>();
  if (const auto* list = std::get_if<std::vector<float>>(&it->second)) return *list;
  return absl::InvalidArgumentError(absl::StrCat("attribute '", key, "' is no list of floats"));
}

absl::Status LowerTfIdf(Builder& b, const FusedNode& fused) {
  const Node& node = *fused.node;
  OCTET_ASSIGN_OR_RETURN(const Location src, b.GetPlain(node.inputs[0]));
  using Mode = kernels::NgramParams::Mode;
  const std::string mode = node.GetString("mode", "TF");
  if (mode != "TF" && mode != "IDF" && mode != "TFIDF") {
    return absl::InvalidArgumentError(absl::StrCat("mode '", mode, "', expected TF, IDF or TFIDF"));
  }
  kernels::NgramParams params;
  params.src = src.spec;
  params.dst = b.OutputSpec(fused.output, kernels::Layout::kPlain);
  params.min_length = node.GetInt("min_gram_length", 1);
  params.max_length = node.GetInt("max_gram_length", 1);
  params.max_skip = node.GetInt("max_skip_count", 0);
  params.mode = mode == "TF" ? Mode::kTf : mode == "IDF" ? Mode::kIdf : Mode::kTfIdf;
  params.starts = node.GetInts("ngram_counts");
  params.pool = node.GetInts("pool_int64s");
  params.columns = node.GetInts("ngram_indexes");
  OCTET_ASSIGN_OR_RETURN(params.weights, FloatsOf(node, "weights"));
  const Location dst = b.NewBuffer(params.dst);
  OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateNgramCounts(params, b.env()));
  b.Emit(std::move(kernel), {src}, {dst}, &fused);
  return b.Bind(fused.output, dst);
}

}  // namespace

void AddSignalRules(LowerTable* table) {
  table->Add("BlackmanWindow", LowerWindow);
  table->Add("DFT", LowerDft);
  table->Add("HammingWindow", LowerWindow);
  table->Add("HannWindow", LowerWindow);
  table->Add("MelWeightMatrix", LowerMelWeightMatrix);
  table->Add("STFT", LowerStft);
  table->Add("TfIdfVectorizer", LowerTfIdf);
}

}  // namespace octet::engine
