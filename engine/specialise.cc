// From graph and shapes to a stage.
#include "engine/specialise.h"

#include <algorithm>
#include <atomic>
#include <deque>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/evaluate.h"
#include "engine/fuse.h"
#include "engine/host_nodes.h"
#include "graph/control_flow.h"
#include "graph/shape_inference.h"

namespace octet::engine {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;

ValueInfo InfoOf(const graph::Value& value) {
  ValueInfo info;
  info.dtype = value.dtype;
  if (!value.is_constant()) return info;
  info.is_constant = true;
  info.shape = value.data->shape();
  // A released constant keeps its shape; its content lives in the weight store.
  if (value.data->data() != nullptr) info.constant = &*value.data;
  return info;
}

// Shape arithmetic at specialisation works on small tensors; anything larger stays a node.
constexpr int64_t kMaxFoldedBytes = 1 << 20;
// ConstantOfShape and Range have no kernel; up to this size they fold all the same.
constexpr int64_t kMaxUnfoldedBytes = 64 << 20;
// Inputs that may be pinned: a rate, a flag, a list of sizes.
constexpr int64_t kMaxPinnedElements = 64;

enum class Turn : uint8_t {
  kStatic,    // runs in this stage's plan (or is folded)
  kDynamic,   // runs behind the plan: needs contents of its operands
  kDeferred,  // waits for a dynamic node
};

class StageMaker {
 public:
  StageMaker(const StageInput& input, kernels::WeightStore* program_store, int threads, BodySource bodies,
             const absl::flat_hash_set<ValueId>& dynamic)
      : input_(input), program_store_(program_store), threads_(threads), bodies_(bodies), forced_(dynamic) {}

  // Values of nodes that turned out to need contents; when not empty the stage must be made anew.
  const std::vector<ValueId>& found_dynamic() const { return found_dynamic_; }

  absl::StatusOr<std::unique_ptr<Stage>> Make() {
    static std::atomic<uint64_t> next_id{1};
    stage_ = std::make_unique<Stage>();
    stage_->id = next_id++;
    stage_->local_store = std::make_unique<kernels::WeightStore>();
    OpenGraph();
    OCTET_RETURN_IF_ERROR(EnterKnown());
    if (FindPinned()) {
      OCTET_RETURN_IF_ERROR(PlanNothing());
      return std::move(stage_);
    }
    OCTET_RETURN_IF_ERROR(Walk());
    FindLive();
    OCTET_RETURN_IF_ERROR(CollectDynamic());
    CollectResults();
    OCTET_RETURN_IF_ERROR(MakePlan());
    stage_->rewritten = input_.rewritten;
    if (inlined_) {
      auto rewritten = std::make_shared<Rewritten>();
      rewritten->nodes = std::move(own_.nodes);
      rewritten->values.assign(own_.values.begin() + static_cast<int64_t>(base_values_), own_.values.end());
      stage_->rewritten = std::move(rewritten);
    }
    return std::move(stage_);
  }

 private:
  ValueInfo& Info(ValueId id) { return infos_[static_cast<size_t>(id)]; }
  bool IsKnown(ValueId id) const { return known_[static_cast<size_t>(id)]; }
  bool IsAvailable(ValueId id) const { return available_[static_cast<size_t>(id)]; }

  // The program's graph, or a copy with what earlier stages inlined; branches can be inlined into a copy only.
  void OpenGraph() {
    graph_ = input_.graph.get();
    base_values_ = graph_->values.size();
    has_if_ = std::any_of(graph_->nodes.begin(), graph_->nodes.end(),
                          [](const Node& n) { return n.domain.empty() && n.op == "If"; });
    if (has_if_ || input_.rewritten != nullptr) {
      own_ = *graph_;
      if (input_.rewritten != nullptr) {
        own_.nodes = input_.rewritten->nodes;
        own_.values.insert(own_.values.end(), input_.rewritten->values.begin(), input_.rewritten->values.end());
      }
      graph_ = &own_;
    }
    infos_ = InitialInfos(*input_.graph);
    if (input_.rewritten != nullptr) {
      for (const graph::Value& value : input_.rewritten->values) infos_.push_back(InfoOf(value));
    }
    known_.assign(infos_.size(), false);
    available_.assign(infos_.size(), false);
    for (size_t i = 0; i < infos_.size(); ++i) EnterConstant(i);
  }

