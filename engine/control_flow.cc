// Bodies, and the loops over them.
#include "engine/control_flow.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "graph/control_flow.h"

namespace octet::engine {
namespace {

constexpr size_t kMaxContexts = 4;  // of one body in one place
// A body that does nothing takes about a microsecond: more iterations are a file that never ends.
constexpr int64_t kMaxIterations = 10'000'000;

absl::StatusOr<Tensor> CopyOf(DType dtype, const Shape& shape, absl::Span<const std::byte> from) {
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(ByteSize(dtype, shape)));
  if (!from.empty()) std::memcpy(buffer.data(), from.data(), std::min<size_t>(from.size(), static_cast<size_t>(buffer.size_bytes())));
  return Tensor::FromBuffer(dtype, shape, std::move(buffer));
}

absl::StatusOr<bool> Condition(const Tensor& t) {
  if (t.num_elements() == 1) return t.ToS64()[0] != 0;
  return absl::InvalidArgumentError(absl::StrCat("the condition has shape ", ShapeString(t.shape()),
                                                 ", expected one element"));
}

// One element in the shape that the body declares for it: a scalar or [1].
Tensor OneElement(const Program& program, size_t input, Tensor value) {
  return value.Reshaped(program.inputs()[input].shape.size() == 1 ? Shape{1} : Shape{});
}

// x[..., index, ...] along `axis`, without that axis.
absl::StatusOr<Tensor> SliceAt(const Tensor& x, size_t axis, int64_t index) {
  int64_t outer = 1, inner = BytesOf(x.dtype());
  Shape shape = x.shape();
  for (size_t i = 0; i < axis; ++i) outer *= shape[i];
  for (size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
  const int64_t length = shape[axis];
  shape.erase(shape.begin() + static_cast<int64_t>(axis));
  OCTET_ASSIGN_OR_RETURN(Buffer out, Buffer::Allocate(outer * inner));
  for (int64_t o = 0; o < outer && inner > 0; ++o) {
    std::memcpy(out.data() + o * inner, x.data() + (o * length + index) * inner, static_cast<size_t>(inner));
  }
  return Tensor::FromBuffer(x.dtype(), std::move(shape), std::move(out));
}

// Results of iterations, stacked along a new axis.
class Stack {
 public:
  Stack(RunPool* pool, std::string name) : pool_(pool), name_(std::move(name)) {}
  ~Stack() { pool_->Give(bytes_); }
  Stack(Stack&& other) noexcept
      : pool_(other.pool_), name_(std::move(other.name_)), parts_(std::move(other.parts_)),
        bytes_(std::exchange(other.bytes_, 0)) {}

  absl::Status Add(Tensor part) {
    if (!parts_.empty() && part.shape() != parts_[0].shape()) {
      return absl::InvalidArgumentError(absl::StrCat("scan output '", name_, "' has shape ",
                                                     ShapeString(part.shape()), " behind ",
                                                     ShapeString(parts_[0].shape()), ", expected equal ones"));
    }
    // Twice: once in parts, once together.
    OCTET_RETURN_IF_ERROR(pool_->Take(2 * part.size_bytes(), absl::StrCat("scan output '", name_, "'")));
    bytes_ += 2 * part.size_bytes();
    parts_.push_back(std::move(part));
    return absl::OkStatus();
  }

  // `like` describes one part when there is none.
  absl::StatusOr<Tensor> Join(const Signature& like, int64_t axis, bool reversed) const {
    Shape part = parts_.empty() ? like.shape : parts_[0].shape();
    for (int64_t& d : part) d = std::max<int64_t>(d, 0);
    const auto rank = static_cast<int64_t>(part.size()) + 1;
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank) {
      return absl::InvalidArgumentError(absl::StrCat("scan output axis ", axis, " of rank ", rank));
    }
    const DType dtype = parts_.empty() ? like.dtype : parts_[0].dtype();
    int64_t outer = 1, inner = BytesOf(dtype);
    for (int64_t i = 0; i < rank - 1; ++i) (i < axis ? outer : inner) *= part[static_cast<size_t>(i)];
    Shape shape = part;
    const auto count = static_cast<int64_t>(parts_.size());
    shape.insert(shape.begin() + axis, count);
    OCTET_ASSIGN_OR_RETURN(Buffer out, Buffer::Allocate(ByteSize(dtype, shape)));
    for (int64_t t = 0; t < count; ++t) {
      const std::byte* from = parts_[static_cast<size_t>(reversed ? count - 1 - t : t)].data();
      for (int64_t o = 0; o < outer && inner > 0; ++o) {
        std::memcpy(out.data() + (o * count + t) * inner, from + o * inner, static_cast<size_t>(inner));
      }
    }
    return Tensor::FromBuffer(dtype, std::move(shape), std::move(out));
  }

 private:
  RunPool* pool_;
  std::string name_;
  std::vector<Tensor> parts_;
  int64_t bytes_ = 0;
};

std::vector<Stack> StacksOf(const Program& program, size_t first, RunPool* pool) {
  std::vector<Stack> stacks;
  for (size_t i = first; i < program.outputs().size(); ++i) stacks.emplace_back(pool, program.outputs()[i].name);
  return stacks;
}

int64_t EntryOf(const std::vector<int64_t>& list, size_t i) { return i < list.size() ? list[i] : 0; }

absl::StatusOr<std::vector<Tensor>> RunLoop(absl::Span<const Tensor> operands, absl::Span<const Tensor> captured,
                                            BodyRunner& runner, RunPool* pool) {
  const Program& program = *runner.body().program;
  const size_t carried = operands.size() - 2;
  int64_t trips = std::numeric_limits<int64_t>::max();
  if (operands[0].valid()) {
    if (operands[0].num_elements() != 1) {
      return absl::InvalidArgumentError(absl::StrCat("the trip count has shape ", ShapeString(operands[0].shape()),
                                                     ", expected one element"));
    }
    trips = operands[0].ToS64()[0];
  }
  bool go_on = true;
  if (operands[1].valid()) {
    OCTET_ASSIGN_OR_RETURN(go_on, Condition(operands[1]));
  }
  std::vector<Tensor> state(operands.begin() + 2, operands.end());
  std::vector<Stack> stacks = StacksOf(program, carried + 1, pool);
  for (int64_t i = 0; i < trips && go_on; ++i) {
    if (i == kMaxIterations) {
      return absl::ResourceExhaustedError(absl::StrCat("the loop goes on after ", kMaxIterations, " iterations"));
    }
    const uint8_t condition = 1;
    std::vector<Tensor> formal = {
        OneElement(program, 0, Tensor::FromS64({}, {i})),
        OneElement(program, 1, Tensor::FromValues<uint8_t>(DType::kBool, {}, {&condition, 1}))};
    formal.insert(formal.end(), state.begin(), state.end());
    OCTET_ASSIGN_OR_RETURN(std::vector<Tensor> out, runner.Run(formal, captured));
    OCTET_ASSIGN_OR_RETURN(go_on, Condition(out[0]));
    int64_t bytes = 0;
    for (size_t s = 0; s < carried; ++s) bytes += out[s + 1].size_bytes();
    if (bytes > pool->left_bytes()) OCTET_RETURN_IF_ERROR(pool->Take(bytes, "loop-carried values"));
    for (size_t s = 0; s < carried; ++s) state[s] = std::move(out[s + 1]);
    for (size_t k = 0; k < stacks.size(); ++k) OCTET_RETURN_IF_ERROR(stacks[k].Add(std::move(out[carried + 1 + k])));
  }
  for (size_t k = 0; k < stacks.size(); ++k) {
    OCTET_ASSIGN_OR_RETURN(Tensor joined, stacks[k].Join(program.outputs()[carried + 1 + k], 0, false));
    state.push_back(std::move(joined));
  }
  return state;
}

struct Scanned {
  size_t axis = 0;
  bool reversed = false;
};

absl::StatusOr<std::vector<Scanned>> ScanInputs(const graph::Node& node, absl::Span<const Tensor> scanned,
                                                int64_t* length) {
  std::vector<Scanned> inputs;
  const std::vector<int64_t> axes = node.GetInts("scan_input_axes"), directions = node.GetInts("scan_input_directions");
  for (size_t k = 0; k < scanned.size(); ++k) {
    const auto rank = static_cast<int64_t>(scanned[k].shape().size());
    int64_t axis = EntryOf(axes, k);
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank) return absl::InvalidArgumentError(absl::StrCat("scan axis ", axis, " of rank ", rank));
    const int64_t mine = scanned[k].shape()[static_cast<size_t>(axis)];
    if (k == 0) *length = mine;
    if (mine != *length) {
      return absl::InvalidArgumentError(absl::StrCat("scan inputs of lengths ", *length, " and ", mine));
    }
    inputs.push_back({static_cast<size_t>(axis), EntryOf(directions, k) != 0});
  }
  return inputs;
}

