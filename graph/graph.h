// The model in memory: values, nodes and attributes of one network, in canonical form.
//
// Canonical form (what onnx/ establishes and everything above relies on):
// - Operators have the semantics of ONNX opset 22 whatever the file's opset was; import rules translate older forms
//   (axes as attributes, pre-13 Softmax, Clip with min/max attributes, Upsample, ...). `Node::op` is the ONNX name.
// - Nodes are in topological order; every value has at most one producer; names are unique and not empty.
// - A node computes on REAL numbers. A value that has `quant` stores integers that stand for reals
//   (base/quantization.h); a node that reads it reads the reals, a node that writes it rounds its real result half to
//   even and saturates. So a quantized convolution is a Conv whose values have `quant`, whatever form (QDQ,
//   QOperator, integer operators) the file used. `Quantize` (f32 -> value with quant) and `Dequantize` (the reverse)
//   remain only where a float value meets a quantized one; they have one input and one output and no attributes.
// - `Reinterpret` gives the same stored integers another meaning: plain integers become a value with quant, or the
//   reverse, or the quant changes. It computes nothing; attribute `to` is the ONNX code of what readers see (1 for f32
//   reals when the result has quant).
// - `DynamicMatMul` and `DynamicConv` are products of integers whose scale and zero point are computed at run time:
//   operands src (plain u8/s8), weights (constant with quant), src scale (f32, one element), src zero point (src's type,
//   one element; optional), bias (f32, optional). Without the scale the result is the s32 accumulator.
// - Shape arithmetic stays ordinary nodes on integer values (no quant).
#ifndef OCTET_GRAPH_GRAPH_H_
#define OCTET_GRAPH_GRAPH_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/dtype.h"
#include "base/quantization.h"
#include "base/shape.h"
#include "base/tensor.h"

namespace octet::graph {

using ValueId = int32_t;
inline constexpr ValueId kNoValue = -1;  // an omitted optional input or output

class Graph;
using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>,
                               std::vector<std::string>, Tensor, std::shared_ptr<const Graph>>;

// How else the codes of a constant may come out: graph/draws.h.
struct Alternatives {
  Tensor steps;         // s8 or s4, of the codes' shape
  uint32_t stream = 0;  // of random numbers: graph/draws.h, StreamOf
};

struct Value {
  std::string name;
  DType dtype = DType::kInvalid;       // storage type; u8/s8/s4/... when quant is set
  std::optional<Shape> shape;          // kUnknownDim where free; nullopt: rank unknown
  std::optional<QuantParams> quant;
  std::optional<Tensor> data;          // set: a constant (initializer)
  std::vector<std::string> dim_names;  // of graph inputs/outputs: symbolic names, "" where none
  std::optional<Alternatives> alternatives = {};  // of constant weights that are distributions

  bool is_constant() const { return data.has_value(); }
};

struct Node {
  std::string op;      // "Conv", "Quantize", ...
  std::string domain;  // "" for ai.onnx
  std::string name;    // as in the file; may be empty
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  absl::flat_hash_map<std::string, Attribute> attributes;

  // Attribute by name, or the default when absent or of another kind (import has checked kinds).
  int64_t GetInt(absl::string_view key, int64_t absent) const;
  float GetFloat(absl::string_view key, float absent) const;
  std::string GetString(absl::string_view key, absl::string_view absent) const;
  std::vector<int64_t> GetInts(absl::string_view key, std::vector<int64_t> absent = {}) const;
  bool Has(absl::string_view key) const { return attributes.contains(key); }

  bool has_input(size_t i) const { return i < inputs.size() && inputs[i] != kNoValue; }
};

// Thread-compatible. Copying is cheap: constants are shared.
class Graph {
 public:
  std::string name;
  std::vector<Value> values;  // index: ValueId
  std::vector<Node> nodes;    // topological order
  std::vector<ValueId> inputs;   // what a caller provides; constants are not among them
  std::vector<ValueId> outputs;  // in the file's order; may repeat or name an input or a constant
  absl::flat_hash_map<std::string, std::string> metadata;  // metadata_props

  ValueId AddValue(Value value);
  ValueId AddConstant(std::string name, Tensor tensor);
  const Value& value(ValueId id) const { return values[static_cast<size_t>(id)]; }
  Value& value(ValueId id) { return values[static_cast<size_t>(id)]; }

  // Constant content of input `i` of a node, or nullptr when it is omitted or computed.
  const Tensor* ConstantInput(const Node& node, size_t i) const;

  // Per value, the index of the node that produces it, or -1; and the nodes that read it (once per read).
  std::vector<int> Producers() const;
  std::vector<std::vector<int>> Consumers() const;
  bool IsOutput(ValueId id) const;

  // Per value, whether a subgraph (an attribute of If, Loop, Scan) reads it by its name: it must keep name and meaning.
  std::vector<bool> Captured() const;

  // Replaces every read of `from` (node inputs and graph outputs) by `to`.
  void ReplaceReads(ValueId from, ValueId to);

  // Removes nodes none of whose outputs is read; drops the data of constants that nobody reads.
  void RemoveDead();

  // A name that no value has, starting with `stem`.
  std::string UniqueName(absl::string_view stem) const;

  // Checks the invariants above: ids in range, topological order, one producer, unique names; quant that fits its value,
  // levels on constants only and one for every code.
  absl::Status Validate() const;
};

// "Conv 'conv1'" or "Conv #12 -> 'y'" where a node has no name: how every message names a node.
std::string Describe(const Graph& graph, const Node& node);

}  // namespace octet::graph

#endif  // OCTET_GRAPH_GRAPH_H_
