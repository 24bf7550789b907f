// Shape rules of matrix products and recurrent layers.
#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

absl::StatusOr<Results> Gemm(const RuleArgs& args) {
  if (args.dtype(0) == DType::kBool) return Invalid("operand 0 has type bool, expected a number");
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 1));
  if (args.has(2)) OCTET_RETURN_IF_ERROR(SameType(args, 0, 2));
  Shape a = AllUnknown(2), b = AllUnknown(2);
  if (args.shape(0).has_value()) a = *args.shape(0);
  if (args.shape(1).has_value()) b = *args.shape(1);
  OCTET_RETURN_IF_ERROR(RequireRank(a, 2, 2));
  OCTET_RETURN_IF_ERROR(RequireRank(b, 2, 2));
  const std::string found = absl::StrCat(Str(a), " x ", Str(b));
  if (args.node.GetInt("transA", 0) != 0) std::swap(a[0], a[1]);
  if (args.node.GetInt("transB", 0) != 0) std::swap(b[0], b[1]);
  if (Known(a[1]) && Known(b[0]) && a[1] != b[0]) {
    return Invalid("product of ", found, ": inner sizes ", a[1], " and ", b[0], " differ");
  }
  Shape out = {a[0], b[1]};
  if (args.has(2) && args.shape(2).has_value()) {
    OCTET_ASSIGN_OR_RETURN(const Shape both, Broadcast(out, *args.shape(2)));
    for (size_t i = 0; i < both.size(); ++i) {
      if (both.size() != 2 || (Known(out[i]) && both[i] != out[i])) {
        return Invalid("operand 2 of shape ", Str(*args.shape(2)), " does not broadcast to ",
                       Str(out));
      }
    }
  }
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> MatMul(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 1));
  if (!args.shape(0).has_value() || !args.shape(1).has_value()) {
    return One(args.dtype(0), std::nullopt);
  }
  Shape a = *args.shape(0), b = *args.shape(1);
  if (a.empty() || b.empty()) return Invalid("product of ", Str(a), " x ", Str(b), ": a scalar");
  const bool a_vector = a.size() == 1, b_vector = b.size() == 1;
  if (a_vector) a.insert(a.begin(), 1);
  if (b_vector) b.push_back(1);
  const int64_t k = a.back(), bk = b[b.size() - 2];
  if (Known(k) && Known(bk) && k != bk) {
    return Invalid("product of ", Str(*args.shape(0)), " x ", Str(*args.shape(1)), ": inner sizes ",
                   k, " and ", bk, " differ");
  }
  OCTET_ASSIGN_OR_RETURN(Shape out, Broadcast(absl::MakeConstSpan(a).first(a.size() - 2),
                                              absl::MakeConstSpan(b).first(b.size() - 2)));
  if (!a_vector) out.push_back(a[a.size() - 2]);
  if (!b_vector) out.push_back(b.back());
  return One(args.dtype(0), std::move(out));
}

// X [time, batch, input] (batch first with layout 1) -> Y [time, directions, batch, hidden], Y_h
// and Y_c.
absl::StatusOr<Results> Recurrent(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 1));
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 2));
  const int64_t gates = args.node.op == "LSTM" ? 4 : args.node.op == "GRU" ? 3 : 1;
  const bool batch_first = args.node.GetInt("layout", 0) == 1;
  Shape x = AllUnknown(3), w = AllUnknown(3), r = AllUnknown(3);
  if (args.shape(0).has_value()) x = *args.shape(0);
  if (args.shape(1).has_value()) w = *args.shape(1);
  if (args.shape(2).has_value()) r = *args.shape(2);
  for (const Shape& shape : {x, w, r}) OCTET_RETURN_IF_ERROR(RequireRank(shape, 3, 3));
  const std::string direction = args.node.GetString("direction", "forward");
  const int64_t directions = direction == "bidirectional" ? 2 : 1;
  int64_t hidden = args.node.GetInt("hidden_size", kUnknownDim);
  if (args.node.Has("hidden_size") && (hidden < 1 || hidden > kMaxAttribute)) {
    return Invalid("attribute 'hidden_size' is ", hidden);
  }
  OCTET_ASSIGN_OR_RETURN(hidden, MergeDims(hidden, r[2], "hidden size of the recurrence weights"));
  OCTET_RETURN_IF_ERROR(MergeDims(directions, w[0], "directions of the weights").status());
  OCTET_RETURN_IF_ERROR(MergeDims(x[2], w[2], "input size of the weights").status());
  if (Known(hidden)) {
    OCTET_RETURN_IF_ERROR(
        MergeDims(gates * hidden, w[1], "gates x hidden of the weights").status());
  }
  const int64_t time = batch_first ? x[1] : x[0], batch = batch_first ? x[0] : x[1];
  const Shape y =
      batch_first ? Shape{batch, time, directions, hidden} : Shape{time, directions, batch, hidden};
  const Shape last =
      batch_first ? Shape{batch, directions, hidden} : Shape{directions, batch, hidden};
  Results out = {{args.dtype(0), y}, {args.dtype(0), last}};
  if (args.node.op == "LSTM") out.push_back({args.dtype(0), last});
  return out;
}

constexpr RuleEntry kRules[] = {
    {"GRU", Recurrent, 3, 6}, {"Gemm", Gemm, 2, 3},     {"LSTM", Recurrent, 3, 8},
    {"MatMul", MatMul, 2, 3}, {"RNN", Recurrent, 3, 6},
};

}  // namespace

absl::Span<const RuleEntry> ProductRules() { return kRules; }

}  // namespace octet::graph
