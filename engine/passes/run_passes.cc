// The order of the passes.
#include "base/status.h"
#include "engine/passes/passes.h"

namespace octet::engine {

absl::Status RunPasses(graph::Graph* graph, PassLog* log) {
  Simplify(graph, log);
  // Before the patterns: a product's source behind a Transpose must be known to be integers. Silent: it runs again.
  SpreadQuantization(graph);
  OCTET_RETURN_IF_ERROR(FusePatterns(graph, log));
  OCTET_RETURN_IF_ERROR(FoldAffine(graph, log));
  OCTET_RETURN_IF_ERROR(FoldConstants(graph));
  SpreadQuantization(graph, log);
  return graph->Validate();
}

}  // namespace octet::engine
