// Shape rules of operators that the engine's passes make (ONNX has them in later opsets, or not at all).
#include <algorithm>

#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

absl::StatusOr<Results> SameFloat(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  return One(args.dtype(0), args.shape(0));
}

absl::StatusOr<Results> RmsNormalization(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  OCTET_RETURN_IF_ERROR(NormalizeAxis(args.node.GetInt("axis", -1), args.shape(0)->size()).status());
  return One(args.dtype(0), args.shape(0));
}

// The dimensions of operand i in logical order. Errors: kInvalidArgument when the perm is none.
absl::StatusOr<Shape> Logical(const RuleArgs& args, size_t i, absl::string_view key) {
  const Shape& stored = *args.shape(i);
  const std::vector<int64_t> perm = args.node.GetInts(key);
  if (perm.size() != stored.size()) return Invalid(key, " has ", perm.size(), " entries, expected ", stored.size());
  OCTET_RETURN_IF_ERROR(NormalizeAxes(perm, stored.size()).status());
  Shape logical;
  for (int64_t d : perm) logical.push_back(stored[static_cast<size_t>(d)]);
  return logical;
}

// engine/passes/patterns_attention.cc has the meaning.
absl::StatusOr<Results> FusedAttention(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  for (size_t i = 0; i < 3; ++i) {
    if (!args.shape(i).has_value()) return One(args.dtype(0), std::nullopt);
    OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(i), 3, 4));
  }
  OCTET_ASSIGN_OR_RETURN(const Shape q, Logical(args, 0, "q_perm"));
  OCTET_ASSIGN_OR_RETURN(const Shape k, Logical(args, 1, "k_perm"));
  OCTET_ASSIGN_OR_RETURN(const Shape v, Logical(args, 2, "v_perm"));
  const size_t rank = q.size();
  if (k.size() != rank || v.size() != rank) return Invalid("ranks of Q, K and V differ");
  OCTET_RETURN_IF_ERROR(MergeDims(q[rank - 1], k[rank - 2], "depth").status());
  OCTET_RETURN_IF_ERROR(MergeDims(k[rank - 1], v[rank - 2], "keys").status());
  OCTET_ASSIGN_OR_RETURN(Shape batch, Broadcast(absl::MakeConstSpan(q).first(rank - 2),
                                                absl::MakeConstSpan(k).first(rank - 2)));
  OCTET_ASSIGN_OR_RETURN(Shape logical, Broadcast(batch, absl::MakeConstSpan(v).first(rank - 2)));
  logical.push_back(q[rank - 2]);
  logical.push_back(v[rank - 1]);
  const std::vector<int64_t> perm = args.node.GetInts("y_perm");
  if (perm.size() != rank) return Invalid("y_perm has ", perm.size(), " entries, expected ", rank);
  OCTET_RETURN_IF_ERROR(NormalizeAxes(perm, rank).status());
  Shape stored(rank);
  for (size_t i = 0; i < rank; ++i) stored[static_cast<size_t>(perm[i])] = logical[i];
  return One(args.dtype(0), std::move(stored));
}

constexpr RuleEntry kRules[] = {
    {"FusedAttention", FusedAttention, 3, 4},
    {"RMSNormalization", RmsNormalization, 2, 2},
    {"Swish", SameFloat, 1, 1},
};

}  // namespace

absl::Span<const RuleEntry> FusedRules() { return kRules; }

}  // namespace octet::graph
