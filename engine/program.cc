// Programs: passes, the cache of specialisations, and contexts.
#include "engine/program.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <list>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/buffer.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "engine/bound_plan.h"
#include "engine/passes/passes.h"
#include "engine/specialise.h"
#include "engine/staged.h"
#include "graph/control_flow.h"
#include "graph/rewrites.h"
#include "graph/shape_inference.h"

namespace octet::engine {
namespace {

// A JIT kernel's code; oneDNN does not tell. Measured as resident growth per primitive on AVX-512 machines.
constexpr int64_t kCodeBytesPerStep = 24 << 10;

// Memory of living contexts of one program, shared so that a context may outlive it.
struct ContextBytes {
  std::atomic<int64_t> arena{0}, scratch{0};
};

// What is known of an output's shape before a run; of unknown rank as many free dimensions as the file names, or one.
Shape OutputShape(const graph::Value& value) {
  if (value.shape.has_value()) return *value.shape;
  return Shape(std::max<size_t>(value.dim_names.size(), 1), kUnknownDim);
}

class SpecialisationImpl final : public PlannedSpecialisation {
 public:
  // `graph` says what data-dependent outputs are declared as.
  SpecialisationImpl(std::shared_ptr<const Stage> stage, const graph::Graph& graph, std::shared_ptr<StageCache> stages,
                     std::shared_ptr<const void> program, std::shared_ptr<ContextBytes> bytes)
      : stage_(std::move(stage)),
        stages_(std::move(stages)),
        program_(std::move(program)),
        context_bytes_(std::move(bytes)) {
    for (const Signature& s : stage_->plan.inputs) input_shapes_.push_back(s.shape);
    for (graph::ValueId id : stage_->pinned) pinned_[id] = graph.value(id).name;
    for (size_t i = 0; i < graph.outputs.size(); ++i) {
      if (stage_->last()) {
        output_shapes_.push_back(stage_->plan.outputs[i].shape);
      } else {
        output_shapes_.push_back(OutputShape(graph.value(graph.outputs[i])));
      }
    }
  }

  const std::vector<Shape>& input_shapes() const override { return input_shapes_; }
  const std::vector<Shape>& output_shapes() const override { return output_shapes_; }
  int threads() const override { return plan().threads; }
  // Of all stages, as far as they were made: behind each the one that ran last.
  std::vector<StepInfo> Steps() const override {
    std::vector<StepInfo> steps;
    for (std::shared_ptr<const Stage> at = stage_; at != nullptr; at = stages_->LastBehind(at->id)) {
      for (const Step& step : at->plan.steps) steps.push_back(step.info);
      if (!at->pinned.empty()) {
        StepInfo info;
        for (graph::ValueId id : at->pinned) absl::StrAppend(&info.node, info.node.empty() ? "" : "+", NameOf(id));
        info.op = "Pin";
        info.implementation = "staged";
        steps.push_back(std::move(info));
      }
      for (const DynamicStep& step : at->dynamic) {
        StepInfo info;
        info.node = step.node.name.empty() ? step.name : step.node.name;
        info.op = step.node.op;
        info.implementation = "staged";
        steps.push_back(std::move(info));
      }
      if (at->last()) break;
    }
    return steps;
  }
  std::vector<PassNote> FusionNotes() const override {
    std::vector<PassNote> notes;
    for (std::shared_ptr<const Stage> at = stage_; at != nullptr; at = stages_->LastBehind(at->id)) {
      notes.insert(notes.end(), at->plan.notes.begin(), at->plan.notes.end());
      if (at->last()) break;
    }
    return notes;
  }
  int64_t arena_bytes() const override { return plan().memory.arena_bytes; }
  int64_t arena_lower_bound_bytes() const override { return plan().memory.lower_bound_bytes; }
  int64_t scratch_bytes() const override { return plan().scratch_bytes; }
  const Stage& stage() const override { return *stage_; }
  StageCache& stages() const override { return *stages_; }
  void AddContextBytes(int64_t arena, int64_t scratch) const override {
    context_bytes_->arena += arena;
    context_bytes_->scratch += scratch;
  }
  int64_t local_bytes() const { return stage_->local_store->TotalBytes(); }
  int64_t code_bytes() const { return static_cast<int64_t>(plan().steps.size()) * kCodeBytesPerStep; }

