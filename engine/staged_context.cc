// A run through stages: plan, dynamic nodes, the next stage for what they returned.
#include <algorithm>
#include <cstring>
#include <list>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/bound_plan.h"
#include "engine/evaluate.h"
#include "engine/staged.h"
#include "graph/control_flow.h"

namespace octet::engine {
namespace {

using graph::ValueId;

// Bound stages that a context keeps beside those of the running path.
constexpr int kMaxIdle = 16;

// Where a value of the run lies.
struct Slot {
  std::byte* data = nullptr;
  DType dtype = DType::kInvalid;
  Shape shape;
};

// One stage bound to memory; knows the stages before it and keeps some behind it. Their addresses refer to its own.
struct BoundStage {
  std::shared_ptr<const Stage> stage;
  const BoundStage* before = nullptr;
  std::unique_ptr<BoundPlan> plan;
  std::vector<Buffer> received;  // results of the dynamic nodes before this stage
  absl::flat_hash_map<ValueId, Slot> slots;
  std::vector<std::vector<BodyRunner>> runners;  // per dynamic step
  int64_t bytes = 0;
  RunPool* pool = nullptr;
  std::list<std::unique_ptr<BoundStage>> behind;  // most recently used first

  ~BoundStage() {
    behind.clear();
    if (pool != nullptr) pool->Give(bytes);
  }
  const Slot* Find(ValueId id) const {
    for (const BoundStage* at = this; at != nullptr; at = at->before) {
      if (const auto it = at->slots.find(id); it != at->slots.end()) return &it->second;
    }
    return nullptr;
  }
};

class StagedContext final : public Context {
 public:
  explicit StagedContext(std::shared_ptr<const PlannedSpecialisation> specialisation)
      : specialisation_(std::move(specialisation)), pool_(specialisation_->stages().max_run_bytes()) {}
  ~StagedContext() override {
    first_.reset();
    Report();
  }

  absl::Status Bind() {
    // The stage is part of the specialisation, which this context keeps.
    std::shared_ptr<const Stage> stage(specialisation_, &specialisation_->stage());
    OCTET_ASSIGN_OR_RETURN(first_, BindStage(std::move(stage), nullptr, {}));
    for (size_t i = 0; i < first_->stage->inputs.size(); ++i) {
      const Signature& s = first_->stage->plan.inputs[i];
      first_->slots[first_->stage->inputs[i]] = {first_->plan->input(i), s.dtype, s.shape};
    }
    Report();
    return absl::OkStatus();
  }

  absl::Span<std::byte> input(int i) override {
    const auto index = static_cast<size_t>(i);
    const Signature& s = first_->stage->plan.inputs[index];
    return {first_->plan->input(index), static_cast<size_t>(ByteSize(s.dtype, s.shape))};
  }

  absl::Span<const std::byte> output(int i) const override {
    if (last_ == nullptr) return {};
    const Slot* slot = last_->Find(last_->stage->outputs[static_cast<size_t>(i)].first);
    if (slot == nullptr) return {};
    return {slot->data, static_cast<size_t>(ByteSize(slot->dtype, slot->shape))};
  }

  const Shape& output_shape(int i) const override {
    const auto index = static_cast<size_t>(i);
    return last_ == nullptr ? specialisation_->output_shapes()[index] : last_->stage->outputs[index].second;
  }

  absl::Status Run() override {
    return RunGivingWay([] { return absl::OkStatus(); });
  }

  absl::Status RunGivingWay(absl::FunctionRef<absl::Status()> go_on) override {
    last_ = nullptr;
    path_.clear();
    BoundStage* at = first_.get();
    const absl::Status status = Walk(at, go_on);
    Report();
    return status;
  }

  const Specialisation& specialisation() const override { return *specialisation_; }

