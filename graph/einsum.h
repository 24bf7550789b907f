// The equation of Einsum: which dimension of which operand carries which label.
//
// "bij,bjk->bik", "...ij->...ji", "ii" (result: labels that occur once, in alphabetical order).
// Dimensions under an ellipsis get labels of their own, matched from the right as numpy broadcasts.
// Source: ONNX Einsum-12.
#ifndef OCTET_GRAPH_EINSUM_H_
#define OCTET_GRAPH_EINSUM_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace octet::graph {

struct Einsum {
  using Labels = std::vector<int>;
  std::vector<Labels> operands;  // one label per dimension; a label may repeat (a diagonal)
  Labels result;                 // distinct
};

// Labels for operands of these ranks. Errors: kInvalidArgument (not an equation, or one that does
// not fit the ranks).
absl::StatusOr<Einsum> ParseEinsum(absl::string_view equation, absl::Span<const size_t> ranks);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_EINSUM_H_
