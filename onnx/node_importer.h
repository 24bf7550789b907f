// What an import rule works with: the file's node on one side, the graph being built on the other.
#ifndef OCTET_ONNX_NODE_IMPORTER_H_
#define OCTET_ONNX_NODE_IMPORTER_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/graph.h"
#include "onnx/attributes.h"
#include "onnx/onnx_pb.h"
#include "onnx/tensors.h"

namespace octet::onnx_io {

// How often, and by what, each name of the file is read: decides whether quant may be put on a
// value in place.
struct Readers {
  int total = 0;
  int dequantize = 0;  // as input 0 of a DequantizeLinear
  bool is_output = false;
};

// The graph under construction and the names of the file that stand for its values.
struct ImportState {
  graph::Graph graph;
  TensorSource source;
  int64_t opset = 0;                                        // of the default domain
  absl::flat_hash_map<std::string, graph::ValueId> values;  // by name in the file
  absl::flat_hash_map<std::string, Readers> readers;        // by name in the file
  absl::flat_hash_map<graph::ValueId, Readers>
      value_readers;  // the same, over all names of a value
  absl::flat_hash_map<graph::ValueId, graph::ValueId>
      casts;  // operand of the Cast that computes a value
  absl::flat_hash_set<graph::ValueId> graph_inputs;
  absl::flat_hash_set<std::string> used_names;  // of values, in the file or in the graph
  absl::flat_hash_map<graph::ValueId, std::vector<graph::ValueId>>
      quantized_copies;  // of constants

  absl::flat_hash_map<std::string, std::string>
      renamed;  // of a subgraph: names of the file that the graphs around it use, too

  absl::flat_hash_map<std::string, int> next_suffix;  // by stem: keeps UniqueName linear

  // What may still be made of shared constants: without it, a small file whose nodes all read one
  // large tensor could ask for any amount of memory.
  int64_t scales_left = 0;        // elements of QuantParams::scale
  int64_t folded_bytes_left = 0;  // of quantized constants

  // A name that no value has, starting with `stem`; reserves it.
  std::string UniqueName(absl::string_view stem);
  // Adds a value under a name of the file or one from UniqueName.
  graph::ValueId AddNamed(graph::Value value);
};

// "'name'", escaped and shortened for messages.
std::string Quoted(absl::string_view name);

// One node under translation. A rule reads inputs and attributes, emits nodes, and must give every
// output of the file's node that somebody reads a value, by Emit with Output(i), Alias or
// SetConstant.
class NodeImporter {
 public:
  NodeImporter(ImportState* state, const ::onnx::NodeProto& proto, AttributeMap attribute_map,
               std::vector<graph::ValueId> input_values)
      : attributes(std::move(attribute_map)),
        inputs(std::move(input_values)),
        state_(*state),
        proto_(proto) {}

  AttributeMap attributes;
  std::vector<graph::ValueId> inputs;
  // Of a node with subgraphs: the values that these capture, by their names in the graph.
  absl::flat_hash_map<std::string, graph::ValueId> captured;
  // Set by rules whose operator computes on the reals behind quantized operands (QOperator forms):
  // Emit then accepts them for any operator.
  bool reads_reals = false;

  int64_t opset() const { return state_.opset; }
  ImportState& state() { return state_; }
  absl::string_view op() const { return proto_.op_type(); }
  const graph::Value& value(graph::ValueId id) const { return state_.graph.value(id); }
  bool has_input(size_t i) const { return i < inputs.size() && inputs[i] != graph::kNoValue; }
  size_t num_outputs() const { return static_cast<size_t>(proto_.output_size()); }

  // True when output `i` is named and read by a node or the caller.
  bool OutputIsRead(size_t i) const;
  // True when every read of input value `id` is a DequantizeLinear's input 0.
  bool OnlyDequantized(graph::ValueId id) const;

  // Attributes with ONNX's defaults; kinds have been checked.
  int64_t Int(absl::string_view key, int64_t absent) const;
  float Float(absl::string_view key, float absent) const;
  std::string String(absl::string_view key, absl::string_view absent) const;
  const std::vector<int64_t>* Ints(absl::string_view key) const;
  const std::vector<float>* Floats(absl::string_view key) const;
  bool Has(absl::string_view key) const { return attributes.contains(key); }

  // Content of input `i` when it is a constant; nullptr when it is omitted or computed.
  const Tensor* ConstantInput(size_t i) const;
  // The same, also when a Cast to f32 of a constant computes it (f16 scales are written so).
  const Tensor* ConstantBehindCast(size_t i) const;
  bool IsGraphInput(graph::ValueId id) const { return state_.graph_inputs.contains(id); }

  // Rank of a value when it is known.
  std::optional<int64_t> Rank(graph::ValueId id) const;

  // Adds a node. `outputs` are names: Output(i) for those of the file's node, Fresh(stem) for
  // intermediate ones, "" for omitted ones. Types and shapes of the results are inferred, quant is
  // carried through operators that only move elements; other operators read the stored integers of
  // a quantized operand as plain ones (unless reads_reals). Errors: the operands break the
  // operator's rules.
  absl::StatusOr<std::vector<graph::ValueId>> Emit(absl::string_view op,
                                                   std::vector<graph::ValueId> operands,
                                                   std::vector<std::string> outputs,
                                                   AttributeMap attrs = {});
  // Emit with Output(0..n-1), the node's own operator, inputs and attributes as they are now.
  absl::Status EmitSelf();
  // An If, Loop or Scan with Output(0..n-1); its subgraphs are attributes already.
  absl::Status EmitControlFlow();
  // Emit of one result, returning it.
  absl::StatusOr<graph::ValueId> Emit1(absl::string_view op, std::vector<graph::ValueId> operands,
                                       std::string output, AttributeMap attrs = {});

  std::string Output(size_t i) const;
  std::string Fresh(absl::string_view stem);

  graph::ValueId AddConstant(absl::string_view stem, Tensor tensor);
  graph::ValueId AddInts(absl::string_view stem, const std::vector<int64_t>& values);  // 1-D s64
  // Output `i` is constant.
  void SetConstant(size_t i, Tensor tensor);
  // Output `i` is the same as value `id`.
  absl::Status Alias(size_t i, graph::ValueId id);

  // A copy of constant `id` with this quant, or the value itself when it may carry it.
  graph::ValueId QuantizedConstant(graph::ValueId id, const QuantParams& quant);

  // Gives a computed value its quant; the rule has made sure that its producer rounds so.
  void SetQuant(graph::ValueId id, DType dtype, QuantParams quant);

 private:
  // Whether `op` may keep reading the stored integers of its operands, and gives them on.
  bool KeepsQuant(absl::string_view op, const std::vector<graph::ValueId>& operands) const;
  // The stored integers of a value as plain ones.
  absl::StatusOr<graph::ValueId> PlainIntegers(graph::ValueId id);
  void CarryQuant(const std::vector<graph::ValueId>& operands,
                  const std::vector<graph::ValueId>& results);

  ImportState& state_;
  const ::onnx::NodeProto& proto_;
};

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_NODE_IMPORTER_H_