 private:
  absl::Status Walk(BoundStage* at, absl::FunctionRef<absl::Status()> go_on) {
    while (true) {
      path_.push_back(at);
      OCTET_RETURN_IF_ERROR(go_on());
      OCTET_RETURN_IF_ERROR(at->plan->Run());
      if (at->stage->last()) break;
      std::vector<std::pair<ValueId, Tensor>> results;
      OCTET_RETURN_IF_ERROR(RunDynamic(at, &results));
      OCTET_ASSIGN_OR_RETURN(at, StageBehind(at, results));
      for (size_t i = 0; i < results.size(); ++i) {
        const Tensor& t = results[i].second;
        if (t.size_bytes() > 0) {
          std::memcpy(at->received[i].data(), t.data(), static_cast<size_t>(t.size_bytes()));
        }
      }
    }
    for (const auto& [id, shape] : at->stage->outputs) {
      if (at->Find(id) == nullptr) return absl::InternalError("an output was not computed");
    }
    last_ = at;
    return absl::OkStatus();
  }

  absl::StatusOr<Tensor> Operand(const BoundStage& at, const DynamicOperand& operand) {
    if (operand.constant.valid() || operand.id == graph::kNoValue) return operand.constant;
    const Slot* slot = at.Find(operand.id);
    if (slot == nullptr) return absl::InternalError("an operand was not computed");
    return Tensor(slot->dtype, slot->shape, slot->data, nullptr);
  }