absl::StatusOr<std::vector<Tensor>> RunScan(const graph::Node& node, absl::Span<const Tensor> operands,
                                            absl::Span<const Tensor> captured, BodyRunner& runner, RunPool* pool) {
  const Program& program = *runner.body().program;
  const auto count = static_cast<size_t>(node.GetInt("num_scan_inputs", 0));
  const size_t states = operands.size() - count;
  const absl::Span<const Tensor> scanned = operands.subspan(states);
  int64_t length = 0;
  OCTET_ASSIGN_OR_RETURN(const std::vector<Scanned> inputs, ScanInputs(node, scanned, &length));
  std::vector<Tensor> state(operands.begin(), operands.begin() + static_cast<int64_t>(states));
  std::vector<Stack> stacks = StacksOf(program, states, pool);
  for (int64_t t = 0; t < length; ++t) {
    std::vector<Tensor> formal = state;
    for (size_t k = 0; k < count; ++k) {
      OCTET_ASSIGN_OR_RETURN(
          Tensor slice, SliceAt(scanned[k], inputs[k].axis, inputs[k].reversed ? length - 1 - t : t));
      formal.push_back(std::move(slice));
    }
    OCTET_ASSIGN_OR_RETURN(std::vector<Tensor> out, runner.Run(formal, captured));
    for (size_t s = 0; s < states; ++s) state[s] = std::move(out[s]);
    for (size_t k = 0; k < stacks.size(); ++k) OCTET_RETURN_IF_ERROR(stacks[k].Add(std::move(out[states + k])));
  }
  const std::vector<int64_t> axes = node.GetInts("scan_output_axes"),
                             directions = node.GetInts("scan_output_directions");
  for (size_t k = 0; k < stacks.size(); ++k) {
    OCTET_ASSIGN_OR_RETURN(Tensor joined, stacks[k].Join(program.outputs()[states + k], EntryOf(axes, k),
                                                         EntryOf(directions, k) != 0));
    state.push_back(std::move(joined));
  }
  return state;
}

