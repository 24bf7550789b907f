// The pass that applies all patterns.
#include "engine/passes/passes.h"
#include "engine/passes/patterns.h"
#include "graph/shape_inference.h"

namespace octet::engine {

absl::Status FusePatterns(graph::Graph* graph, PassLog* log) {
  ApplyPatterns(AllPatterns(), graph, log);
  return graph::InferShapes(graph);
}

}  // namespace octet::engine
