// One row rule per operator family.
#include "graph/row_rules.h"

#include <algorithm>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "graph/einsum.h"
#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

struct RowArgs {
  const Node& node;
  absl::Span<const RowOperand> in;
  size_t result_rank;

  bool rows(size_t i) const { return i < in.size() && in[i].rows(); }
  bool has(size_t i) const { return i < in.size() && in[i].present; }
  size_t rank(size_t i) const { return i < in.size() && in[i].shape ? in[i].shape->size() : 0; }
};

template <typename... Args>
absl::Status Mixes(const Args&... args) {
  return absl::FailedPreconditionError(absl::StrCat(args...));
}

// Operand i has nothing to do with the batch.
absl::Status RequireNone(const RowArgs& args, size_t i) {
  if (!args.has(i) || args.in[i].flow == Flow::kNone) return absl::OkStatus();
  return Mixes("reads as operand ", i, " what depends on the ",
               args.in[i].flow == Flow::kRows ? "rows" : "batch size");
}

// Only operand 0 has rows.
absl::Status FirstOnly(const RowArgs& args) {
  if (!args.rows(0)) return Mixes("has rows in another operand than its first");
  for (size_t i = 1; i < args.in.size(); ++i) OCTET_RETURN_IF_ERROR(RequireNone(args, i));
  return absl::OkStatus();
}

// Operand 0 has rows; the others are none, or targets of which element `axis0` alone comes from the
// batch size: the result's shape shows whether it is the batch size itself.
absl::Status FirstAndTarget(const RowArgs& args, std::optional<size_t> axis0) {
  if (!args.rows(0)) return Mixes("has rows in another operand than its first");
  for (size_t i = 1; i < args.in.size(); ++i) {
    if (args.rows(i)) return Mixes("reads its operand ", i, " from the rows");
    if (!args.has(i) || args.in[i].flow == Flow::kNone) continue;
    const std::vector<bool>& independent = args.in[i].independent;
    bool only_axis0 = !independent.empty();
    for (size_t k = 0; k < independent.size(); ++k) {
      only_axis0 = only_axis0 && (independent[k] || k == axis0);
    }
    if (!only_axis0) return Mixes("works on another axis than 0 with a function of the batch size");
  }
  return absl::OkStatus();
}

absl::Status Reshape(const RowArgs& args) { return FirstAndTarget(args, 0); }

absl::Status Resize(const RowArgs& args) {
  return FirstAndTarget(args, args.node.Has("axes") ? std::nullopt : std::optional<size_t>(0));
}

absl::Status Slice(const RowArgs& args) {
  std::optional<size_t> axis0;
  if (!args.has(3)) {
    axis0 = 0;
  } else if (args.in[3].integers.has_value()) {
    const std::vector<int64_t>& axes = *args.in[3].integers;
    for (size_t i = 0; i < axes.size(); ++i) {
      if (axes[i] == 0 || axes[i] == -static_cast<int64_t>(args.rank(0))) axis0 = i;
    }
  }
  return FirstAndTarget(args, axis0);
}

absl::Status Aligned(const RowArgs& args) {
  for (size_t i = 0; i < args.in.size(); ++i) {
    if (!args.has(i)) continue;
    const RowOperand& operand = args.in[i];
    if (operand.flow == Flow::kCount)
      return Mixes("combines rows with a function of the batch size");
    if (operand.rows() && args.rank(i) != args.result_rank) {
      return Mixes("broadcasts the rows of operand ", i, " along another axis");
    }
    if (!operand.rows() && !operand.broadcasts_along_axis0(args.result_rank)) {
      return Mixes("combines rows with operand ", i, " of shape ",
                   operand.shape ? Str(*operand.shape) : "unknown",
                   ", which has elements of its own along axis 0");
    }
  }
  return absl::OkStatus();
}

absl::Status RequireOtherAxis(const RowArgs& args, int64_t axis) {
  if (axis < 0) axis += static_cast<int64_t>(args.rank(0));
  return axis != 0 ? absl::OkStatus() : Mixes("works along axis 0");
}

absl::Status AxisDefaultLast(const RowArgs& args) {
  OCTET_RETURN_IF_ERROR(FirstOnly(args));
  return RequireOtherAxis(args, args.node.GetInt("axis", -1));
}

absl::Status AxisDefaultFirst(const RowArgs& args) {
  OCTET_RETURN_IF_ERROR(FirstOnly(args));
  return RequireOtherAxis(args, args.node.GetInt("axis", 0));
}