 private:
  std::shared_ptr<const Stage> stage_;
  std::shared_ptr<StageCache> stages_;
  std::shared_ptr<const void> program_;  // keeps the weight store alive
  std::shared_ptr<ContextBytes> context_bytes_;
  std::string NameOf(graph::ValueId id) const {
    const auto it = pinned_.find(id);
    return it == pinned_.end() ? "" : it->second;
  }

  std::vector<Shape> input_shapes_, output_shapes_;
  absl::flat_hash_map<graph::ValueId, std::string> pinned_;
};

class ContextImpl final : public Context {
 public:
  ContextImpl(std::shared_ptr<const PlannedSpecialisation> specialisation, std::unique_ptr<BoundPlan> bound)
      : specialisation_(std::move(specialisation)), bound_(std::move(bound)) {
    specialisation_->AddContextBytes(bound_->arena_bytes(), bound_->scratch_bytes());
  }
  ~ContextImpl() override {
    specialisation_->AddContextBytes(-bound_->arena_bytes(), -bound_->scratch_bytes());
  }

  absl::Span<std::byte> input(int i) override {
    const auto index = static_cast<size_t>(i);
    const Signature& s = plan().inputs[index];
    return {bound_->input(index), static_cast<size_t>(ByteSize(s.dtype, s.shape))};
  }
  absl::Span<const std::byte> output(int i) const override {
    const auto index = static_cast<size_t>(i);
    const Signature& s = plan().outputs[index];
    return {bound_->output(index), static_cast<size_t>(ByteSize(s.dtype, s.shape))};
  }
  const Shape& output_shape(int i) const override { return plan().outputs[static_cast<size_t>(i)].shape; }
  absl::Status Run() override { return bound_->Run(); }
  absl::Status RunGivingWay(absl::FunctionRef<absl::Status()> go_on) override { return bound_->RunGivingWay(go_on); }
  absl::Status RunTimed(absl::Span<double> seconds) override { return bound_->RunTimed(seconds); }
  const Specialisation& specialisation() const override { return *specialisation_; }

 private:
  const Plan& plan() const { return specialisation_->plan(); }

  std::shared_ptr<const PlannedSpecialisation> specialisation_;
  std::unique_ptr<BoundPlan> bound_;
};

class ProgramImpl final : public PinnableProgram, public std::enable_shared_from_this<ProgramImpl> {
 public:
  ProgramImpl(graph::Graph graph, graph::BatchProof proof, const CompileOptions& options, std::vector<PassNote> notes)
      : graph_(std::make_shared<const graph::Graph>(std::move(graph))),
        proof_(std::move(proof)),
        options_(options),
        store_(std::make_shared<kernels::WeightStore>()),
        context_bytes_(std::make_shared<ContextBytes>()),
        notes_(std::move(notes)),
        shared_graph_(std::make_shared<SharedGraph>(graph_)),
        stages_(std::make_shared<StageCache>([shared = shared_graph_] { return shared->Get(); }, store_,
                                             InputsToPin(*graph_), options)) {
    for (graph::ValueId id : graph_->inputs) inputs_.push_back(SignatureOf(id));
    for (graph::ValueId id : graph_->outputs) {
      outputs_.push_back(SignatureOf(id));
      outputs_.back().shape = OutputShape(graph_->value(id));
    }
  }

  const std::vector<Signature>& inputs() const override { return inputs_; }
  const std::vector<Signature>& outputs() const override { return outputs_; }
  const graph::BatchProof& batch_proof() const override { return proof_; }
  std::vector<PassNote> PassNotes() const override { return notes_; }

  absl::StatusOr<std::shared_ptr<const Specialisation>> Specialise(absl::Span<const Shape> input_shapes,
                                                                   int threads) override {
    std::vector<Known> known;
    if (input_shapes.size() != inputs_.size()) {
      return absl::InvalidArgumentError(absl::StrCat(input_shapes.size(), " input shapes given, the model has ",
                                                     inputs_.size(), " inputs"));
    }
    for (size_t i = 0; i < input_shapes.size(); ++i) known.push_back({inputs_[i].dtype, input_shapes[i], Tensor()});
    return SpecialiseKnown(std::move(known), threads);
  }