  absl::Status RunDynamic(BoundStage* at, std::vector<std::pair<ValueId, Tensor>>* results) {
    for (size_t i = 0; i < at->stage->dynamic.size(); ++i) {
      const DynamicStep& step = at->stage->dynamic[i];
      absl::StatusOr<std::vector<Tensor>> out = RunStep(at, i);
      if (!out.ok()) return Annotate(out.status(), step.name);
      if (out->size() < step.node.outputs.size()) return absl::InternalError(step.name + ": results are missing");
      for (size_t k = 0; k < step.node.outputs.size(); ++k) {
        if (step.node.outputs[k] == graph::kNoValue) continue;
        results->emplace_back(step.node.outputs[k], std::move((*out)[k]));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Tensor>> RunStep(BoundStage* at, size_t index) {
    const DynamicStep& step = at->stage->dynamic[index];
    std::vector<Tensor> operands;
    for (const DynamicOperand& operand : step.operands) {
      OCTET_ASSIGN_OR_RETURN(Tensor t, Operand(*at, operand));
      operands.push_back(std::move(t));
    }
    if (!graph::IsControlFlow(step.node)) return RunNodeAlone(step.alone, operands, pool_.left_bytes());
    std::vector<std::vector<Tensor>> captured;
    for (const DynamicStep::Use& use : step.bodies) {
      captured.emplace_back();
      for (const DynamicOperand& operand : use.captured) {
        OCTET_ASSIGN_OR_RETURN(Tensor t, Operand(*at, operand));
        captured.back().push_back(std::move(t));
      }
    }
    return RunControlFlow(step.node, operands, captured, absl::MakeSpan(at->runners[index]), &pool_);
  }

  absl::StatusOr<BoundStage*> StageBehind(BoundStage* at, const std::vector<std::pair<ValueId, Tensor>>& results) {
    KnownValues known;
    for (const auto& [id, t] : results) known.emplace_back(id, Known{t.dtype(), t.shape(), Tensor()});
    for (ValueId id : at->stage->pinned) {
      const Slot* slot = at->Find(id);
      if (slot == nullptr) return absl::InternalError("a pinned value was not computed");
      // A copy: the stage outlives the run.
      auto bytes = std::make_shared<std::vector<std::byte>>(slot->data, slot->data + ByteSize(slot->dtype, slot->shape));
      const std::byte* data = bytes->data();
      known.emplace_back(id, Known{slot->dtype, slot->shape, Tensor(slot->dtype, slot->shape, data, std::move(bytes))});
    }
    OCTET_ASSIGN_OR_RETURN(std::shared_ptr<const Stage> stage, specialisation_->stages().Next(*at->stage, known));
    for (auto it = at->behind.begin(); it != at->behind.end(); ++it) {
      if ((*it)->stage != stage) continue;
      at->behind.splice(at->behind.begin(), at->behind, it);
      return at->behind.front().get();
    }
    OCTET_ASSIGN_OR_RETURN(std::unique_ptr<BoundStage> bound, BindStage(std::move(stage), at, results));
    at->behind.push_front(std::move(bound));
    if (++idle_ > kMaxIdle) DropIdle(at->behind.front().get());
    return at->behind.front().get();
  }

  // Drops all bound stages that are neither on the path of this run nor `keep`.
  void DropIdle(const BoundStage* keep) {
    for (size_t i = 0; i < path_.size(); ++i) {
      const BoundStage* next = i + 1 < path_.size() ? path_[i + 1] : keep;
      path_[i]->behind.remove_if([&](const std::unique_ptr<BoundStage>& b) { return b.get() != next; });
    }
    idle_ = 0;
  }

  absl::Status Reserve(int64_t bytes) {
    if (bytes > pool_.left_bytes()) DropIdle(nullptr);
    return pool_.Take(bytes, "a stage's activations");
  }

  absl::StatusOr<std::unique_ptr<BoundStage>> BindStage(std::shared_ptr<const Stage> stage, const BoundStage* before,
                                                        const std::vector<std::pair<ValueId, Tensor>>& results) {
    auto bound = std::make_unique<BoundStage>();
    int64_t bytes = stage->plan.memory.arena_bytes + stage->plan.scratch_bytes;
    for (const auto& [id, t] : results) bytes += t.size_bytes();
    OCTET_RETURN_IF_ERROR(Reserve(bytes));
    bound->pool = &pool_;
    bound->bytes = bytes;
    bound->before = before;
    for (const auto& [id, t] : results) {
      OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(std::max<int64_t>(t.size_bytes(), 1)));
      bound->slots[id] = {buffer.data(), t.dtype(), t.shape()};
      bound->received.push_back(std::move(buffer));
    }
    std::vector<std::byte*> inputs;
    if (stage->plan.external_inputs) {
      for (ValueId id : stage->inputs) {
        const Slot* slot = bound->Find(id);
        if (slot == nullptr) return absl::InternalError("an input of a stage was not computed");
        inputs.push_back(slot->data);
      }
    }
    OCTET_ASSIGN_OR_RETURN(bound->plan, BoundPlan::Create(stage->plan, inputs));
    for (size_t i = 0; i < stage->results.size(); ++i) {
      const Signature& s = stage->plan.outputs[i];
      bound->slots[stage->results[i]] = {bound->plan->output(i), s.dtype, s.shape};
    }
    for (const DynamicStep& step : stage->dynamic) {
      bound->runners.emplace_back();
      for (const DynamicStep::Use& use : step.bodies) {
        bound->runners.back().emplace_back(use, stage->plan.threads, &pool_);
      }
    }
    bound->stage = std::move(stage);
    return bound;
  }

  // Tells the program what this context holds.
  void Report() {
    const int64_t bytes = pool_.used_bytes() - pool_.body_bytes();  // bodies report their own
    specialisation_->AddContextBytes(bytes - reported_bytes_, 0);
    reported_bytes_ = bytes;
  }

  std::shared_ptr<const PlannedSpecialisation> specialisation_;
  RunPool pool_;
  int64_t reported_bytes_ = 0;
  std::unique_ptr<BoundStage> first_;
  std::vector<BoundStage*> path_;  // of the running or last run
  const BoundStage* last_ = nullptr;
  int idle_ = 0;                   // bound since idle ones were dropped
};

}  // namespace

absl::StatusOr<std::unique_ptr<Context>> CreateStagedContext(
    std::shared_ptr<const PlannedSpecialisation> specialisation) {
  auto context = std::make_unique<StagedContext>(std::move(specialisation));
  OCTET_RETURN_IF_ERROR(context->Bind());
  return context;
}

}  // namespace octet::engine