absl::Status LayerNormalization(const RowArgs& args) {
  OCTET_RETURN_IF_ERROR(AxisDefaultLast(args));
  return Aligned(args);
}

absl::Status Pool(const RowArgs& args) {
  if (args.node.outputs.size() > 1 && args.node.outputs[1] != kNoValue) {
    return Mixes("counts its indices over the whole batch");
  }
  return FirstOnly(args);
}

absl::Status MeanVariance(const RowArgs& args) {
  for (int64_t axis : args.node.GetInts("axes", {0, 2, 3})) {
    OCTET_RETURN_IF_ERROR(RequireOtherAxis(args, axis));
  }
  return FirstOnly(args);
}

absl::Status Reduce(const RowArgs& args) {
  OCTET_RETURN_IF_ERROR(FirstOnly(args));
  if (args.has(1) && !args.in[1].integers.has_value()) return Mixes("has axes that are not known");
  if (!args.has(1) || args.in[1].integers->empty()) {
    return args.node.GetInt("noop_with_empty_axes", 0) != 0 ? absl::OkStatus()
                                                            : Mixes("reduces all axes");
  }
  for (int64_t axis : *args.in[1].integers) OCTET_RETURN_IF_ERROR(RequireOtherAxis(args, axis));
  return absl::OkStatus();
}

absl::Status CumSum(const RowArgs& args) {
  OCTET_RETURN_IF_ERROR(FirstOnly(args));
  if (!args.in[1].integers.has_value() || args.in[1].integers->size() != 1) {
    return Mixes("has an axis that is not known");
  }
  return RequireOtherAxis(args, (*args.in[1].integers)[0]);
}

absl::Status Transpose(const RowArgs& args) {
  const std::vector<int64_t> perm = args.node.GetInts("perm");
  const bool keeps = perm.empty() ? args.rank(0) < 2
                                  : perm[0] == 0 || perm[0] == -static_cast<int64_t>(perm.size());
  return keeps ? absl::OkStatus() : Mixes("moves axis 0");
}

absl::Status Concat(const RowArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireOtherAxis(args, args.node.GetInt("axis", 0)));
  for (size_t i = 0; i < args.in.size(); ++i) {
    if (!args.rows(i)) return Mixes("joins rows with operand ", i, ", which has none");
  }
  return absl::OkStatus();
}

absl::Status Gather(const RowArgs& args) {
  const int64_t axis = args.node.GetInt("axis", 0);
  if (args.rows(0)) return AxisDefaultFirst(args);
  OCTET_RETURN_IF_ERROR(RequireNone(args, 0));
  const bool first = axis == 0 || axis == -static_cast<int64_t>(args.rank(0));
  return first ? absl::OkStatus() : Mixes("puts the rows of its indices along another axis");
}

absl::Status GatherElements(const RowArgs& args) {
  if (!args.rows(0) || !args.rows(1)) return Mixes("needs rows in both operands");
  return RequireOtherAxis(args, args.node.GetInt("axis", 0));
}

absl::Status GatherNd(const RowArgs& args) {
  const int64_t batch = args.node.GetInt("batch_dims", 0);
  if (args.rows(0) && args.rows(1) && batch >= 1) return absl::OkStatus();
  if (!args.rows(0) && args.rows(1) && batch == 0 && args.rank(1) >= 2) return RequireNone(args, 0);
  return Mixes("picks elements of any row");
}

absl::Status Expand(const RowArgs& args) {
  const bool full = args.in[1].independent.size() == args.result_rank;
  OCTET_RETURN_IF_ERROR(FirstAndTarget(args, full ? std::optional<size_t>(0) : std::nullopt));
  if (args.rank(0) != args.result_rank) return Mixes("broadcasts the rows along another axis");
  return absl::OkStatus();
}

absl::Status Trilu(const RowArgs& args) {
  if (args.rank(0) < 3) return Mixes("works along axis 0");
  return FirstOnly(args);
}

absl::Status MatMul(const RowArgs& args) {
  const size_t a = args.rank(0), b = args.rank(1);
  if (args.rows(0) && args.rows(1)) {
    return a == b && a >= 3 ? absl::OkStatus() : Mixes("multiplies rows by rows");
  }
  if (args.rows(0)) {
    OCTET_RETURN_IF_ERROR(RequireNone(args, 1));
    return a >= 2 ? absl::OkStatus() : Mixes("sums over axis 0");
  }
  OCTET_RETURN_IF_ERROR(RequireNone(args, 0));
  return b >= 3 ? absl::OkStatus() : Mixes("sums over axis 0");
}

