// Turns nodes into kernels for concrete shapes: keeps where each value lives and in which form, inserts conversions of
// layout and storage, and collects the steps of a specialisation.
#ifndef OCTET_ENGINE_BUILDER_H_
#define OCTET_ENGINE_BUILDER_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/memory_plan.h"
#include "engine/program.h"
#include "graph/graph.h"
#include "kernels/kernel.h"

namespace octet::engine {

// What is known of a value once shapes are concrete.
struct ValueInfo {
  DType dtype = DType::kInvalid;
  Shape shape;
  const Tensor* constant = nullptr;  // its content; nullptr when computed, or released after packing
  bool is_constant = false;
  bool local = false;                // constant of this specialisation only (folded from its shapes)
};

// Where a value lives and what form it has there.
struct Location {
  kernels::TensorSpec spec;
  int buffer = -1;                                           // of the arena; -1: a constant
  std::shared_ptr<const kernels::PackedWeights> constant;
};

struct Step {
  std::shared_ptr<const kernels::Kernel> kernel;
  std::vector<Location> src, dst;
  StepInfo info;
};

// Something fused behind a product, in order.
struct FusedPostOp {
  kernels::PostOp::Kind kind;
  kernels::Activation activation;
  graph::ValueId residual = graph::kNoValue;
};

// A node with what has been fused into it.
struct FusedNode {
  const graph::Node* node = nullptr;
  std::vector<const graph::Node*> absorbed;  // after it, in order
  std::vector<FusedPostOp> post_ops;
  graph::ValueId output = graph::kNoValue;   // first output of the last of them
  graph::ValueId copy = graph::kNoValue;     // the same reals stored as integers (of a normalization)
};

// Thread-compatible. Lives while one specialisation is made.
class Builder {
 public:
  // `infos` has one entry per value of `graph`. `program_store` holds constants of the program, `local_store` those of
  // this specialisation; both outlive the steps.
  Builder(const graph::Graph& graph, absl::Span<const ValueInfo> infos,
          kernels::WeightStore* program_store, kernels::WeightStore* local_store, int threads);

  // Makes a location for a graph input (plain, its own buffer, alive from before the first step).
  const Location& AddInput(graph::ValueId id);

  // Lowers one (fused) node. Errors are annotated with the node.
  absl::Status Lower(const FusedNode& fused);

  // Makes the graph output available plain in its declared type in a buffer of its own; returns the buffer.
  absl::StatusOr<int> AddOutput(graph::ValueId id);

  // ---- for lowering rules
  const graph::Graph& graph() const { return graph_; }
  const ValueInfo& info(graph::ValueId id) const { return infos_[static_cast<size_t>(id)]; }
  kernels::KernelEnv env(bool local = false) const {
    return {local ? local_store_ : program_store_, threads_};
  }

  // The value in whatever form it has (constants: aligned raw copy).
  absl::StatusOr<Location> Get(graph::ValueId id);
  // The value with these traits, converted by a step (once per form) when it differs.
  absl::StatusOr<Location> GetAs(graph::ValueId id, kernels::Layout layout, DType dtype,
                                 const std::optional<QuantParams>& quant);
  absl::StatusOr<Location> GetPlain(graph::ValueId id);     // keeps dtype and quant
  absl::StatusOr<Location> GetPlainF32(graph::ValueId id);  // f32 reals, row-major
  absl::StatusOr<Location> GetF32(graph::ValueId id);       // f32 reals in the layout it has
  absl::StatusOr<Location> GetLayout(graph::ValueId id, kernels::Layout layout);

  // A constant operand of a kernel. Requires: info(id).is_constant. Sets *local when it lives in the local store.
  kernels::ConstantSpec Constant(graph::ValueId id, bool* local) const;
  // Small constant content. Errors: kUnimplemented when the value is computed.
  absl::StatusOr<std::vector<int64_t>> ConstantInts(graph::ValueId id) const;
  absl::StatusOr<std::vector<float>> ConstantFloats(graph::ValueId id) const;

  // The spec that output `id` should have: inferred shape, the graph's dtype and quant, the given layout. Constants
  // with levels are f32 here and in Get*, unpacked at the first call; kernels that look levels up take them from
  // Constant.
  kernels::TensorSpec OutputSpec(graph::ValueId id, kernels::Layout layout) const;

  // A fresh buffer of this form; Bind says that value `id` lives at a location (converting when the form is not the
  // one that the graph declares: e.g. computed in f32, stored as u8).
  Location NewBuffer(const kernels::TensorSpec& spec);
  absl::Status Bind(graph::ValueId id, const Location& location);
  // The location of `id` seen with another shape and layout: no step.
  static Location View(const Location& location, Shape shape, kernels::Layout layout);

  // Appends a step. `node` names it; conversions pass nullptr.
  void Emit(std::unique_ptr<kernels::Kernel> kernel, std::vector<Location> src,
            std::vector<Location> dst, const FusedNode* fused, int64_t multiply_adds = 0,
            int64_t weights_bytes = 0);
  absl::StatusOr<Location> Convert(const Location& from, const kernels::TensorSpec& to);

  // ---- results
  std::vector<Step>& steps() { return steps_; }
  const std::vector<int64_t>& buffer_bytes() const { return buffer_bytes_; }
  int64_t scratch_bytes() const { return scratch_bytes_; }
  // Lives of the buffers, given those written before the first step and those read after the last.
  std::vector<BufferLife> Lives(absl::Span<const int> inputs, absl::Span<const int> outputs) const;

 private:
  absl::StatusOr<Location> RawConstant(graph::ValueId id);

  const graph::Graph& graph_;
  absl::Span<const ValueInfo> infos_;
  kernels::WeightStore* program_store_;
  kernels::WeightStore* local_store_;
  int threads_;
  absl::flat_hash_map<graph::ValueId, Location> locations_;
  std::map<std::tuple<graph::ValueId, kernels::Layout, DType, bool>, Location> converted_;
  std::vector<int64_t> buffer_bytes_;
  std::vector<Step> steps_;
  int64_t scratch_bytes_ = 0;
};

// Whether a constant is stored as codes of a table of levels.
bool HasLevels(const graph::Value& value);

// True when plain and channels-last are the same order of bytes for this shape (one channel, or no spatial extent).
bool LayoutIsTrivial(absl::Span<const int64_t> shape);

// "u8[1, 16, 28, 28] channels_last".
std::string SpecString(const kernels::TensorSpec& spec);

// ---- lowering rules
using LowerFn = absl::Status (*)(Builder&, const FusedNode&);
// The rule of an operator, or nullptr.
LowerFn FindLowering(absl::string_view domain, absl::string_view op);
// All operators with a rule, sorted.
std::vector<std::string> OperatorsWithLowering();

// The element function of a node, or nullopt when it is none (or its parameters are computed).
std::optional<kernels::Activation> ActivationOf(const graph::Node& node,
                                                absl::Span<const ValueInfo> infos);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_BUILDER_H_