  void EnterConstant(size_t i) {
    if (!infos_[i].is_constant) return;
    known_[i] = true;
    infos_[i].local = i >= base_values_;
  }

  absl::Status EnterKnown() {
    if (input_.first && input_.known.size() != graph_->inputs.size()) {
      return absl::InvalidArgumentError(absl::StrCat(input_.known.size(), " input shapes given, the model has ",
                                                     graph_->inputs.size(), " inputs"));
    }
    for (size_t i = 0; i < input_.known.size(); ++i) {
      const auto& [id, known] = input_.known[i];
      if (input_.first) OCTET_RETURN_IF_ERROR(CheckInput(graph_->value(id), known.shape));
      ValueInfo& info = Info(id);
      info.shape = known.shape;
      if (!graph_->value(id).quant.has_value()) info.dtype = known.dtype;
      known_[static_cast<size_t>(id)] = true;
      available_[static_cast<size_t>(id)] = true;
      if (known.content.valid()) {
        info.constant = &known.content;
        info.is_constant = info.local = true;
      }
    }
    return absl::OkStatus();
  }

  static absl::Status CheckInput(const graph::Value& value, const Shape& shape) {
    OCTET_RETURN_IF_ERROR(CheckedByteSize(DType::kF64, shape).status());
    if (!value.shape.has_value()) return absl::OkStatus();
    bool fits = value.shape->size() == shape.size();
    for (size_t i = 0; fits && i < shape.size(); ++i) {
      fits = (*value.shape)[i] == kUnknownDim || (*value.shape)[i] == shape[i];
    }
    if (fits) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("input '", value.name, "' has shape ", ShapeString(shape),
                                                   ", expected ", ShapeString(*value.shape)));
  }

  // Whether the stage only waits for contents of the graph's inputs.
  bool FindPinned() {
    if (!input_.first) return false;
    for (size_t i = 0; i < graph_->inputs.size() && i < input_.pins.size(); ++i) {
      const Known& known = input_.known[i].second;
      if (!input_.pins[i] || known.content.valid() || known.shape.size() > 1) continue;
      if (NumElements(known.shape) <= kMaxPinnedElements) stage_->pinned.push_back(graph_->inputs[i]);
    }
    return !stage_->pinned.empty();
  }

  absl::Status PlanNothing() { return MakePlan(); }

  // Concrete types and shapes of all values that can be known now, with what folds from them.
  absl::Status Walk() {
    if (!has_if_) {
      for (const Node& node : graph_->nodes) OCTET_RETURN_IF_ERROR(Visit(node));
      return absl::OkStatus();
    }
    std::deque<Node> todo(std::make_move_iterator(own_.nodes.begin()), std::make_move_iterator(own_.nodes.end()));
    std::vector<Node> done;
    own_.nodes.clear();
    while (!todo.empty()) {
      Node node = std::move(todo.front());
      todo.pop_front();
      if (node.domain.empty() && node.op == "If" && Info(node.inputs[0]).constant != nullptr && !AllAvailable(node)) {
        const Tensor& condition = *Info(node.inputs[0]).constant;
        if (condition.num_elements() != 1) {
          return absl::InvalidArgumentError(
              absl::StrCat(Describe(*graph_, node), ": the condition has ", condition.num_elements(), " elements"));
        }
        OCTET_ASSIGN_OR_RETURN(std::vector<Node> branch,
                               graph::InlineBranch(&own_, node, condition.ToS64()[0] != 0, &names_));
        TakeNewValues();
        inlined_ = true;
        todo.insert(todo.begin(), std::make_move_iterator(branch.begin()), std::make_move_iterator(branch.end()));
        continue;
      }
      OCTET_RETURN_IF_ERROR(Visit(node));
      done.push_back(std::move(node));
    }
    own_.nodes = std::move(done);
    return absl::OkStatus();
  }

  // Values that inlining added.
  void TakeNewValues() {
    for (size_t i = infos_.size(); i < own_.values.size(); ++i) {
      infos_.push_back(InfoOf(own_.values[i]));
      if (infos_.back().constant != nullptr) {
        inlined_constants_.push_back(*infos_.back().constant);  // values move while more are added
        infos_.back().constant = &inlined_constants_.back();
      }
      known_.push_back(false);
      available_.push_back(false);
      EnterConstant(i);
    }
  }

