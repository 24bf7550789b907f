// Makes specialisations: binds shapes, folds shape arithmetic, fuses, lowers and plans memory.
//
// A specialisation is a chain of stages. A stage runs an ordinary plan; when shapes or kernels behind it need contents
// that only a run gives, dynamic nodes follow the plan, and the next stage is made for the shapes they returned
// (engine/staged.h). A program without such nodes has one stage.
#ifndef OCTET_ENGINE_SPECIALISE_H_
#define OCTET_ENGINE_SPECIALISE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/builder.h"
#include "engine/memory_plan.h"
#include "engine/program.h"

namespace octet::engine {

// Constants up to this size survive ReleaseInitializers: shape arithmetic and small operands of later specialisations.
inline constexpr int64_t kSmallConstantBytes = 4096;

// Everything a context needs to bind and run.
struct Plan {
  std::vector<Step> steps;
  MemoryPlan memory;
  std::vector<int> input_buffers, output_buffers;  // indices into memory.offsets
  bool external_inputs = false;                    // inputs lie outside the arena, where Bind is told
  std::vector<Signature> inputs, outputs;          // concrete shapes
  std::vector<PassNote> notes;                     // of fusion
  int64_t scratch_bytes = 0;
  int threads = 1;
};

// What is known of a value before a stage is made: its shape, and its content when that is pinned.
struct Known {
  DType dtype = DType::kInvalid;
  Shape shape;
  Tensor content;  // valid(): pinned; nodes treat it as a constant
};

// A subgraph as a program: its formal inputs, then what it captures.
struct Body {
  std::shared_ptr<Program> program;
  std::vector<std::string> captured;         // names of the program's inputs behind the formal ones
};
using BodySource = absl::FunctionRef<absl::StatusOr<std::shared_ptr<const Body>>(
    const std::shared_ptr<const graph::Graph>& subgraph, const graph::Graph& outer)>;

// An operand of a dynamic node: a value of the run, or a constant.
struct DynamicOperand {
  graph::ValueId id = graph::kNoValue;
  Tensor constant;  // valid(): the content
};

// A node that runs between two plans, because its result's shape or its kernel depends on the contents of operands.
struct DynamicStep {
  graph::Node node;
  std::string name;                        // as messages name it
  std::vector<DynamicOperand> operands;    // per input
  graph::Graph alone;                      // the node with its own values; empty for control flow
  struct Use {
    std::shared_ptr<const Body> body;
    std::vector<DynamicOperand> captured;  // per Body::captured
  };
  std::vector<Use> bodies;                 // If: then, else; Loop, Scan: one
};

// Nodes and values that replace or extend the program's graph where branches were inlined.
struct Rewritten {
  std::vector<graph::Node> nodes;
  std::vector<graph::Value> values;  // behind those of the graph
};

struct Stage {
  uint64_t id = 0;                             // unique in the process
  Plan plan;
  std::vector<graph::ValueId> inputs, results;  // per plan input and output
  std::vector<DynamicStep> dynamic;            // run behind the plan; their outputs are known to the next stage
  std::vector<graph::ValueId> pinned;          // contents that the next stage gets
  std::vector<std::pair<graph::ValueId, Known>> known;    // when the plan has run, but for the dynamic nodes' outputs
  std::vector<std::pair<graph::ValueId, Shape>> outputs;  // last stage: the graph's outputs with concrete shapes
  std::shared_ptr<const Rewritten> rewritten;  // nullptr: the program's own graph
  std::unique_ptr<kernels::WeightStore> local_store;

  bool last() const { return dynamic.empty() && pinned.empty(); }
};

struct StageInput {
  std::shared_ptr<const graph::Graph> graph;   // the program's
  std::shared_ptr<const Rewritten> rewritten;
  std::vector<std::pair<graph::ValueId, Known>> known;  // of the first stage: the graph's inputs, in order
  bool first = true;
  std::vector<bool> pins;                      // per graph input: pin it before anything else
};

// What is known of every value before shapes are bound: constants and declared types.
std::vector<ValueInfo> InitialInfos(const graph::Graph& graph);

// Errors: kInvalidArgument naming the node or value; kUnimplemented naming the node.
absl::StatusOr<std::unique_ptr<Stage>> MakeStage(const StageInput& input, kernels::WeightStore* program_store,
                                                 int threads, BodySource bodies);

// A program some of whose inputs may be pinned to contents.
class PinnableProgram : public Program {
 public:
  virtual absl::StatusOr<std::shared_ptr<const Specialisation>> SpecialiseKnown(std::vector<Known> inputs,
                                                                                int threads) = 0;
};

class StageCache;

// The public face of a first stage (engine/program.cc).
class PlannedSpecialisation : public Specialisation {
 public:
  virtual const Stage& stage() const = 0;
  const Plan& plan() const { return stage().plan; }
  virtual StageCache& stages() const = 0;
  // Contexts report their memory while they live.
  virtual void AddContextBytes(int64_t arena, int64_t scratch) const = 0;
};

}  // namespace octet::engine

#endif  // OCTET_ENGINE_SPECIALISE_H_