  absl::StatusOr<std::shared_ptr<const Specialisation>> SpecialiseKnown(std::vector<Known> inputs,
                                                                        int threads) override {
    Key key{{}, "", threads};
    for (const Known& input : inputs) {
      key.shapes.push_back(input.shape);
      absl::StrAppend(&key.contents, input.content.valid() ? input.content.size_bytes() : -1, ":");
      if (!input.content.valid()) continue;
      key.contents.append(reinterpret_cast<const char*>(input.content.data()),
                          static_cast<size_t>(input.content.size_bytes()));
    }
    {
      absl::MutexLock lock(&mutex_);
      while (true) {
        if (auto found = Find(key); found != nullptr) return found;
        if (std::find(making_.begin(), making_.end(), key) == making_.end()) break;
        made_.Wait(&mutex_);
      }
      making_.push_back(key);
    }
    absl::StatusOr<std::shared_ptr<SpecialisationImpl>> made = Make(std::move(inputs), threads);
    absl::MutexLock lock(&mutex_);
    making_.erase(std::find(making_.begin(), making_.end(), key));
    made_.SignalAll();
    if (!made.ok()) return made.status();
    cache_.push_front({key, *made});
    ++made_count_;
    if (released_ && kept_) Release();
    Evict();
    return *made;
  }

  void ReleaseInitializers() override {
    stages_->bodies().ReleaseInitializers();
    absl::MutexLock lock(&mutex_);
    released_ = true;
    Release();
  }

  MemoryReport Memory() const override {
    MemoryReport report;
    report.weights = store_->TotalBytes();
    report.activations = context_bytes_->arena;
    report.scratchpad = context_bytes_->scratch;
    const StageCache::Report stages = stages_->Summary();
    report.code += stages.steps * kCodeBytesPerStep;
    report.weights += stages.local_bytes;
    report.metadata += stages.steps * static_cast<int64_t>(sizeof(Step));
    stages_->bodies().AddMemory(&report);
    absl::MutexLock lock(&mutex_);
    for (const Entry& entry : cache_) {
      report.code += entry.made->code_bytes();
      report.weights += entry.made->local_bytes();
      report.metadata += static_cast<int64_t>(entry.made->plan().steps.size() * sizeof(Step));
    }
    report.metadata += static_cast<int64_t>(graph_->values.size() * sizeof(graph::Value) +
                                            graph_->nodes.size() * sizeof(graph::Node));
    return report;
  }

  CacheReport Cache() const override {
    const StageCache::Report stages = stages_->Summary();
    absl::MutexLock lock(&mutex_);
    CacheReport report;
    report.specialisations = static_cast<int64_t>(cache_.size());
    report.max_specialisations = options_.max_specialisations;
    for (const Entry& entry : cache_) report.bytes += BytesOfEntry(entry);
    report.max_bytes = options_.max_specialisation_bytes;
    report.made = made_count_;
    report.evicted = evicted_count_;
    report.specialisations += stages.stages;
    report.bytes += stages.arena_bytes + stages.steps * kCodeBytesPerStep;
    report.made += stages.made;
    report.evicted += stages.evicted;
    return report;
  }

  std::vector<std::string> PackedCopies() const override {
    absl::MutexLock lock(&mutex_);
    std::vector<std::string> lines;
    for (const auto& [key, bytes] : store_->Entries()) {
      const std::string id_text = key.substr(0, key.find('/'));
      const auto id = static_cast<size_t>(std::stol(id_text) % (1 << 30));
      const std::string name = id < graph_->values.size() ? graph_->values[id].name : id_text;
      lines.push_back(absl::StrCat(name, " ", key.substr(key.find('/') + 1), " ", bytes));
    }
    return lines;
  }

