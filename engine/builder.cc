// Locations, conversions and steps.
#include "engine/builder.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "graph/constant_quantization.h"
#include "kernels/quantize/quantize.h"

namespace octet::engine {

using graph::ValueId;
using kernels::Layout;
using kernels::TensorSpec;

bool HasLevels(const graph::Value& value) { return value.quant.has_value() && !value.quant->levels.empty(); }

bool LayoutIsTrivial(absl::Span<const int64_t> shape) {
  if (shape.size() < 3 || shape[1] == 1) return true;
  return std::all_of(shape.begin() + 2, shape.end(), [](int64_t d) { return d == 1; });
}

std::string SpecString(const TensorSpec& spec) {
  return absl::StrCat(NameOf(spec.dtype), ShapeString(spec.shape),
                      spec.layout == Layout::kChannelsLast ? " channels_last" : "");
}

Builder::Builder(const graph::Graph& graph, absl::Span<const ValueInfo> infos,
                 kernels::WeightStore* program_store, kernels::WeightStore* local_store,
                 int threads)
    : graph_(graph),
      infos_(infos),
      program_store_(program_store),
      local_store_(local_store),
      threads_(threads) {}

Location Builder::NewBuffer(const TensorSpec& spec) {
  Location location;
  location.spec = spec;
  location.buffer = static_cast<int>(buffer_bytes_.size());
  buffer_bytes_.push_back(std::max<int64_t>(spec.size_bytes(), 1));
  return location;
}

TensorSpec Builder::OutputSpec(ValueId id, Layout layout) const {
  const graph::Value& value = graph_.value(id);
  TensorSpec spec;
  spec.shape = info(id).shape;
  spec.quant = value.quant;
  spec.dtype = value.quant.has_value() ? value.dtype : info(id).dtype;
  if (HasLevels(value)) {
    spec.quant.reset();
    spec.dtype = DType::kF32;
  }
  spec.layout = LayoutIsTrivial(spec.shape) ? Layout::kPlain : layout;
  return spec;
}

const Location& Builder::AddInput(ValueId id) {
  return locations_[id] = NewBuffer(OutputSpec(id, Layout::kPlain));
}

absl::StatusOr<int> Builder::AddOutput(ValueId id) {
  OCTET_ASSIGN_OR_RETURN(const Location from, Get(id));
  TensorSpec to = OutputSpec(id, Layout::kPlain);
  const bool is_input =
      std::find(graph_.inputs.begin(), graph_.inputs.end(), id) != graph_.inputs.end();
  const bool in_place = from.buffer >= 0 && !is_input &&
                        (from.spec.layout == Layout::kPlain || LayoutIsTrivial(from.spec.shape)) &&
                        from.spec.dtype == to.dtype && from.spec.quant == to.quant &&
                        buffer_bytes_[static_cast<size_t>(from.buffer)] ==
                            std::max<int64_t>(to.size_bytes(), 1);
  if (in_place) return from.buffer;
  OCTET_ASSIGN_OR_RETURN(const Location out, Convert(from, to));
  return out.buffer;
}

absl::Status Builder::Lower(const FusedNode& fused) {
  const LowerFn rule = FindLowering(fused.node->domain, fused.node->op);
  if (rule == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat(Describe(graph_, *fused.node), ": the engine has no kernel for this operator"));
  }
  return Annotate(rule(*this, fused), Describe(graph_, *fused.node));
}

absl::StatusOr<Location> Builder::RawConstant(ValueId id) {
  const ValueInfo& known = info(id);
  const graph::Value& value = graph_.value(id);
  Location location;
  location.spec = OutputSpec(id, Layout::kPlain);
  kernels::WeightStore* store = known.local ? local_store_ : program_store_;
  const Tensor* tensor = known.constant;
  OCTET_ASSIGN_OR_RETURN(
      location.constant,
      store->GetOrPack(absl::StrCat(id, "/raw"), [&]() -> absl::StatusOr<kernels::PackedWeights> {
        if (tensor == nullptr) {
          return absl::InternalError(
              absl::StrCat("constant '", value.name, "' was released before it was packed"));
        }
        Tensor reals;
        if (HasLevels(value)) {
          OCTET_ASSIGN_OR_RETURN(reals, graph::DequantizeTensor(*tensor, *value.quant));
          tensor = &reals;
        }
        OCTET_ASSIGN_OR_RETURN(Buffer data, Buffer::Allocate(tensor->size_bytes()));
        if (tensor->size_bytes() > 0) {
          std::memcpy(data.data(), tensor->data(), static_cast<size_t>(tensor->size_bytes()));
        }
        return kernels::PackedWeights{std::move(data), "plain", {}};
      }));
  return location;
}

absl::StatusOr<Location> Builder::Get(ValueId id) {
  if (auto it = locations_.find(id); it != locations_.end()) return it->second;
  if (!info(id).is_constant) {
    return absl::InternalError(
        absl::StrCat("value '", graph_.value(id).name, "' is read before it is computed"));
  }
  OCTET_ASSIGN_OR_RETURN(Location location, RawConstant(id));
  locations_[id] = location;
  return location;
}

absl::StatusOr<Location> Builder::Convert(const Location& from, const TensorSpec& to) {
  Location out = NewBuffer(to);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Kernel> kernel,
                         kernels::CreateConvert({from.spec, to}, env()));
  Emit(std::move(kernel), {from}, {out}, nullptr);
  return out;
}