// The subgraph with what it captures as constants or inputs.
absl::StatusOr<graph::Graph> Close(const graph::Graph& subgraph, const graph::Graph& outer,
                                   std::vector<std::string>* captured) {
  graph::Graph g = subgraph;
  absl::flat_hash_map<std::string, const graph::Value*> constants;
  const std::vector<graph::ValueId> ids = graph::CapturedValues(g);
  for (graph::ValueId id : ids) constants[g.value(id).name] = nullptr;
  for (const graph::Value& value : outer.values) {
    if (!value.is_constant()) continue;
    if (const auto it = constants.find(value.name); it != constants.end()) it->second = &value;
  }
  for (graph::ValueId id : ids) {
    graph::Value& value = g.value(id);
    const graph::Value* constant = constants[value.name];
    if (constant == nullptr) {
      captured->push_back(value.name);
      g.inputs.push_back(id);
      continue;
    }
    if (constant->data->data() == nullptr && constant->data->size_bytes() > 0) {
      return absl::InternalError(absl::StrCat("constant '", value.name, "' was released before its subgraph was made"));
    }
    value.dtype = constant->dtype;
    value.shape = constant->data->shape();
    value.quant = constant->quant;
    value.data = constant->data;
  }
  return g;
}

}  // namespace

absl::Status RunPool::Take(int64_t bytes, absl::string_view what) {
  if (bytes > left_bytes()) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": ", bytes, " more bytes beside ", used_bytes_,
                                                     " exceed what one run may take, ", limit_bytes_));
  }
  used_bytes_ += bytes;
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Body>> BodyCache::GetOrMake(const std::shared_ptr<const graph::Graph>& subgraph,
                                                                 const graph::Graph& outer) {
  {
    absl::MutexLock lock(&mutex_);
    if (const auto it = entries_.find(subgraph.get()); it != entries_.end()) return it->second.body;
  }
  auto body = std::make_shared<Body>();
  OCTET_ASSIGN_OR_RETURN(graph::Graph closed, Close(*subgraph, outer, &body->captured));
  OCTET_ASSIGN_OR_RETURN(body->program, Program::Compile(std::move(closed), options_));
  bool released = false;
  std::shared_ptr<const Body> kept;
  {
    absl::MutexLock lock(&mutex_);
    released = released_;
    kept = entries_.try_emplace(subgraph.get(), Entry{subgraph, std::move(body)}).first->second.body;
  }
  if (released) kept->program->ReleaseInitializers();
  return kept;
}