 private:
  struct Key {
    std::vector<Shape> shapes;
    std::string contents;  // of pinned inputs
    int threads;
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;
    std::shared_ptr<SpecialisationImpl> made;
  };
  // What specialisations keep alive of their program.
  struct Kept {
    std::shared_ptr<kernels::WeightStore> store;
    std::shared_ptr<const graph::Graph> graph;
  };

  Signature SignatureOf(graph::ValueId id) const {
    const graph::Value& value = graph_->value(id);
    return {value.name, value.dtype, value.shape.value_or(Shape{})};
  }

  // The graph as stages see it: swapped when initializers are released. Thread-safe.
  class SharedGraph {
   public:
    explicit SharedGraph(std::shared_ptr<const graph::Graph> graph) : graph_(std::move(graph)) {}
    std::shared_ptr<const graph::Graph> Get() const {
      absl::MutexLock lock(&mutex_);
      return graph_;
    }
    void Set(std::shared_ptr<const graph::Graph> graph) {
      absl::MutexLock lock(&mutex_);
      graph_ = std::move(graph);
    }

   private:
    mutable absl::Mutex mutex_;
    std::shared_ptr<const graph::Graph> graph_ ABSL_GUARDED_BY(mutex_);
  };

  absl::StatusOr<std::shared_ptr<SpecialisationImpl>> Make(std::vector<Known> inputs, int threads) {
    OCTET_ASSIGN_OR_RETURN(std::shared_ptr<const Stage> stage, stages_->First(std::move(inputs), threads));
    const std::shared_ptr<const graph::Graph> graph = shared_graph_->Get();
    return std::make_shared<SpecialisationImpl>(std::move(stage), *graph, stages_,
                                                std::make_shared<Kept>(Kept{store_, nullptr}), context_bytes_);
  }

  // Constants whose content a later stage may still want. A program of one stage has packed all; one with stages only
  // what ran so far: a constant is needed until it is packed, or until the program of the subgraph that reads it is made.
  std::vector<bool> NeededLater() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<bool> needed(graph_->values.size(), false);
    bool staged = cache_.empty() || std::any_of(graph_->nodes.begin(), graph_->nodes.end(), graph::IsControlFlow);
    for (const Entry& entry : cache_) staged = staged || !entry.made->stage().last();
    if (!staged) return needed;
    std::vector<bool> packed(needed.size(), false);
    for (const auto& [key, bytes] : store_->Entries()) {
      const auto id = static_cast<size_t>(std::stol(key.substr(0, key.find('/'))) % (1 << 30));
      if (id < packed.size()) packed[id] = true;
    }
    graph::NameIndex names;
    for (size_t i = 0; i < needed.size(); ++i) names.emplace(graph_->values[i].name, static_cast<graph::ValueId>(i));
    const auto want = [&](graph::ValueId id, bool always) {
      if (id != graph::kNoValue && (always || !packed[static_cast<size_t>(id)])) needed[static_cast<size_t>(id)] = true;
    };
    for (const graph::Node& node : graph_->nodes) {
      for (graph::ValueId id : node.inputs) want(id, graph::IsControlFlow(node));
      if (!graph::IsControlFlow(node) || stages_->bodies().HasAllOf(node)) continue;
      for (const std::string& name : graph::CapturedNames(node)) {
        const auto it = names.find(name);
        if (it != names.end()) want(it->second, node.op != "If");  // a branch is inlined, or was made with its sibling
      }
    }
    for (graph::ValueId id : graph_->outputs) want(id, false);
    return needed;
  }

  // Drops the content of large constants that no stage will want; kept_ tells whether some are still wanted.
  void Release() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto released = std::make_shared<graph::Graph>(*graph_);
    kept_ = false;
    const std::vector<bool> needed = NeededLater();
    for (size_t i = 0; i < released->values.size(); ++i) {
      graph::Value& value = released->values[i];
      if (!value.is_constant() || !value.data->valid()) continue;
      if (needed[i]) {
        kept_ = kept_ || value.data->size_bytes() > kSmallConstantBytes;
        continue;
      }
      const Tensor& t = *value.data;
      if (t.size_bytes() <= kSmallConstantBytes) {
        // A copy of its own, so that a small slice does not keep the whole file in memory.
        auto bytes = std::make_shared<std::vector<std::byte>>(t.data(), t.data() + t.size_bytes());
        const std::byte* data = bytes->data();
        value.data = Tensor(t.dtype(), t.shape(), data, std::move(bytes));
      } else {
        value.data = Tensor(t.dtype(), t.shape(), nullptr, nullptr);
      }
    }
    graph_ = std::move(released);
    shared_graph_->Set(graph_);
  }

