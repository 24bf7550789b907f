// Makes specialisations: binds shapes, folds shape arithmetic, fuses, lowers and plans memory.
#ifndef OCTET_ENGINE_SPECIALISE_H_
#define OCTET_ENGINE_SPECIALISE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/builder.h"
#include "engine/memory_plan.h"
#include "engine/program.h"

namespace octet::engine {

// Everything a context needs to bind and run.
struct Plan {
  std::vector<Step> steps;
  MemoryPlan memory;
  std::vector<int> input_buffers, output_buffers;  // indices into memory.offsets
  std::vector<Signature> inputs, outputs;          // concrete shapes
  int64_t scratch_bytes = 0;
  int threads = 1;
};

// What is known of every value before shapes are bound: constants and declared types.
std::vector<ValueInfo> InitialInfos(const graph::Graph& graph);

// Errors: kInvalidArgument naming the input when shapes contradict the graph; kUnimplemented naming the node.
absl::StatusOr<Plan> MakePlan(const graph::Graph& graph, absl::Span<const Shape> input_shapes,
                              kernels::WeightStore* program_store, kernels::WeightStore* local_store,
                              int threads);

// The public face of a plan (engine/program.cc).
class PlannedSpecialisation : public Specialisation {
 public:
  virtual const Plan& plan() const = 0;
  // Contexts report their memory while they live.
  virtual void AddContextBytes(int64_t arena, int64_t scratch) const = 0;
};

}  // namespace octet::engine

#endif  // OCTET_ENGINE_SPECIALISE_H_
