// Programs whose shapes depend on data: stages made on the way, and the context that walks them.
#ifndef OCTET_ENGINE_STAGED_H_
#define OCTET_ENGINE_STAGED_H_

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/control_flow.h"
#include "engine/specialise.h"

namespace octet::engine {

using KnownValues = std::vector<std::pair<graph::ValueId, Known>>;

// Stages of one program: makes them and keeps the last ones that follow another. Thread-safe.
class StageCache {
 public:
  // `graph` gives the program's graph as it is now; `store` its packed weights.
  StageCache(std::function<std::shared_ptr<const graph::Graph>()> graph,
             std::shared_ptr<kernels::WeightStore> store, std::vector<bool> pins, const CompileOptions& options);

  // The first stage for inputs of which shapes, and perhaps contents, are known. Not kept here.
  absl::StatusOr<std::shared_ptr<const Stage>> First(std::vector<Known> inputs, int threads);
  // The stage behind `stage`, once its dynamic nodes gave `results` and its pinned values their contents (both with
  // Known). The most recently used are kept, bounded in number and bytes.
  absl::StatusOr<std::shared_ptr<const Stage>> Next(const Stage& stage, const KnownValues& results);

  // The most recently used stage behind `stage`, or nullptr.
  std::shared_ptr<const Stage> LastBehind(uint64_t stage) const;
  BodyCache& bodies() { return bodies_; }
  int64_t max_run_bytes() const { return options_.max_specialisation_bytes; }

  struct Report {
    int64_t stages = 0, arena_bytes = 0, local_bytes = 0, steps = 0, made = 0, evicted = 0;
  };
  Report Summary() const;

 private:
  struct Entry {
    uint64_t behind = 0;
    std::string key;
    std::shared_ptr<const Stage> stage;
  };
  absl::StatusOr<std::shared_ptr<const Stage>> Make(StageInput input, int threads);
  void Evict() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::function<std::shared_ptr<const graph::Graph>()> graph_;
  const std::shared_ptr<kernels::WeightStore> store_;
  const std::vector<bool> pins_;
  const CompileOptions options_;
  BodyCache bodies_;
  mutable absl::Mutex mutex_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // most recently used first
  int64_t made_ ABSL_GUARDED_BY(mutex_) = 0, evicted_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Of `max` cached specialisations, how many may be stages behind others.
int64_t MaxFollowingStages(int64_t max);

// A context of a specialisation with more than one stage.
absl::StatusOr<std::unique_ptr<Context>> CreateStagedContext(
    std::shared_ptr<const PlannedSpecialisation> specialisation);

// Graph inputs whose contents decide branches or shapes by themselves: they are pinned before the first plan, so that
// everything behind folds. Not those that only position a window (Slice, Gather): they change while shapes do not.
std::vector<bool> InputsToPin(const graph::Graph& graph);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_STAGED_H_