  std::shared_ptr<SpecialisationImpl> Find(const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto it = cache_.begin(); it != cache_.end(); ++it) {
      if (!(it->key == key)) continue;
      cache_.splice(cache_.begin(), cache_, it);
      return cache_.front().made;
    }
    return nullptr;
  }

  static int64_t BytesOfEntry(const Entry& entry) {
    return entry.made->arena_bytes() + entry.made->code_bytes();
  }

  void Evict() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    int64_t bytes = 0;
    int count = 0;
    for (auto it = cache_.begin(); it != cache_.end();) {
      bytes += BytesOfEntry(*it);
      ++count;
      // Stages behind others share the bound.
      const int64_t most = options_.max_specialisations -
                           (it->made->stage().last() ? 0 : MaxFollowingStages(options_.max_specialisations));
      const bool over = count > most || bytes > options_.max_specialisation_bytes;
      if (count > 1 && over) {
        it = cache_.erase(it);
        ++evicted_count_;
      } else {
        ++it;
      }
    }
  }

  mutable absl::Mutex mutex_;
  absl::CondVar made_;
  std::shared_ptr<const graph::Graph> graph_;  // swapped by ReleaseInitializers under mutex_
  graph::BatchProof proof_;
  CompileOptions options_;
  std::vector<Signature> inputs_, outputs_;
  std::shared_ptr<kernels::WeightStore> store_;
  std::shared_ptr<ContextBytes> context_bytes_;
  const std::vector<PassNote> notes_;
  std::shared_ptr<SharedGraph> shared_graph_;
  std::shared_ptr<StageCache> stages_;
  std::list<Entry> cache_ ABSL_GUARDED_BY(mutex_);  // most recently used first
  std::vector<Key> making_ ABSL_GUARDED_BY(mutex_);
  bool released_ ABSL_GUARDED_BY(mutex_) = false, kept_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t made_count_ ABSL_GUARDED_BY(mutex_) = 0, evicted_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Program>> Program::Compile(graph::Graph graph,
                                                          const CompileOptions& options) {
  // A program runs the most probable network; samples are graphs of their own (graph/ensemble.h).
  for (graph::Value& value : graph.values) value.alternatives.reset();
  OCTET_RETURN_IF_ERROR(graph::NormalizeSubgraphs(&graph));
  graph::HoistConstants(&graph, kSmallConstantBytes);
  graph::TransposeQuantizedConstants(&graph);
  OCTET_RETURN_IF_ERROR(FoldConstants(&graph));
  graph::BatchProof proof = graph::FreeBatch(&graph);
  PassLog log;
  if (proof.batchable) StackSiblings(&graph, &log);
  graph::SignWeights(&graph);
  graph::UnsignActivations(&graph);
  FuseIntegerProducts(&graph);
  OCTET_RETURN_IF_ERROR(SplitWeightZeroPoints(&graph));
  OCTET_RETURN_IF_ERROR(RunPasses(&graph, &log));
  return std::make_shared<ProgramImpl>(std::move(graph), std::move(proof), options, log.notes());
}

absl::StatusOr<std::unique_ptr<Context>> Context::Create(
    std::shared_ptr<const Specialisation> specialisation) {
  auto planned = std::dynamic_pointer_cast<const PlannedSpecialisation>(specialisation);
  if (planned == nullptr) return absl::InternalError("specialisation of another engine");
  if (!planned->stage().last()) return CreateStagedContext(std::move(planned));
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<BoundPlan> bound, BoundPlan::Create(planned->plan()));
  return std::make_unique<ContextImpl>(std::move(planned), std::move(bound));
}

}  // namespace octet::engine