absl::StatusOr<Location> Builder::GetAs(ValueId id, Layout layout, DType dtype,
                                        const std::optional<QuantParams>& quant) {
  OCTET_ASSIGN_OR_RETURN(Location from, Get(id));
  if (LayoutIsTrivial(from.spec.shape)) {  // the same bytes, whatever they are called; views of other ranks want kPlain
    if (layout == Layout::kPlain) from.spec.layout = Layout::kPlain;
    layout = from.spec.layout;
  }
  if (from.spec.layout == layout && from.spec.dtype == dtype && from.spec.quant == quant) {
    return from;
  }
  const bool own_form = !quant.has_value() || quant == from.spec.quant;
  const auto key = std::make_tuple(id, layout, dtype, quant.has_value());
  if (own_form) {
    if (auto it = converted_.find(key); it != converted_.end()) return it->second;
  }
  TensorSpec to = from.spec;
  to.layout = layout;
  to.dtype = dtype;
  to.quant = quant;
  OCTET_ASSIGN_OR_RETURN(Location out, Convert(from, to));
  if (own_form) converted_[key] = out;
  return out;
}

absl::StatusOr<Location> Builder::GetLayout(ValueId id, Layout layout) {
  OCTET_ASSIGN_OR_RETURN(const Location from, Get(id));
  return GetAs(id, layout, from.spec.dtype, from.spec.quant);
}

absl::StatusOr<Location> Builder::GetPlain(ValueId id) { return GetLayout(id, Layout::kPlain); }

absl::StatusOr<Location> Builder::GetPlainF32(ValueId id) {
  return GetAs(id, Layout::kPlain, DType::kF32, std::nullopt);
}

absl::StatusOr<Location> Builder::GetF32(ValueId id) {
  OCTET_ASSIGN_OR_RETURN(const Location from, Get(id));
  return GetAs(id, from.spec.layout, DType::kF32, std::nullopt);
}

kernels::ConstantSpec Builder::Constant(ValueId id, bool* local) const {
  const ValueInfo& known = info(id);
  kernels::ConstantSpec spec;
  spec.id = id;
  if (known.constant != nullptr) spec.tensor = *known.constant;
  spec.quant = graph_.value(id).quant;
  *local = *local || known.local;
  return spec;
}

absl::StatusOr<std::vector<int64_t>> Builder::ConstantInts(ValueId id) const {
  if (info(id).constant == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("operand '", graph_.value(id).name, "' must be a constant"));
  }
  return info(id).constant->ToS64();
}

absl::StatusOr<std::vector<float>> Builder::ConstantFloats(ValueId id) const {
  if (info(id).constant == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("operand '", graph_.value(id).name, "' must be a constant"));
  }
  return info(id).constant->ToF32();
}

absl::Status Builder::Bind(ValueId id, const Location& location) {
  const TensorSpec wanted = OutputSpec(id, location.spec.layout);
  if (location.spec.dtype == wanted.dtype && location.spec.quant == wanted.quant) {
    locations_[id] = location;
    return absl::OkStatus();
  }
  OCTET_ASSIGN_OR_RETURN(locations_[id], Convert(location, wanted));
  return absl::OkStatus();
}

Location Builder::View(const Location& location, Shape shape, Layout layout) {
  Location view = location;
  view.spec.shape = std::move(shape);
  view.spec.layout = layout;
  return view;
}

void Builder::Emit(std::unique_ptr<kernels::Kernel> kernel, std::vector<Location> src,
                   std::vector<Location> dst, const FusedNode* fused, int64_t multiply_adds,
                   int64_t weights_bytes) {
  Step step;
  step.info.implementation = kernel->implementation();
  step.info.refusals = kernel->refusals();
  step.info.multiply_adds = multiply_adds;
  step.info.weights_bytes = weights_bytes;
  if (fused == nullptr) {
    step.info.op = "Convert";
  } else {
    auto name_of = [&](const graph::Node& node) {
      return node.name.empty() && !node.outputs.empty() ? graph_.value(node.outputs[0]).name
                                                        : node.name;
    };
    step.info.op = fused->node->op;
    step.info.node = name_of(*fused->node);
    for (const graph::Node* node : fused->absorbed) {
      absl::StrAppend(&step.info.op, "+", node->op);
      absl::StrAppend(&step.info.node, "+", name_of(*node));
    }
  }
  auto list = [](const std::vector<Location>& locations) {
    return absl::StrJoin(locations, ", ", [](std::string* out, const Location& l) {
      absl::StrAppend(out, SpecString(l.spec));
    });
  };
  step.info.src_types = list(src);
  step.info.dst_types = list(dst);
  scratch_bytes_ = std::max(scratch_bytes_, kernel->scratch_bytes());
  step.kernel = std::move(kernel);
  step.src = std::move(src);
  step.dst = std::move(dst);
  steps_.push_back(std::move(step));
}

std::vector<BufferLife> Builder::Lives(absl::Span<const int> inputs,
                                       absl::Span<const int> outputs) const {
  const int end = static_cast<int>(steps_.size());
  std::vector<BufferLife> lives(buffer_bytes_.size());
  for (size_t i = 0; i < lives.size(); ++i) lives[i] = {buffer_bytes_[i], end, -1};
  auto touch = [&](int buffer, int step) {
    if (buffer < 0) return;
    BufferLife& life = lives[static_cast<size_t>(buffer)];
    life.first = std::min(life.first, step);
    life.last = std::max(life.last, step);
  };
  for (int s = 0; s < end; ++s) {
    for (const Location& l : steps_[static_cast<size_t>(s)].src) touch(l.buffer, s);
    for (const Location& l : steps_[static_cast<size_t>(s)].dst) touch(l.buffer, s);
  }
  for (int buffer : inputs) touch(buffer, -1);
  for (int buffer : outputs) touch(buffer, end);
  for (BufferLife& life : lives) {
    if (life.last < life.first) life.last = life.first;  // never touched
  }
  return lives;
}

}  // namespace octet::engine
