// The cache of stages.
#include "engine/staged.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/status.h"

namespace octet::engine {
namespace {

// What distinguishes the stages behind one: shapes of results, contents of pinned values.
std::string KeyOf(const KnownValues& results) {
  std::string key;
  for (const auto& [id, known] : results) {
    absl::StrAppend(&key, id, NameOf(known.dtype), ShapeString(known.shape));
    if (!known.content.valid()) continue;
    key.append(reinterpret_cast<const char*>(known.content.data()), static_cast<size_t>(known.content.size_bytes()));
  }
  return key;
}

}  // namespace

int64_t MaxFollowingStages(int64_t max) { return std::max<int64_t>(max / 2, 1); }

StageCache::StageCache(std::function<std::shared_ptr<const graph::Graph>()> graph,
                       std::shared_ptr<kernels::WeightStore> store, std::vector<bool> pins,
                       const CompileOptions& options)
    : graph_(std::move(graph)), store_(std::move(store)), pins_(std::move(pins)), options_(options), bodies_(options) {}

absl::StatusOr<std::shared_ptr<const Stage>> StageCache::Make(StageInput input, int threads) {
  SetTeamSize(threads);  // blocking is fixed when a primitive is created
  OCTET_ASSIGN_OR_RETURN(
      std::unique_ptr<Stage> stage,
      MakeStage(input, store_.get(), threads,
                [this](const std::shared_ptr<const graph::Graph>& subgraph, const graph::Graph& outer) {
                  return bodies_.GetOrMake(subgraph, outer);
                }));
  const int64_t bytes = stage->plan.memory.arena_bytes + stage->plan.scratch_bytes;
  if (bytes > options_.max_specialisation_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("these shapes need ", bytes, " bytes of activations, the limit is ",
                                                     options_.max_specialisation_bytes));
  }
  return std::shared_ptr<const Stage>(std::move(stage));
}

absl::StatusOr<std::shared_ptr<const Stage>> StageCache::First(std::vector<Known> inputs, int threads) {
  StageInput input;
  input.graph = graph_();
  if (inputs.size() != input.graph->inputs.size()) {
    return absl::InvalidArgumentError(absl::StrCat(inputs.size(), " input shapes given, the model has ",
                                                   input.graph->inputs.size(), " inputs"));
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    input.known.emplace_back(input.graph->inputs[i], std::move(inputs[i]));
  }
  input.pins = pins_;
  return Make(std::move(input), threads);
}

absl::StatusOr<std::shared_ptr<const Stage>> StageCache::Next(const Stage& stage, const KnownValues& results) {
  const std::string key = KeyOf(results);
  {
    absl::MutexLock lock(&mutex_);
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (it->behind != stage.id || it->key != key) continue;
      entries_.splice(entries_.begin(), entries_, it);
      return entries_.front().stage;
    }
  }
  StageInput input;
  input.graph = graph_();
  input.rewritten = stage.rewritten;
  input.known = stage.known;
  input.first = false;
  for (const auto& [id, known] : results) {
    const auto same = [id = id](const auto& entry) { return entry.first == id; };
    const auto old = std::find_if(input.known.begin(), input.known.end(), same);
    if (old != input.known.end()) {
      old->second = known;
    } else {
      input.known.emplace_back(id, known);
    }
  }
  OCTET_ASSIGN_OR_RETURN(std::shared_ptr<const Stage> made, Make(std::move(input), stage.plan.threads));
  absl::MutexLock lock(&mutex_);
  ++made_;
  entries_.push_front({stage.id, key, made});
  Evict();
  return made;
}

void StageCache::Evict() {
  int64_t bytes = 0, count = 0;
  for (auto it = entries_.begin(); it != entries_.end();) {
    bytes += it->stage->plan.memory.arena_bytes;
    ++count;
    const bool over = count > MaxFollowingStages(options_.max_specialisations) || bytes > options_.max_specialisation_bytes;
    if (count > 1 && over) {
      it = entries_.erase(it);
      ++evicted_;
    } else {
      ++it;
    }
  }
}

std::shared_ptr<const Stage> StageCache::LastBehind(uint64_t stage) const {
  absl::MutexLock lock(&mutex_);
  for (const Entry& entry : entries_) {
    if (entry.behind == stage) return entry.stage;
  }
  return nullptr;
}

StageCache::Report StageCache::Summary() const {
  absl::MutexLock lock(&mutex_);
  Report report;
  report.made = made_;
  report.evicted = evicted_;
  for (const Entry& entry : entries_) {
    ++report.stages;
    report.arena_bytes += entry.stage->plan.memory.arena_bytes;
    report.local_bytes += entry.stage->local_store->TotalBytes();
    report.steps += static_cast<int64_t>(entry.stage->plan.steps.size());
  }
  return report;
}

}  // namespace octet::engine
