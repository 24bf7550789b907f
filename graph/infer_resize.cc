// Shape rule of Resize: from scales or from sizes, along all axes or some.
//
//   out = floor(in * scale)                                   (scales)
//   out = sizes                                               (sizes, policy stretch)
//   out = floor(in * s + 1/2), s = min or max(sizes / in)     (sizes, policy not_larger or
//   not_smaller)
//
// Source: ONNX Resize-19.
#include <algorithm>
#include <cmath>

#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

// An empty tensor stands for an omitted operand.
bool Given(const RuleArgs& args, size_t i) {
  return args.has(i) && !(args.shape(i).has_value() && *args.shape(i) == Shape{0});
}

absl::StatusOr<int64_t> Scaled(int64_t dim, double real, absl::string_view what) {
  if (!std::isfinite(real) || real < 0 || real > static_cast<double>(kMaxDim)) {
    return Invalid(what, " of a dimension of ", dim, " gives ", real);
  }
  return static_cast<int64_t>(std::floor(real));
}

absl::Status FromScales(const RuleArgs& args, absl::Span<const int> along, Shape* out) {
  const std::vector<float> scales = args.in[2].constant->ToF32();
  if (scales.size() != along.size()) {
    return Invalid(scales.size(), " scales for ", along.size(), " axes");
  }
  for (size_t i = 0; i < along.size(); ++i) {
    int64_t& dim = (*out)[along[i]];
    if (!(scales[i] > 0) || !std::isfinite(scales[i])) {
      return Invalid("scale ", scales[i], ", expected a positive number");
    }
    if (scales[i] == 1.0f) continue;
    if (!Known(dim)) {
      dim = kUnknownDim;
      continue;
    }
    OCTET_ASSIGN_OR_RETURN(dim, Scaled(dim, static_cast<float>(dim) * scales[i], "scaling"));
  }
  return absl::OkStatus();
}

absl::Status FromSizes(absl::Span<const Element> sizes, absl::string_view policy,
                       absl::Span<const int> along, Shape* out) {
  if (sizes.size() != along.size()) {
    return Invalid(sizes.size(), " sizes for ", along.size(), " axes");
  }
  const bool stretch = policy == "stretch";
  double scale = policy == "not_larger" ? INFINITY : 0;
  bool known = true;
  for (size_t i = 0; i < along.size(); ++i) {
    const int64_t dim = (*out)[along[i]];
    if (sizes[i].known) OCTET_RETURN_IF_ERROR(CheckedDim(sizes[i].integer, "size").status());
    known = known && sizes[i].known && dim > 0;
    if (!known || stretch) continue;
    const double ratio = static_cast<double>(sizes[i].integer) / static_cast<double>(dim);
    scale = policy == "not_larger" ? std::min(scale, ratio) : std::max(scale, ratio);
  }
  for (size_t i = 0; i < along.size(); ++i) {
    int64_t& dim = (*out)[along[i]];
    if (stretch) {
      dim = sizes[i].known ? sizes[i].integer : sizes[i].dim;
    } else if (!known) {
      dim = kUnknownDim;
    } else {
      OCTET_ASSIGN_OR_RETURN(dim, Scaled(dim, static_cast<double>(dim) * scale + 0.5, "sizes"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Results> Resize(const RuleArgs& args) {
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  Shape out = *args.shape(0);
  std::vector<int> along;
  if (args.node.Has("axes")) {
    OCTET_ASSIGN_OR_RETURN(along, NormalizeAxes(args.node.GetInts("axes"), out.size()));
  } else {
    for (size_t i = 0; i < out.size(); ++i) along.push_back(static_cast<int>(i));
  }
  const std::string policy = args.node.GetString("keep_aspect_ratio_policy", "stretch");
  if (policy != "stretch" && policy != "not_larger" && policy != "not_smaller") {
    return Invalid("attribute 'keep_aspect_ratio_policy' is '", policy, "'");
  }
  const bool scales = Given(args, 2), sizes = Given(args, 3);
  if (scales && sizes && args.in[2].constant != nullptr) {
    return Invalid("both scales and sizes are given");
  }
  if (!scales && !sizes) return Invalid("neither scales nor sizes are given");
  if (sizes) {
    OCTET_ASSIGN_OR_RETURN(auto elements, args.Integers(3, "sizes"));
    if (!elements.has_value()) elements = std::vector<Element>(along.size());
    OCTET_RETURN_IF_ERROR(FromSizes(*elements, policy, along, &out));
  } else if (args.in[2].constant != nullptr) {
    OCTET_RETURN_IF_ERROR(FromScales(args, along, &out));
  } else {
    for (int axis : along) out[axis] = kUnknownDim;
  }
  return One(args.dtype(0), std::move(out));
}

constexpr RuleEntry kRules[] = {{"Resize", Resize, 1, 4}};

}  // namespace

absl::Span<const RuleEntry> ResizeRules() { return kRules; }

}  // namespace octet::graph
