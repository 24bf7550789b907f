// Name resolution and topological order.
#include "onnx/node_order.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::onnx_io {
namespace {

using ::onnx::GraphProto;
using ::onnx::NodeProto;

constexpr int kGiven = -1;  // produced by no node: a graph input or an initializer

absl::StatusOr<absl::flat_hash_map<std::string, int>> FindProducers(const GraphProto& graph) {
  absl::flat_hash_map<std::string, int> producers;
  for (const auto& input : graph.input()) producers[input.name()] = kGiven;
  for (const auto& initializer : graph.initializer()) producers[initializer.name()] = kGiven;
  for (int i = 0; i < graph.node_size(); ++i) {
    for (const std::string& name : graph.node(i).output()) {
      if (name.empty()) continue;
      const auto [it, is_new] = producers.emplace(name, i);
      if (is_new) continue;
      const std::string other = it->second == kGiven
                                    ? "a graph input or an initializer"
                                    : DescribeNode(graph.node(it->second), it->second);
      return absl::InvalidArgumentError(absl::StrCat(DescribeNode(graph.node(i), i), ": output ",
                                                     Quoted(name), " is produced already by ",
                                                     other));
    }
  }
  return producers;
}

using OuterScope = absl::FunctionRef<bool(const std::string&)>;

// Calls `fn` with every name that `graph`, a subgraph, reads and does not give itself.
void ForEachCapture(const GraphProto& graph, absl::FunctionRef<void(const std::string&)> fn) {
  absl::flat_hash_set<absl::string_view> own;
  for (const auto& input : graph.input()) own.insert(input.name());
  for (const auto& initializer : graph.initializer()) own.insert(initializer.name());
  for (const NodeProto& node : graph.node()) {
    for (const std::string& name : node.output()) own.insert(name);
  }
  const auto read = [&](const std::string& name) {
    if (!name.empty() && !own.contains(name)) fn(name);
  };
  for (const NodeProto& node : graph.node()) {
    for (const std::string& name : node.input()) read(name);
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g()) ForEachCapture(attribute.g(), read);
    }
  }
  for (const auto& output : graph.output()) read(output.name());
}

// Producing nodes of each node's inputs and of what its subgraphs capture, without repetition.
absl::StatusOr<std::vector<std::vector<int>>> FindSources(
    const GraphProto& graph, const absl::flat_hash_map<std::string, int>& producers,
    OuterScope in_outer_scope) {
  std::vector<std::vector<int>> sources(static_cast<size_t>(graph.node_size()));
  for (int i = 0; i < graph.node_size(); ++i) {
    std::vector<int>& mine = sources[static_cast<size_t>(i)];
    for (const std::string& name : CapturedNames(graph.node(i))) {
      // What nothing gives is told where the subgraph's own node reads it.
      const auto it = producers.find(name);
      if (it != producers.end() && it->second != kGiven) mine.push_back(it->second);
    }
    for (const std::string& name : graph.node(i).input()) {
      if (name.empty()) continue;
      const auto it = producers.find(name);
      if (it == producers.end() && in_outer_scope(name)) continue;
      if (it == producers.end()) {
        return absl::InvalidArgumentError(absl::StrCat(
            DescribeNode(graph.node(i), i), ": input ", Quoted(name),
            " is produced by no node, expected a graph input, an initializer or a node's output"));
      }
      if (it->second != kGiven) mine.push_back(it->second);
    }
    std::sort(mine.begin(), mine.end());
    mine.erase(std::unique(mine.begin(), mine.end()), mine.end());
  }
  return sources;
}

// Walks back from a node that waits until a node repeats: that one lies on the cycle.
int NodeOnCycle(const std::vector<std::vector<int>>& sources, const std::vector<int>& waits) {
  int at = static_cast<int>(std::find_if(waits.begin(), waits.end(), [](int w) { return w > 0; }) -
                            waits.begin());
  std::vector<bool> seen(waits.size());
  while (!seen[static_cast<size_t>(at)]) {
    seen[static_cast<size_t>(at)] = true;
    for (int source : sources[static_cast<size_t>(at)]) {
      if (waits[static_cast<size_t>(source)] > 0) {
        at = source;
        break;
      }
    }
  }
  return at;
}

