// What shape rules are written with; internal to graph/.
//
// Inside inference an unknown dimension is any negative number: kUnknownDim when nothing is known
// of it, another one (a symbol, <= kFirstSymbol) when it equals every other dimension that carries
// the same number. Rules copy dimensions around and so keep symbols without knowing of them. Known
// dimensions are at most kMaxDim, so sums of a few of them and of checked attributes cannot
// overflow; products go through CheckedMul.
#ifndef OCTET_GRAPH_INFER_RULES_H_
#define OCTET_GRAPH_INFER_RULES_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "graph/shape_inference.h"

namespace octet::graph {

inline constexpr int64_t kFirstSymbol = -2;
inline constexpr int64_t kMaxDim = int64_t{1} << 40;        // a larger dimension is an absurd file
inline constexpr int64_t kMaxAttribute = int64_t{1} << 31;  // of strides, pads, kernels, dilations

inline bool Known(int64_t dim) { return dim >= 0; }

// One element of a small tensor: known, or equal to a dimension with that symbol, or neither.
struct Element {
  // An unknown number of which it is known that it does not come from the batch size (batching.cc
  // marks so).
  static constexpr int64_t kIndependent = std::numeric_limits<int64_t>::min();

  bool known = false;
  int64_t integer = 0;        // of integer and bool tensors; also of reals, truncated
  double real = 0;            // of float tensors
  int64_t dim = kUnknownDim;  // when not known: a symbol, kUnknownDim or kIndependent

  static Element Integer(int64_t value) { return {true, value, static_cast<double>(value), 0}; }
  static Element OfDim(int64_t dim) { return dim >= 0 ? Integer(dim) : Element{false, 0, 0, dim}; }
};

struct PartialElements {
  static constexpr int64_t kMaxElements = 256;
  DType dtype = DType::kInvalid;
  Shape shape;                    // concrete
  std::vector<Element> elements;  // row-major
};

// Elements of a constant of at most kMaxElements elements.
std::optional<PartialElements> PartialOf(const Tensor& tensor);

using Results = std::vector<ResultInfo>;

// The elements of `node`'s outputs where its operands are known well enough (partial_elements.cc);
// `results` are what its rule returned. Shorter than `results` when nothing is known of the rest.
std::vector<std::optional<PartialElements>> FollowElements(const Node& node,
                                                           absl::Span<const OperandInfo> operands,
                                                           const Results& results);

// The operands of one call of a rule; has checked counts and presence of required operands.
struct RuleArgs {
  const Node& node;
  absl::Span<const OperandInfo> in;

  bool has(size_t i) const { return i < in.size() && in[i].present; }
  DType dtype(size_t i) const { return has(i) ? in[i].dtype : DType::kInvalid; }
  const std::optional<Shape>& shape(size_t i) const;

  // Elements of integer operand i (never kIndependent): nullopt when neither they nor their number
  // is known. Errors: kInvalidArgument when the operand is not of an integer type or has rank
  // above 1.
  absl::StatusOr<std::optional<std::vector<Element>>> Integers(size_t i,
                                                               absl::string_view what) const;
  // The same when every element is known, else nullopt.
  absl::StatusOr<std::optional<std::vector<int64_t>>> KnownIntegers(size_t i,
                                                                    absl::string_view what) const;
};

using Rule = absl::StatusOr<Results> (*)(const RuleArgs& args);
inline constexpr size_t kVariadic = 1 << 20;
struct RuleEntry {
  const char* op;
  Rule rule;
  size_t min_inputs;  // the first min_inputs operands must be present
  size_t max_inputs;
};

// One table per operator family (infer_<family>.cc).
absl::Span<const RuleEntry> ElementwiseRules();
absl::Span<const RuleEntry> WindowRules();
absl::Span<const RuleEntry> ProductRules();
absl::Span<const RuleEntry> NormalizationRules();
absl::Span<const RuleEntry> MovementRules();
absl::Span<const RuleEntry> IndexingRules();
absl::Span<const RuleEntry> ReshapeRules();
absl::Span<const RuleEntry> ReductionRules();
absl::Span<const RuleEntry> ResizeRules();
absl::Span<const RuleEntry> GenerationRules();
absl::Span<const RuleEntry> SelectionRules();
absl::Span<const RuleEntry> QuantizationRules();
absl::Span<const RuleEntry> SamplingRules();
absl::Span<const RuleEntry> SignalRules();
absl::Span<const RuleEntry> FusedRules();

// ---- helpers

template <typename... Args>
absl::Status Invalid(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

// "[?, 3]": symbols print as "?".
std::string Str(absl::Span<const int64_t> shape);

Results One(DType dtype, std::optional<Shape> shape);
Shape AllUnknown(size_t rank);

// axis in [-rank, rank) -> [0, rank). Errors: kInvalidArgument naming both.
absl::StatusOr<int> NormalizeAxis(int64_t axis, size_t rank);
// Several, distinct.
absl::StatusOr<std::vector<int>> NormalizeAxes(absl::Span<const int64_t> axes, size_t rank);

// One dimension from two that must be equal; `what` names them in the error.
absl::StatusOr<int64_t> MergeDims(int64_t a, int64_t b, absl::string_view what);
// Numpy broadcast as base/shape.h has it, with symbols.
absl::StatusOr<Shape> Broadcast(absl::Span<const int64_t> a, absl::Span<const int64_t> b);

// a * b. Errors: kInvalidArgument above kMaxDim. Requires: both >= 0.
absl::StatusOr<int64_t> CheckedMul(int64_t a, int64_t b, absl::string_view what);

// Known non-negative value within [0, kMaxDim], or an error that names `what`.
absl::StatusOr<int64_t> CheckedDim(int64_t value, absl::string_view what);

// Errors unless the types of operands i and j agree or one is unknown.
absl::Status SameType(const RuleArgs& args, size_t i, size_t j);
absl::Status RequireFloat(const RuleArgs& args, size_t i);
absl::Status RequireRank(const Shape& shape, size_t min_rank, size_t max_rank);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_INFER_RULES_H_
