// Inference of a graph node by node, with symbols for unknown dimensions; internal to graph/.
#ifndef OCTET_GRAPH_INFERENCE_H_
#define OCTET_GRAPH_INFERENCE_H_

#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "graph/graph.h"
#include "graph/infer_rules.h"

namespace octet::graph {

// Dimensions that carry one symbol are equal at run time. Call Start, then Step for each node in
// order. Thread-compatible; `graph` must outlive it and not lose values meanwhile (new ones may be
// added).
class Inference {
 public:
  // kBatch: axis 0 of all inputs is one dimension, with the symbol kBatchSymbol.
  enum class InputAxis0 : uint8_t { kDeclared, kBatch };
  static constexpr int64_t kBatchSymbol = kFirstSymbol;

  explicit Inference(Graph* graph) : graph_(graph) {}

  absl::Status Start(InputAxis0 axis0);

  // Infers the outputs of graph->nodes[index]; errors name the node. Sets dtypes of its outputs in
  // the graph at once.
  absl::Status Step(size_t index);

  // Writes all shapes into the graph, symbols as kUnknownDim.
  void Finish();

  // With symbols.
  const std::optional<Shape>& shape(ValueId id) { return At(id).shape; }
  const PartialElements* elements(ValueId id) {
    return At(id).elements.has_value() ? &*At(id).elements : nullptr;
  }

  // Marks what is unknown of a small integer value as independent of the batch size.
  void MarkIndependent(ValueId id);
  // Drops what is known of its elements.
  void ForgetElements(ValueId id) { At(id).elements.reset(); }

 private:
  struct Entry {
    std::optional<Shape> shape;
    std::optional<PartialElements> elements;
    bool constant = false;
  };
  absl::Status StepControlFlow(size_t index);
  const Value* Named(absl::string_view name);
  Entry& At(ValueId id);
  OperandInfo Operand(ValueId id);

  Graph* graph_;
  std::vector<Entry> entries_;
  absl::flat_hash_map<std::string, ValueId> by_name_;  // filled when a subgraph asks
  int64_t next_symbol_ = kBatchSymbol - 1;
};

}  // namespace octet::graph

#endif  // OCTET_GRAPH_INFERENCE_H_