std::vector<std::shared_ptr<const Body>> BodyCache::All() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<const Body>> all;
  for (const auto& [key, entry] : entries_) all.push_back(entry.body);
  return all;
}

bool BodyCache::HasAllOf(const graph::Node& node) const {
  absl::MutexLock lock(&mutex_);
  for (const auto& [key, attribute] : node.attributes) {
    const auto* subgraph = std::get_if<std::shared_ptr<const graph::Graph>>(&attribute);
    if (subgraph != nullptr && !entries_.contains(subgraph->get())) return false;
  }
  return true;
}

void BodyCache::ReleaseInitializers() {
  {
    absl::MutexLock lock(&mutex_);
    released_ = true;
  }
  for (const auto& body : All()) body->program->ReleaseInitializers();
}

void BodyCache::AddMemory(MemoryReport* report) const {
  for (const auto& body : All()) {
    const MemoryReport mine = body->program->Memory();
    report->weights += mine.weights;
    report->activations += mine.activations;
    report->scratchpad += mine.scratchpad;
    report->code += mine.code;
    report->metadata += mine.metadata;
  }
}

BodyRunner::~BodyRunner() {
  while (!contexts_.empty()) DropLast();
}

void BodyRunner::DropLast() {
  pool_->Give(contexts_.back().bytes);
  pool_->AddBodyBytes(-contexts_.back().bytes);
  contexts_.pop_back();
}

