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
#include "engine/passes/passes.h"
#include "engine/specialise.h"
#include "graph/rewrites.h"
#include "graph/shape_inference.h"

namespace octet::engine {
namespace {

// Constants up to this size survive ReleaseInitializers: shape arithmetic and small operands of later specialisations.
constexpr int64_t kSmallConstantBytes = 4096;
// A JIT kernel's code; oneDNN does not tell. Measured as resident growth per primitive on AVX-512 machines.
constexpr int64_t kCodeBytesPerStep = 24 << 10;

// Memory of living contexts of one program, shared so that a context may outlive it.
struct ContextBytes {
  std::atomic<int64_t> arena{0}, scratch{0};
};

class SpecialisationImpl final : public PlannedSpecialisation {
 public:
  SpecialisationImpl(Plan plan, std::shared_ptr<const void> program, std::shared_ptr<ContextBytes> bytes,
                     std::unique_ptr<kernels::WeightStore> local_store)
      : plan_(std::move(plan)),
        program_(std::move(program)),
        context_bytes_(std::move(bytes)),
        local_store_(std::move(local_store)) {
    for (const Signature& s : plan_.inputs) input_shapes_.push_back(s.shape);
    for (const Signature& s : plan_.outputs) output_shapes_.push_back(s.shape);
  }

  const std::vector<Shape>& input_shapes() const override { return input_shapes_; }
  const std::vector<Shape>& output_shapes() const override { return output_shapes_; }
  int threads() const override { return plan_.threads; }
  std::vector<StepInfo> Steps() const override {
    std::vector<StepInfo> steps;
    for (const Step& step : plan_.steps) steps.push_back(step.info);
    return steps;
  }
  int64_t arena_bytes() const override { return plan_.memory.arena_bytes; }
  int64_t arena_lower_bound_bytes() const override { return plan_.memory.lower_bound_bytes; }
  int64_t scratch_bytes() const override { return plan_.scratch_bytes; }
  const Plan& plan() const override { return plan_; }
  void AddContextBytes(int64_t arena, int64_t scratch) const override {
    context_bytes_->arena += arena;
    context_bytes_->scratch += scratch;
  }
  int64_t local_bytes() const { return local_store_->TotalBytes(); }
  int64_t code_bytes() const { return static_cast<int64_t>(plan_.steps.size()) * kCodeBytesPerStep; }

 private:
  Plan plan_;
  std::shared_ptr<const void> program_;  // keeps the weight store alive
  std::shared_ptr<ContextBytes> context_bytes_;
  std::unique_ptr<kernels::WeightStore> local_store_;
  std::vector<Shape> input_shapes_, output_shapes_;
};

class ContextImpl final : public Context {
 public:
  ContextImpl(std::shared_ptr<const PlannedSpecialisation> specialisation, Buffer arena, Buffer scratch)
      : specialisation_(std::move(specialisation)),
        arena_(std::move(arena)),
        scratch_(std::move(scratch)),
        team_(specialisation_->threads()) {
    specialisation_->AddContextBytes(arena_.size_bytes(), scratch_.size_bytes());
  }
  ~ContextImpl() override {
    specialisation_->AddContextBytes(-arena_.size_bytes(), -scratch_.size_bytes());
  }

  absl::Status BindSteps() {
    for (const Step& step : plan().steps) {
      std::vector<const void*> src;
      std::vector<void*> dst;
      for (const Location& l : step.src) {
        src.push_back(l.buffer >= 0 ? At(l.buffer) : l.constant->data.data());
      }
      for (const Location& l : step.dst) dst.push_back(At(l.buffer));
      OCTET_ASSIGN_OR_RETURN(kernels::BoundKernel bound,
                             step.kernel->Bind({src, dst, scratch_.data(), &team_}));
      steps_.push_back(std::move(bound));
    }
    return absl::OkStatus();
  }

  absl::Span<std::byte> input(int i) override {
    const auto index = static_cast<size_t>(i);
    const Signature& s = plan().inputs[index];
    return {At(plan().input_buffers[index]), static_cast<size_t>(ByteSize(s.dtype, s.shape))};
  }
  absl::Span<const std::byte> output(int i) const override {
    const auto index = static_cast<size_t>(i);
    const Signature& s = plan().outputs[index];
    return {At(plan().output_buffers[index]), static_cast<size_t>(ByteSize(s.dtype, s.shape))};
  }

  const Shape& output_shape(int i) const override { return plan().outputs[static_cast<size_t>(i)].shape; }

  absl::Status Run() override {
    if (CurrentTeamSize() != plan().threads) {
      return absl::InternalError(absl::StrCat("specialised for a team of ", plan().threads,
                                              ", run on a thread with a team of ", CurrentTeamSize()));
    }
    for (size_t i = 0; i < steps_.size(); ++i) {
      if (absl::Status status = steps_[i](); !status.ok()) {
        return Annotate(status, absl::StrCat("node '", plan().steps[i].info.node, "'"));
      }
    }
    return absl::OkStatus();
  }

  const Specialisation& specialisation() const override { return *specialisation_; }

 private:
  const Plan& plan() const { return specialisation_->plan(); }
  std::byte* At(int buffer) const {
    return const_cast<std::byte*>(arena_.data()) + plan().memory.offsets[static_cast<size_t>(buffer)];
  }