absl::StatusOr<std::vector<int>> Sort(const GraphProto& graph,
                                      const std::vector<std::vector<int>>& sources) {
  const size_t n = sources.size();
  std::vector<std::vector<int>> readers(n);
  std::vector<int> waits(n);
  std::priority_queue<int, std::vector<int>, std::greater<int>> ready;
  for (size_t i = 0; i < n; ++i) {
    waits[i] = static_cast<int>(sources[i].size());
    if (waits[i] == 0) ready.push(static_cast<int>(i));
    for (int source : sources[i])
      readers[static_cast<size_t>(source)].push_back(static_cast<int>(i));
  }
  std::vector<int> order;
  while (!ready.empty()) {
    const int i = ready.top();
    ready.pop();
    order.push_back(i);
    for (int reader : readers[static_cast<size_t>(i)]) {
      if (--waits[static_cast<size_t>(reader)] == 0) ready.push(reader);
    }
  }
  if (order.size() == n) return order;
  const int node = NodeOnCycle(sources, waits);
  return absl::InvalidArgumentError(absl::StrCat(
      DescribeNode(graph.node(node), node), " depends on its own output: the graph is cyclic"));
}

}  // namespace

std::string DescribeNode(const NodeProto& node, int index) {
  std::string who = node.name().empty() ? absl::StrCat("#", index) : Quoted(node.name());
  if (node.name().empty() && node.output_size() > 0) {
    absl::StrAppend(&who, " -> ", Quoted(node.output(0)));
  }
  std::string op = Quoted(node.op_type());
  op = op.substr(1, op.size() - 2);
  return absl::StrCat("node ", who, " (", op, ")");
}

std::vector<std::string> CapturedNames(const NodeProto& node) {
  std::vector<std::string> names;
  absl::flat_hash_set<std::string> seen;
  for (const auto& attribute : node.attribute()) {
    if (!attribute.has_g()) continue;
    ForEachCapture(attribute.g(), [&](const std::string& name) {
      if (seen.insert(name).second) names.push_back(name);
    });
  }
  return names;
}

absl::StatusOr<NodeOrder> OrderNodes(const GraphProto& graph, OuterScope in_outer_scope) {
  OCTET_ASSIGN_OR_RETURN(const auto producers, FindProducers(graph));
  OCTET_ASSIGN_OR_RETURN(const std::vector<std::vector<int>> sources,
                         FindSources(graph, producers, in_outer_scope));
  NodeOrder result;
  std::vector<bool> live(sources.size());
  for (const auto& output : graph.output()) {
    const auto it = producers.find(output.name());
    if (it == producers.end() && in_outer_scope(output.name())) {
      result.readers[output.name()].is_output = true;
      continue;
    }
    if (it == producers.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("graph output ", Quoted(output.name()), " is produced by no node"));
    }
    result.readers[output.name()].is_output = true;
    if (it->second != kGiven) live[static_cast<size_t>(it->second)] = true;
  }
  OCTET_ASSIGN_OR_RETURN(const std::vector<int> order, Sort(graph, sources));
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    if (!live[static_cast<size_t>(*it)]) continue;
    for (int source : sources[static_cast<size_t>(*it)]) live[static_cast<size_t>(source)] = true;
  }
  for (int i : order) {
    if (!live[static_cast<size_t>(i)]) continue;
    result.nodes.push_back(i);
    const NodeProto& node = graph.node(i);
    for (const std::string& name : CapturedNames(node)) ++result.readers[name].total;
    for (int k = 0; k < node.input_size(); ++k) {
      Readers& readers = result.readers[node.input(k)];
      ++readers.total;
      if (k == 0 && node.op_type() == "DequantizeLinear") ++readers.dequantize;
    }
  }
  return result;
}

}  // namespace octet::onnx_io