absl::Status Gemm(const RowArgs& args) {
  if (!args.rows(0) || args.node.GetInt("transA", 0) != 0) return Mixes("sums over axis 0");
  OCTET_RETURN_IF_ERROR(RequireNone(args, 1));
  if (!args.has(2) || (args.rows(2) && args.rank(2) == 2)) return absl::OkStatus();
  OCTET_RETURN_IF_ERROR(RequireNone(args, 2));
  return args.in[2].broadcasts_along_axis0(2)
             ? absl::OkStatus()
             : Mixes("adds an operand with elements of its own along axis 0");
}

absl::Status ScatterElements(const RowArgs& args) {
  if (!args.rows(0) || !args.rows(1) || !args.rows(2)) return Mixes("needs rows in all operands");
  return RequireOtherAxis(args, args.node.GetInt("axis", 0));
}

// Operands 0 and 1 walk their first axes together.
absl::Status Pairs(const RowArgs& args) {
  return args.rows(0) && args.rows(1) ? absl::OkStatus() : Mixes("needs rows in both operands");
}

absl::Status ReverseSequence(const RowArgs& args) {
  if (args.node.GetInt("batch_axis", 1) != 0) return Mixes("has its batch on axis 1");
  return Pairs(args);
}

absl::Status CenterCropPad(const RowArgs& args) {
  if (!args.node.Has("axes")) return FirstAndTarget(args, 0);
  for (int64_t axis : args.node.GetInts("axes")) OCTET_RETURN_IF_ERROR(RequireOtherAxis(args, axis));
  return FirstOnly(args);
}

absl::Status DeformConv(const RowArgs& args) {
  if (!args.rows(0) || !args.rows(2) || (args.has(4) && !args.rows(4))) {
    return Mixes("needs rows in input, offset and mask");
  }
  OCTET_RETURN_IF_ERROR(RequireNone(args, 1));
  return RequireNone(args, 3);
}

absl::Status Dft(const RowArgs& args) {
  OCTET_RETURN_IF_ERROR(FirstOnly(args));
  if (!args.has(2)) return RequireOtherAxis(args, -2);
  if (!args.in[2].integers.has_value() || args.in[2].integers->size() != 1) {
    return Mixes("has an axis that is not known");
  }
  return RequireOtherAxis(args, (*args.in[2].integers)[0]);
}

// Rows carry a label of their own that leads the result and that no operand without rows has.
absl::Status EinsumRows(const RowArgs& args) {
  std::vector<size_t> ranks;
  for (size_t i = 0; i < args.in.size(); ++i) {
    if (!args.has(i) || !args.in[i].shape.has_value()) return Mixes("has an operand of unknown rank");
    if (args.in[i].flow == Flow::kCount) return Mixes("computes with a function of the batch size");
    ranks.push_back(args.rank(i));
  }
  const auto einsum = ParseEinsum(args.node.GetString("equation", ""), ranks);
  if (!einsum.ok() || einsum->result.empty()) return Mixes("sums over axis 0");
  const int row = einsum->result[0];
  for (size_t i = 0; i < args.in.size(); ++i) {
    const Einsum::Labels& labels = einsum->operands[i];
    const auto count = std::count(labels.begin(), labels.end(), row);
    if (args.rows(i) ? labels.empty() || labels[0] != row || count != 1 : count != 0) {
      return Mixes("combines rows of its operand ", i, " with others");
    }
  }
  return absl::OkStatus();
}

absl::Status TfIdf(const RowArgs& args) {
  return args.rank(0) == 2 ? FirstOnly(args) : Mixes("counts over axis 0");
}

absl::Status Recurrent(const RowArgs& args) {
  if (args.node.GetInt("layout", 0) != 1) return Mixes("has its batch on axis 1");
  for (size_t i : {size_t{1}, size_t{2}, size_t{3}, size_t{7}}) {
    OCTET_RETURN_IF_ERROR(RequireNone(args, i));
  }
  for (size_t i : {size_t{4}, size_t{5}, size_t{6}}) {
    if (args.has(i) && !args.rows(i)) return Mixes("has a state that is not per row");
  }
  return args.rows(0) ? absl::OkStatus() : Mixes("has rows in another operand than its first");
}

