// Which operators keep the rows of a batch (index along axis 0) apart: for the
// proof of batching, and for passes of a graph that has it.
#ifndef OCTET_GRAPH_ROW_RULES_H_
#define OCTET_GRAPH_ROW_RULES_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "graph/graph.h"

namespace octet::graph {

// What a value has to do with the batch.
enum class Flow : uint8_t {
  kNone,   // nothing: the same for every batch
  kRows,   // axis 0 is the batch; row i depends on row i of the inputs alone
  kCount,  // computed from the batch size (shape arithmetic)
};

struct RowOperand {
  Flow flow = Flow::kNone;
  bool present = true;
  std::optional<Shape> shape;                    // unknown dimensions negative
  std::optional<std::vector<int64_t>> integers;  // content when known and integer
  std::vector<bool> independent;  // of a kCount operand: per element, whether it does not come from
                                  // the batch size

  bool rows() const { return present && flow == Flow::kRows; }
  // A broadcast operand that has nothing along axis 0 of a result of this rank.
  bool broadcasts_along_axis0(size_t rank) const {
    return shape.has_value() && (shape->size() < rank || (!shape->empty() && (*shape)[0] == 1));
  }
};

// OK when `node`, at least one of whose operands has rows, computes row i of its results from rows
// i of those operands provided that the results' axis 0 turns out to be the batch, which the caller
// checks. `result_rank` is that of output 0. Else kFailedPrecondition with the reason, to be read
// after the node's name ("moves axis 0").
absl::Status KeepsRows(const Node& node, absl::Span<const RowOperand> operands, size_t result_rank);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_ROW_RULES_H_