absl::StatusOr<Context*> BodyRunner::ContextFor(absl::Span<const Tensor> formal, absl::Span<const Tensor> captured) {
  const auto fits = [&](const std::vector<Shape>& shapes) {
    for (size_t i = 0; i < shapes.size(); ++i) {
      const Tensor& t = i < formal.size() ? formal[i] : captured[i - formal.size()];
      if (t.shape() != shapes[i]) return false;
    }
    return true;
  };
  for (auto it = contexts_.begin(); it != contexts_.end(); ++it) {
    if (!fits(it->shapes)) continue;
    contexts_.splice(contexts_.begin(), contexts_, it);
    return contexts_.front().context.get();
  }
  std::vector<Known> known;
  std::vector<Shape> shapes;
  for (const Tensor& t : formal) known.push_back({t.dtype(), t.shape(), Tensor()});
  for (size_t i = 0; i < captured.size(); ++i) {
    // What is constant around the body decides its shapes, too.
    const bool pinned = use_.captured[i].constant.valid() && captured[i].size_bytes() <= kSmallConstantBytes;
    known.push_back({captured[i].dtype(), captured[i].shape(), pinned ? captured[i] : Tensor()});
  }
  for (const Known& k : known) shapes.push_back(k.shape);
  auto* program = dynamic_cast<PinnableProgram*>(use_.body->program.get());
  if (program == nullptr) return absl::InternalError("a body that cannot be pinned");
  OCTET_ASSIGN_OR_RETURN(auto specialisation, program->SpecialiseKnown(std::move(known), threads_));
  while (contexts_.size() >= kMaxContexts) DropLast();
  const int64_t bytes = specialisation->arena_bytes() + specialisation->scratch_bytes();
  OCTET_RETURN_IF_ERROR(pool_->Take(bytes, "a subgraph's activations"));
  auto context = Context::Create(specialisation);
  if (!context.ok()) {
    pool_->Give(bytes);
    return context.status();
  }
  pool_->AddBodyBytes(bytes);
  contexts_.push_front({std::move(shapes), bytes, *std::move(context)});
  return contexts_.front().context.get();
}

absl::StatusOr<std::vector<Tensor>> BodyRunner::Run(absl::Span<const Tensor> formal,
                                                    absl::Span<const Tensor> captured) {
  const Program& program = *use_.body->program;
  if (formal.size() + captured.size() != program.inputs().size()) {
    return absl::InternalError("a subgraph's inputs are not complete");
  }
  OCTET_ASSIGN_OR_RETURN(Context * context, ContextFor(formal, captured));
  for (size_t i = 0; i < program.inputs().size(); ++i) {
    const Tensor& t = i < formal.size() ? formal[i] : captured[i - formal.size()];
    const absl::Span<std::byte> to = context->input(static_cast<int>(i));
    if (static_cast<int64_t>(to.size()) != t.size_bytes()) {
      return absl::InvalidArgumentError(absl::StrCat("subgraph input '", program.inputs()[i].name, "' has ",
                                                     t.size_bytes(), " bytes, expected ", to.size()));
    }
    if (!to.empty()) std::memcpy(to.data(), t.data(), to.size());
  }
  OCTET_RETURN_IF_ERROR(context->Run());
  std::vector<Tensor> out;
  for (size_t i = 0; i < program.outputs().size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(Tensor copy, CopyOf(program.outputs()[i].dtype, context->output_shape(static_cast<int>(i)),
                                               context->output(static_cast<int>(i))));
    out.push_back(std::move(copy));
  }
  return out;
}

absl::StatusOr<std::vector<Tensor>> RunControlFlow(const graph::Node& node, absl::Span<const Tensor> operands,
                                                   absl::Span<const std::vector<Tensor>> captured,
                                                   absl::Span<BodyRunner> runners, RunPool* pool) {
  if (node.op == "If") {
    OCTET_ASSIGN_OR_RETURN(const bool condition, Condition(operands[0]));
    const size_t branch = condition ? 0 : 1;
    absl::StatusOr<std::vector<Tensor>> out = runners[branch].Run({}, captured[branch]);
    if (!out.ok()) return Annotate(out.status(), condition ? "then_branch" : "else_branch");
    return out;
  }
  absl::StatusOr<std::vector<Tensor>> out = node.op == "Loop" ? RunLoop(operands, captured[0], runners[0], pool)
                                                              : RunScan(node, operands, captured[0], runners[0], pool);
  if (!out.ok()) return Annotate(out.status(), "body");
  return out;
}

}  // namespace octet::engine