// Zero points of rows (a list with an element per row) would mix with the batch.
absl::Status IntegerProduct(const RowArgs& args) {
  OCTET_RETURN_IF_ERROR(FirstOnly(args));
  if (args.has(2) && !(args.in[2].shape.has_value() && args.rank(2) == 0)) {
    if (!args.in[2].shape.has_value() || *args.in[2].shape != Shape{1}) {
      return Mixes("has a zero point for each row");
    }
  }
  return args.node.op == "ConvInteger" || args.rank(0) >= 2 ? absl::OkStatus()
                                                            : Mixes("sums over axis 0");
}

absl::Status Dynamic(const RowArgs& args) {
  OCTET_RETURN_IF_ERROR(FirstOnly(args));
  return args.node.op == "DynamicConv" || args.rank(0) >= 2 ? absl::OkStatus()
                                                            : Mixes("sums over axis 0");
}

absl::Status DynamicRange(const RowArgs&) {
  return Mixes("takes one range over all rows");
}

using RowRule = absl::Status (*)(const RowArgs&);

const absl::flat_hash_map<absl::string_view, RowRule>& RowRules() {
  static const auto& rules = *[] {
    auto* out = new absl::flat_hash_map<absl::string_view, RowRule>{
        {"AffineGrid", Reshape},
        {"ArgMax", AxisDefaultFirst},
        {"ArgMin", AxisDefaultFirst},
        {"AveragePool", Pool},
        {"BatchNormalization", FirstOnly},
        {"CenterCropPad", CenterCropPad},
        {"Col2Im", FirstOnly},
        {"Concat", Concat},
        {"Conv", FirstOnly},
        {"ConvInteger", IntegerProduct},
        {"ConvTranspose", FirstOnly},
        {"CumSum", CumSum},
        {"DFT", Dft},
        {"DeformConv", DeformConv},
        {"DepthToSpace", FirstOnly},
        {"Det", Trilu},
        {"DynamicConv", Dynamic},
        {"DynamicMatMul", Dynamic},
        {"DynamicQuantizeLinear", DynamicRange},
        {"Einsum", EinsumRows},
        {"Expand", Expand},
        {"Flatten", FirstOnly},
        {"GRU", Recurrent},
        {"Gather", Gather},
        {"GatherElements", GatherElements},
        {"GatherND", GatherNd},
        {"Gemm", Gemm},
        {"GlobalAveragePool", FirstOnly},
        {"GlobalLpPool", FirstOnly},
        {"GlobalMaxPool", FirstOnly},
        {"GridSample", Pairs},
        {"GroupNormalization", FirstOnly},
        {"Hardmax", AxisDefaultLast},
        {"InstanceNormalization", FirstOnly},
        {"LRN", FirstOnly},
        {"LSTM", Recurrent},
        {"LayerNormalization", LayerNormalization},
        {"LogSoftmax", AxisDefaultLast},
        {"LpNormalization", AxisDefaultLast},
        {"LpPool", FirstOnly},
        {"MatMul", MatMul},
        {"MatMulInteger", IntegerProduct},
        {"MaxPool", Pool},
        {"MeanVarianceNormalization", MeanVariance},
        {"OneHot", FirstOnly},
        {"Pad", FirstOnly},
        {"RNN", Recurrent},
        {"Reinterpret", FirstOnly},
        {"Reshape", Reshape},
        {"Resize", Resize},
        {"ReverseSequence", ReverseSequence},
        {"STFT", FirstOnly},
        {"ScatterElements", ScatterElements},
        {"Slice", Slice},
        {"Softmax", AxisDefaultLast},
        {"SpaceToDepth", FirstOnly},
        {"Split", AxisDefaultFirst},
        {"Squeeze", FirstOnly},
        {"TfIdfVectorizer", TfIdf},
        {"Tile", FirstOnly},
        {"TopK", AxisDefaultLast},
        {"Transpose", Transpose},
        {"Trilu", Trilu},
        {"Unsqueeze", FirstOnly},
    };
    for (const char* op :
         {"L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"}) {
      (*out)[*new std::string(absl::StrCat("Reduce", op))] = Reduce;
    }
    for (const RuleEntry& entry : ElementwiseRules()) (*out)[entry.op] = Aligned;
    return out;
  }();
  return rules;
}

}  // namespace

absl::Status KeepsRows(const Node& node, absl::Span<const RowOperand> operands,
                       size_t result_rank) {
  const auto it = RowRules().find(node.op);
  if (!node.domain.empty() || it == RowRules().end()) {
    return Mixes("is an operator for which no rule says that it keeps rows apart");
  }
  return it->second(RowArgs{node, operands, result_rank});
}

}  // namespace octet::graph