  bool AllAvailable(const Node& node) const {
    return std::all_of(node.outputs.begin(), node.outputs.end(),
                       [&](ValueId id) { return id == kNoValue || IsAvailable(id); });
  }

  absl::Status Visit(const Node& node) {
    absl::StatusOr<Turn> turn = AllAvailable(node) ? Turn::kStatic : BindNode(node);
    if (!turn.ok()) return turn.status();
    turns_.push_back(*turn);
    return absl::OkStatus();
  }

  // Values that the node reads, those of its subgraphs included.
  std::vector<ValueId> Reads(const Node& node) {
    std::vector<ValueId> reads;
    for (ValueId id : node.inputs) {
      if (id != kNoValue) reads.push_back(id);
    }
    if (!graph::IsControlFlow(node)) return reads;
    for (const std::string& name : graph::CapturedNames(node)) {
      if (const ValueId id = Named(name); id != kNoValue) reads.push_back(id);
    }
    return reads;
  }

  ValueId Named(const std::string& name) {
    for (size_t i = names_.size(); i < graph_->values.size(); ++i) {
      names_.emplace(graph_->values[i].name, static_cast<ValueId>(i));
    }
    const auto it = names_.find(name);
    return it == names_.end() ? kNoValue : it->second;
  }

  absl::StatusOr<Turn> BindNode(const Node& node) {
    for (ValueId id : Reads(node)) {
      if (!IsKnown(id)) return Turn::kDeferred;
    }
    if (graph::IsControlFlow(node)) return Turn::kDynamic;
    std::vector<graph::OperandInfo> operands;
    bool constant = true;
    for (ValueId id : node.inputs) {
      graph::OperandInfo operand;
      operand.present = id != kNoValue;
      if (operand.present) {
        const ValueInfo& info = Info(id);
        operand.dtype = graph_->value(id).quant.has_value() ? DType::kF32 : info.dtype;
        operand.shape = info.shape;
        operand.constant = info.constant;
        constant = constant && info.constant != nullptr;
      }
      operands.push_back(std::move(operand));
    }
    absl::StatusOr<std::vector<graph::ResultInfo>> results = graph::InferNode(node, operands);
    if (!results.ok()) return Annotate(results.status(), graph::Describe(*graph_, node));
    const bool runnable = IsShapeOperator(node) || FindLowering(node.domain, node.op) != nullptr;
    if (IsHostOperator(node)) {
      if (!constant) return Turn::kDynamic;
      return Fold(node);
    }
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      const graph::ResultInfo& result = (*results)[i];
      if (!result.shape.has_value() || !IsConcrete(*result.shape)) {
        if (runnable) return Turn::kDynamic;
        return absl::UnimplementedError(absl::StrCat(graph::Describe(*graph_, node),
                                                     ": the engine has no kernel for this operator"));
      }
    }
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] != kNoValue) OCTET_RETURN_IF_ERROR(BindResult(node, node.outputs[i], (*results)[i]));
    }
    const bool by_shape = node.domain.empty() && (node.op == "Shape" || node.op == "Size");
    // What would unfold into much memory is made at every run, within its bound.
    const bool folds = IsShapeOperator(node)
                           ? by_shape || ByteSize(DType::kF64, Info(node.outputs[0]).shape) <= kMaxUnfoldedBytes
                           : Foldable(node);
    if ((constant || by_shape) && folds) return Fold(node);
    // A shape operator has no kernel; one whose operands are computed waits for their contents.
    if (IsShapeOperator(node) || IsForced(node)) {
      for (ValueId id : node.outputs) {
        if (id != kNoValue) known_[static_cast<size_t>(id)] = false;
      }
      return Turn::kDynamic;
    }
    return Turn::kStatic;
  }

  bool IsForced(const Node& node) const {
    return std::any_of(node.outputs.begin(), node.outputs.end(),
                       [&](ValueId id) { return id != kNoValue && forced_.contains(id); });
  }

  absl::Status BindResult(const Node& node, ValueId id, const graph::ResultInfo& result) {
    OCTET_RETURN_IF_ERROR(
        Annotate(CheckedByteSize(DType::kF64, *result.shape).status(), graph::Describe(*graph_, node)));
    ValueInfo& info = Info(id);
    info.shape = *result.shape;
    info.dtype = graph_->value(id).quant.has_value() ? graph_->value(id).dtype : result.dtype;
    known_[static_cast<size_t>(id)] = true;
    return absl::OkStatus();
  }

  bool Foldable(const Node& node) {
    if (FindLowering(node.domain, node.op) == nullptr) return false;
    for (ValueId id : node.outputs) {
      if (id != kNoValue && ByteSize(DType::kF64, Info(id).shape) > kMaxFoldedBytes) return false;
    }
    return true;
  }

  absl::StatusOr<Turn> Fold(const Node& node) {
    OCTET_ASSIGN_OR_RETURN(std::vector<Tensor> results,
                           EvaluateNode(*graph_, node, infos_, kMaxUnfoldedBytes));
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      folded_.push_back(std::move(results[i]));
      ValueInfo& info = Info(node.outputs[i]);
      info.constant = &folded_.back();
      info.is_constant = true;
      info.local = true;
      info.shape = folded_.back().shape();
      info.dtype = folded_.back().dtype();
      known_[static_cast<size_t>(node.outputs[i])] = true;
    }
    return Turn::kStatic;
  }

  // Nodes that still have to run, backwards from the outputs.
  void FindLive() {
    std::vector<bool> needed(infos_.size(), false);
    for (ValueId id : graph_->outputs) needed[static_cast<size_t>(id)] = true;
    live_.assign(graph_->nodes.size(), false);
    for (size_t i = graph_->nodes.size(); i-- > 0;) {
      const Node& node = graph_->nodes[i];
      live_[i] = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) {
        return id != kNoValue && needed[static_cast<size_t>(id)] && !Info(id).is_constant && !IsAvailable(id);
      });
      if (!live_[i]) continue;
      for (ValueId id : Reads(node)) needed[static_cast<size_t>(id)] = true;
    }
  }

  DynamicOperand OperandOf(ValueId id) {
    DynamicOperand operand;
    if (id == kNoValue) return operand;
    operand.id = id;
    if (Info(id).constant != nullptr) operand.constant = *Info(id).constant;
    return operand;
  }

  absl::Status CollectDynamic() {
    for (size_t i = 0; i < graph_->nodes.size(); ++i) {
      if (!live_[i] || turns_[i] != Turn::kDynamic) continue;
      const Node& node = graph_->nodes[i];
      DynamicStep step;
      step.node = node;
      step.name = graph::Describe(*graph_, node);
      for (ValueId id : node.inputs) {
        step.operands.push_back(OperandOf(id));
        if (id == kNoValue || !Info(id).is_constant || step.operands.back().constant.valid()) continue;
        return absl::InternalError(absl::StrCat(step.name, ": constant '", graph_->value(id).name, "' was released"));
      }
      if (graph::IsControlFlow(node)) {
        OCTET_RETURN_IF_ERROR(Annotate(AddBodies(&step), step.name));
      } else {
        IsolateNode(&step);
      }
      stage_->dynamic.push_back(std::move(step));
    }
    return absl::OkStatus();
  }

  absl::Status AddBodies(DynamicStep* step) {
    const bool is_if = step->node.op == "If";
    for (const char* key : {"then_branch", "else_branch", "body"}) {
      if (is_if == (key == std::string("body"))) continue;
      const auto subgraph = graph::Subgraph(step->node, key);
      if (subgraph == nullptr) return absl::InvalidArgumentError(absl::StrCat("attribute '", key, "' is missing"));
      DynamicStep::Use use;
      absl::StatusOr<std::shared_ptr<const Body>> body = bodies_(subgraph, *graph_);
      if (!body.ok()) return Annotate(body.status(), key);
      use.body = *std::move(body);
      for (const std::string& name : use.body->captured) use.captured.push_back(OperandOf(Named(name)));
      step->bodies.push_back(std::move(use));
      step->node.attributes.erase(key);  // the program has it
    }
    return absl::OkStatus();
  }

  // A graph of the node alone.
  void IsolateNode(DynamicStep* step) {
    absl::flat_hash_map<ValueId, ValueId> map;
    const auto take = [&](ValueId id) {
      if (id == kNoValue) return id;
      const auto [it, fresh] = map.try_emplace(id, static_cast<ValueId>(map.size()));
      if (fresh) {
        graph::Value value = graph_->value(id);
        value.data.reset();
        value.shape.reset();
        value.dtype = value.quant.has_value() || Info(id).dtype == DType::kInvalid ? value.dtype : Info(id).dtype;
        step->alone.AddValue(std::move(value));
      }
      return it->second;
    };
    Node alone = step->node;
    for (ValueId& id : alone.inputs) id = take(id);
    for (ValueId& id : alone.outputs) id = take(id);
    step->alone.nodes.push_back(std::move(alone));
  }

  // What the plan reads from outside and gives to those behind it.
  void CollectResults() {
    std::vector<bool> computed(infos_.size(), false), listed(infos_.size(), false);
    const bool last = stage_->dynamic.empty();
    for (size_t i = 0; i < graph_->nodes.size(); ++i) {
      if (!live_[i] || turns_[i] != Turn::kStatic) continue;
      for (ValueId id : graph_->nodes[i].outputs) {
        if (id != kNoValue) computed[static_cast<size_t>(id)] = true;
      }
      for (ValueId id : graph_->nodes[i].inputs) NeedInput(id, &listed);
    }
    if (input_.first && last) {
      stage_->results = graph_->outputs;
    } else {
      std::vector<bool> given(infos_.size(), false);
      const auto give = [&](ValueId id) {
        const auto index = static_cast<size_t>(id);
        const bool wanted = (computed[index] && !Info(id).is_constant) ||
                            (last && Info(id).is_constant && graph_->IsOutput(id));
        if (!wanted || given[index]) return;
        given[index] = true;
        stage_->results.push_back(id);
      };
      for (size_t i = 0; i < graph_->nodes.size(); ++i) {
        if (!live_[i] || turns_[i] == Turn::kStatic) continue;
        for (ValueId id : Reads(graph_->nodes[i])) give(id);
      }
      for (ValueId id : graph_->outputs) give(id);
    }
    if (!last) return;
    for (ValueId id : graph_->outputs) stage_->outputs.emplace_back(id, Info(id).shape);
  }

  void NeedInput(ValueId id, std::vector<bool>* listed) {
    if (input_.first || id == kNoValue || !IsAvailable(id) || Info(id).is_constant) return;
    if ((*listed)[static_cast<size_t>(id)]) return;
    (*listed)[static_cast<size_t>(id)] = true;
    stage_->inputs.push_back(id);
  }

  absl::Status MakePlan() {
    Plan& plan = stage_->plan;
    plan.threads = threads_;
    plan.external_inputs = !input_.first;
    if (input_.first) stage_->inputs = graph_->inputs;
    Graph work;  // what runs now, as a graph of its own
    work.values = graph_->values;
    work.inputs = stage_->inputs;
    work.outputs = stage_->results;
    std::vector<int> order;
    for (size_t i = 0; i < live_.size(); ++i) {
      if (!live_[i] || turns_[i] != Turn::kStatic) continue;
      order.push_back(static_cast<int>(work.nodes.size()));
      work.nodes.push_back(graph_->nodes[i]);
    }
    Builder builder(work, infos_, program_store_, stage_->local_store.get(), threads_);
    for (ValueId id : work.inputs) {
      plan.input_buffers.push_back(builder.AddInput(id).buffer);
      plan.inputs.push_back(SignatureOf(id));
    }
    PassLog log;
    OCTET_RETURN_IF_ERROR(LowerAll(builder, FuseNodes(work, infos_, order, &log)));
    plan.notes = log.notes();
    if (!found_dynamic_.empty()) return absl::OkStatus();
    for (ValueId id : work.outputs) {
      OCTET_ASSIGN_OR_RETURN(const int buffer, builder.AddOutput(id));
      plan.output_buffers.push_back(buffer);
      plan.outputs.push_back(SignatureOf(id));
    }
    std::vector<int> kept = plan.output_buffers;
    // Later stages may read the inputs.
    if (!stage_->last()) kept.insert(kept.end(), plan.input_buffers.begin(), plan.input_buffers.end());
    std::vector<BufferLife> lives = builder.Lives(plan.input_buffers, kept);
    if (plan.external_inputs) {
      for (int buffer : plan.input_buffers) lives[static_cast<size_t>(buffer)].bytes = 0;
    }
    plan.memory = PlanMemory(lives);
    plan.scratch_bytes = builder.scratch_bytes();
    plan.steps = std::move(builder.steps());
    stage_->known = input_.known;
    for (size_t i = 0; i < stage_->results.size(); ++i) {
      stage_->known.emplace_back(stage_->results[i],
                                 Known{plan.outputs[i].dtype, plan.outputs[i].shape, Tensor()});
    }
    return absl::OkStatus();
  }

  // Lowers in order. A node that lacks the content of a small computed operand is noted; others that do not need its
  // result are still tried, so that all such nodes of a stage are found at once.
  absl::Status LowerAll(Builder& builder, const std::vector<FusedNode>& groups) {
    absl::flat_hash_set<ValueId> missing;
    const auto misses = [&](const Node& node) {
      return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return missing.contains(id); });
    };
    for (const FusedNode& fused : groups) {
      bool skip = misses(*fused.node);
      for (const Node* node : fused.absorbed) skip = skip || misses(*node);
      absl::Status status = skip ? absl::OkStatus() : builder.Lower(fused);
      const bool wants_content = absl::IsUnimplemented(status) && MayWantContent(*fused.node);
      if (!status.ok() && !wants_content) return status;
      if (!skip && !wants_content) continue;
      for (ValueId id : fused.node->outputs) missing.insert(id);
      for (const Node* node : fused.absorbed) missing.insert(node->outputs.begin(), node->outputs.end());
      missing.erase(kNoValue);
      for (ValueId id : fused.node->outputs) {
        if (wants_content && id != kNoValue) found_dynamic_.push_back(id);
      }
    }
    return absl::OkStatus();
  }

  bool MayWantContent(const Node& node) {
    if (!node.domain.empty() || FindLowering(node.domain, node.op) == nullptr) return false;
    for (size_t i = 1; i < node.inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      if (id == kNoValue || Info(id).constant != nullptr) continue;
      if (ByteSize(Info(id).dtype, Info(id).shape) <= kSmallConstantBytes) return true;
    }
    return false;
  }

  Signature SignatureOf(ValueId id) {
    const graph::Value& value = graph_->value(id);
    return {value.name, value.quant.has_value() ? value.dtype : Info(id).dtype, Info(id).shape};
  }

  const StageInput& input_;
  kernels::WeightStore* program_store_;
  const int threads_;
  BodySource bodies_;
  const absl::flat_hash_set<ValueId>& forced_;
  std::unique_ptr<Stage> stage_;
  const Graph* graph_ = nullptr;
  Graph own_;
  bool has_if_ = false, inlined_ = false;
  size_t base_values_ = 0;
  graph::NameIndex names_;
  std::vector<ValueInfo> infos_;
  std::vector<bool> known_, available_;  // per value: its shape is known; it was computed by an earlier stage
  std::vector<Turn> turns_;              // per node
  std::vector<bool> live_;
  std::deque<Tensor> folded_, inlined_constants_;  // stable addresses
  std::vector<ValueId> found_dynamic_;
};

}  // namespace

std::vector<ValueInfo> InitialInfos(const Graph& graph) {
  std::vector<ValueInfo> infos;
  infos.reserve(graph.values.size());
  for (const graph::Value& value : graph.values) infos.push_back(InfoOf(value));
  return infos;
}

absl::StatusOr<std::unique_ptr<Stage>> MakeStage(const StageInput& input, kernels::WeightStore* program_store,
                                                 int threads, BodySource bodies) {
  absl::flat_hash_set<ValueId> dynamic;
  while (true) {
    StageMaker maker(input, program_store, threads, bodies, dynamic);
    OCTET_ASSIGN_OR_RETURN(std::unique_ptr<Stage> stage, maker.Make());
    if (maker.found_dynamic().empty()) return stage;
    dynamic.insert(maker.found_dynamic().begin(), maker.found_dynamic().end());
  }
}

}  // namespace octet::engine