  std::shared_ptr<const PlannedSpecialisation> specialisation_;
  Buffer arena_, scratch_;
  OpenMpFor team_;
  std::vector<kernels::BoundKernel> steps_;
};

class ProgramImpl final : public Program, public std::enable_shared_from_this<ProgramImpl> {
 public:
  ProgramImpl(graph::Graph graph, graph::BatchProof proof, const CompileOptions& options)
      : graph_(std::make_shared<const graph::Graph>(std::move(graph))),
        proof_(std::move(proof)),
        options_(options),
        store_(std::make_shared<kernels::WeightStore>()),
        context_bytes_(std::make_shared<ContextBytes>()) {
    for (graph::ValueId id : graph_->inputs) inputs_.push_back(SignatureOf(id));
    for (graph::ValueId id : graph_->outputs) outputs_.push_back(SignatureOf(id));
  }

  const std::vector<Signature>& inputs() const override { return inputs_; }
  const std::vector<Signature>& outputs() const override { return outputs_; }
  const graph::BatchProof& batch_proof() const override { return proof_; }

  absl::StatusOr<std::shared_ptr<const Specialisation>> Specialise(absl::Span<const Shape> input_shapes,
                                                                   int threads) override {
    const Key key{std::vector<Shape>(input_shapes.begin(), input_shapes.end()), threads};
    {
      absl::MutexLock lock(&mutex_);
      while (true) {
        if (auto found = Find(key); found != nullptr) return found;
        if (std::find(making_.begin(), making_.end(), key) == making_.end()) break;
        made_.Wait(&mutex_);
      }
      making_.push_back(key);
    }
    absl::StatusOr<std::shared_ptr<SpecialisationImpl>> made = Make(input_shapes, threads);
    absl::MutexLock lock(&mutex_);
    making_.erase(std::find(making_.begin(), making_.end(), key));
    made_.SignalAll();
    if (!made.ok()) return made.status();
    cache_.push_front({key, *made});
    ++made_count_;
    Evict();
    return *made;
  }

  void ReleaseInitializers() override {
    absl::MutexLock lock(&mutex_);
    auto released = std::make_shared<graph::Graph>(*graph_);
    for (graph::Value& value : released->values) {
      if (!value.is_constant() || !value.data->valid()) continue;
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
  }

  MemoryReport Memory() const override {
    MemoryReport report;
    report.weights = store_->TotalBytes();
    report.activations = context_bytes_->arena;
    report.scratchpad = context_bytes_->scratch;
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
    absl::MutexLock lock(&mutex_);
    CacheReport report;
    report.specialisations = static_cast<int64_t>(cache_.size());
    report.max_specialisations = options_.max_specialisations;
    for (const Entry& entry : cache_) report.bytes += BytesOfEntry(entry);
    report.max_bytes = options_.max_specialisation_bytes;
    report.made = made_count_;
    report.evicted = evicted_count_;
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

  absl::StatusOr<std::shared_ptr<SpecialisationImpl>> Make(absl::Span<const Shape> input_shapes,
                                                           int threads) {
    std::shared_ptr<const graph::Graph> graph;
    {
      absl::MutexLock lock(&mutex_);
      graph = graph_;
    }
    SetTeamSize(threads);  // blocking is fixed when a primitive is created
    auto local = std::make_unique<kernels::WeightStore>();
    OCTET_ASSIGN_OR_RETURN(Plan plan, MakePlan(*graph, input_shapes, store_.get(), local.get(), threads));
    const int64_t bytes = plan.memory.arena_bytes + plan.scratch_bytes;
    if (bytes > options_.max_specialisation_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat("these shapes need ", bytes,
                                                       " bytes of activations, the limit is ",
                                                       options_.max_specialisation_bytes));
    }
    return std::make_shared<SpecialisationImpl>(std::move(plan), std::make_shared<Kept>(Kept{store_, nullptr}),
                                                context_bytes_, std::move(local));
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
      const bool over = count > options_.max_specialisations || bytes > options_.max_specialisation_bytes;
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
  std::list<Entry> cache_ ABSL_GUARDED_BY(mutex_);  // most recently used first
  std::vector<Key> making_ ABSL_GUARDED_BY(mutex_);
  int64_t made_count_ ABSL_GUARDED_BY(mutex_) = 0, evicted_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Program>> Program::Compile(graph::Graph graph,
                                                          const CompileOptions& options) {
  OCTET_RETURN_IF_ERROR(FoldConstants(&graph));
  graph::BatchProof proof = graph::FreeBatch(&graph);
  graph::SignWeights(&graph);
  FuseIntegerProducts(&graph);
  OCTET_RETURN_IF_ERROR(SplitWeightZeroPoints(&graph));
  OCTET_RETURN_IF_ERROR(FoldAffine(&graph));
  OCTET_RETURN_IF_ERROR(FoldConstants(&graph));
  SpreadQuantization(&graph);
  OCTET_RETURN_IF_ERROR(graph.Validate());
  return std::make_shared<ProgramImpl>(std::move(graph), std::move(proof), options);
}

absl::StatusOr<std::unique_ptr<Context>> Context::Create(
    std::shared_ptr<const Specialisation> specialisation) {
  auto planned = std::dynamic_pointer_cast<const PlannedSpecialisation>(specialisation);
  if (planned == nullptr) return absl::InternalError("specialisation of another engine");
  OCTET_ASSIGN_OR_RETURN(Buffer arena, Buffer::Allocate(planned->arena_bytes()));
  OCTET_ASSIGN_OR_RETURN(Buffer scratch, Buffer::Allocate(planned->scratch_bytes()));
  auto context =
      std::make_unique<ContextImpl>(std::move(planned), std::move(arena), std::move(scratch));
  OCTET_RETURN_IF_ERROR(context->BindSteps());
  return context;
}

}  // namespace octet::engine
