// Quantized regions: integer storage spreads through nodes that only move or select elements.
#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/passes/passes.h"

namespace octet::engine {
namespace {

using graph::Node;
using graph::Value;

// Operators whose every output element is an element of input 0 (Concat: of any input).
bool Moves(const Node& node) {
  static const auto* const kOps = new absl::flat_hash_set<std::string>{
      "Reshape", "Flatten", "Squeeze",   "Unsqueeze", "Transpose",     "Slice",         "Split", "Expand",
      "Tile",    "Gather",  "MaxPool",   "Identity",  "DepthToSpace",  "SpaceToDepth",  "GlobalMaxPool",
      "GatherElements",     "GatherND",  "ReverseSequence"};
  if (!node.domain.empty()) return false;
  if (node.op == "Resize") return node.GetString("mode", "nearest") == "nearest";
  return kOps->contains(node.op);
}

bool IsInt8(const Value& v) {
  return v.quant.has_value() && v.quant->per_tensor() && (v.dtype == DType::kU8 || v.dtype == DType::kS8);
}

void TakeOver(Value* to, const Value& from) {
  to->dtype = from.dtype;
  to->quant = from.quant;
}

// May take over quant: an intermediate value in f32 that no subgraph reads.
bool IsPlainFloat(const graph::Graph& g, const std::vector<bool>& captured, graph::ValueId id) {
  if (id == graph::kNoValue || captured[static_cast<size_t>(id)]) return false;
  const Value& v = g.value(id);
  return !v.quant.has_value() && v.dtype == DType::kF32 && !v.is_constant() &&
         !g.IsOutput(id) && std::find(g.inputs.begin(), g.inputs.end(), id) == g.inputs.end();
}

void SpreadForward(graph::Graph* g, const std::vector<bool>& captured, PassLog* log) {
  for (const Node& node : g->nodes) {
    const bool concat = node.op == "Concat" && node.domain.empty();
    if (!Moves(node) && !concat) continue;
    const Value& first = g->value(node.inputs[0]);
    if (!IsInt8(first)) continue;
    const bool same = !concat || std::all_of(node.inputs.begin(), node.inputs.end(), [&](auto id) {
      return g->value(id).quant == first.quant && g->value(id).dtype == first.dtype;
    });
    const bool free = std::all_of(node.outputs.begin(), node.outputs.end(),
                                  [&](auto id) { return IsPlainFloat(*g, captured, id); });
    if (!same || !free) {
      const bool done = std::all_of(node.outputs.begin(), node.outputs.end(), [&](auto id) {
        return g->value(id).quant.has_value();
      });
      if (log != nullptr && !done) {
        log->Refused("spread-quantization", Describe(*g, node),
                     same ? "its result is an input or output of the graph or not f32"
                          : "its sources have different scales");
      }
      continue;
    }
    if (log != nullptr) log->Fired("spread-quantization", Describe(*g, node), "moves the integers of its source");
    for (graph::ValueId id : node.outputs) TakeOver(&g->value(id), g->value(node.inputs[0]));
  }
}

void SpreadBackward(graph::Graph* g, const std::vector<bool>& captured, PassLog* log) {
  const std::vector<std::vector<int>> consumers = g->Consumers();
  for (size_t i = g->nodes.size(); i-- > 0;) {
    const Node& node = g->nodes[i];
    const bool concat = node.op == "Concat" && node.domain.empty();
    if ((!Moves(node) && !concat) || node.outputs.size() != 1) continue;
    const Value& result = g->value(node.outputs[0]);
    if (!IsInt8(result)) continue;
    const size_t sources = concat ? node.inputs.size() : 1;
    for (size_t s = 0; s < sources; ++s) {
      const graph::ValueId id = node.inputs[s];
      if (IsPlainFloat(*g, captured, id) && consumers[static_cast<size_t>(id)].size() == 1) {
        TakeOver(&g->value(id), g->value(node.outputs[0]));
        if (log != nullptr) log->Fired("spread-quantization", Describe(*g, node), "its source is rounded instead of its result");
      } else if (log != nullptr && IsPlainFloat(*g, captured, id)) {
        log->Refused("spread-quantization", Describe(*g, node),
                     absl::StrCat("its source '", g->value(id).name, "' is also read elsewhere as reals"));
      }
    }
  }
}

}  // namespace

void SpreadQuantization(graph::Graph* graph, PassLog* log) {
  const std::vector<bool> captured = graph->Captured();
  SpreadBackward(graph, captured, log);
  SpreadForward(graph, captured, log);
}

}  // namespace octet::engine
