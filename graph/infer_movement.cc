// Shape rules of operators that move elements along axes.
#include <algorithm>
#include <limits>

#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

absl::StatusOr<Results> Concat(const RuleArgs& args) {
  for (size_t i = 0; i < args.in.size(); ++i) {
    if (!args.has(i)) return Invalid("operand ", i, " is missing");
    OCTET_RETURN_IF_ERROR(SameType(args, 0, i));
  }
  if (!args.node.Has("axis")) return Invalid("attribute 'axis' is missing");
  std::optional<Shape> out;
  int axis = 0;
  bool all_known = true;
  for (size_t i = 0; i < args.in.size(); ++i) {
    if (!args.shape(i).has_value()) {
      all_known = false;
      continue;
    }
    const Shape& part = *args.shape(i);
    if (!out.has_value()) {
      OCTET_ASSIGN_OR_RETURN(axis, NormalizeAxis(args.node.GetInt("axis", 0), part.size()));
      out = part;
      continue;
    }
    if (part.size() != out->size()) {
      return Invalid("operand ", i, " of shape ", Str(part), ", expected rank ", out->size());
    }
    for (int d = 0; d < static_cast<int>(part.size()); ++d) {
      if (d == axis) {
        (*out)[d] = Known((*out)[d]) && Known(part[d]) ? (*out)[d] + part[d] : kUnknownDim;
        if ((*out)[d] > kMaxDim) return Invalid("joined size along axis ", axis, " is above 2^40");
        continue;
      }
      OCTET_ASSIGN_OR_RETURN(
          (*out)[d], MergeDims((*out)[d], part[d],
                               absl::StrCat("dimension ", d, " of operand ", i, " ", Str(part))));
    }
  }
  if (out.has_value() && !all_known) (*out)[axis] = kUnknownDim;
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> Split(const RuleArgs& args) {
  const size_t parts = args.node.outputs.size();
  Results results(parts, ResultInfo{args.dtype(0), std::nullopt});
  if (parts == 0) return Invalid("no outputs");
  const int64_t declared = args.node.GetInt("num_outputs", static_cast<int64_t>(parts));
  if (declared != static_cast<int64_t>(parts)) {
    return Invalid("attribute 'num_outputs' is ", declared, ", found ", parts, " outputs");
  }
  OCTET_ASSIGN_OR_RETURN(const auto sizes, args.KnownIntegers(1, "split sizes"));
  if (sizes.has_value() && sizes->size() != parts) {
    return Invalid(sizes->size(), " split sizes for ", parts, " outputs");
  }
  if (!args.shape(0).has_value()) return results;
  const Shape& x = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const int axis, NormalizeAxis(args.node.GetInt("axis", 0), x.size()));
  const int64_t count = static_cast<int64_t>(parts);
  const int64_t chunk = Known(x[axis]) ? (x[axis] + count - 1) / count : kUnknownDim;
  int64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    Shape part = x;
    if (sizes.has_value()) {
      OCTET_ASSIGN_OR_RETURN(part[axis],
                             CheckedDim((*sizes)[static_cast<size_t>(i)], "split size"));
    } else if (args.has(1) || !Known(chunk)) {
      part[axis] = parts == 1 ? x[axis] : kUnknownDim;
    } else {
      part[axis] = std::min(chunk, std::max<int64_t>(x[axis] - i * chunk, 0));
    }
    sum += std::max<int64_t>(part[axis], 0);
    results[static_cast<size_t>(i)].shape = std::move(part);
  }
  if (sizes.has_value() && Known(x[axis]) && sum != x[axis]) {
    return Invalid("split sizes add up to ", sum, ", axis ", axis, " has ", x[axis]);
  }
  return results;
}

absl::StatusOr<Results> Transpose(const RuleArgs& args) {
  const std::vector<int64_t> perm = args.node.GetInts("perm");
  if (!args.shape(0).has_value()) {
    return One(args.dtype(0), perm.empty() ? std::nullopt : std::optional(AllUnknown(perm.size())));
  }
  const Shape& x = *args.shape(0);
  Shape out(x.rbegin(), x.rend());
  if (args.node.Has("perm") && !(perm.empty() && x.empty())) {
    if (perm.size() != x.size()) {
      return Invalid("attribute 'perm' has ", perm.size(), " axes, expected ", x.size());
    }
    OCTET_ASSIGN_OR_RETURN(const std::vector<int> axes, NormalizeAxes(perm, x.size()));
    for (size_t i = 0; i < axes.size(); ++i) out[i] = x[axes[i]];
  }
  return One(args.dtype(0), std::move(out));
}

// Length of x[start:end:step] along a dimension of known size, as numpy clamps.
int64_t SliceLength(int64_t dim, int64_t start, int64_t end, int64_t step) {
  if (start < 0) start += dim;
  if (end < 0) end += dim;
  if (step > 0) {
    start = std::clamp<int64_t>(start, 0, dim);
    end = std::clamp<int64_t>(end, 0, dim);
    return end > start ? (end - start - 1) / step + 1 : 0;
  }
  if (dim == 0) return 0;
  start = std::clamp<int64_t>(start, 0, dim - 1);
  end = std::clamp<int64_t>(end, -1, dim - 1);
  const int64_t back = -std::max(step, -kMaxDim);
  return start > end ? (start - end - 1) / back + 1 : 0;
}

absl::StatusOr<int64_t> SliceDim(int64_t dim, const Element& start, const Element& end,
                                 const Element& step) {
  if (!step.known) return kUnknownDim;
  if (step.integer == 0) return Invalid("step 0");
  // Exporters write "to the end" as 2^31 - 1, 2^63 - 1 or (tf2onnx) 10^9: more than any axis has.
  constexpr int64_t kToTheEnd = 1000000000;
  if (start.known && start.integer == 0 && step.integer == 1) {
    if (end.known && end.integer >= kToTheEnd) return dim;
    if (!end.known && !Known(dim) && dim != kUnknownDim && end.dim == dim) return dim;
  }
  if (!Known(dim) || !start.known || !end.known) return kUnknownDim;
  return SliceLength(dim, start.integer, end.integer, step.integer);
}

absl::StatusOr<Results> Slice(const RuleArgs& args) {
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  Shape out = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(auto starts, args.Integers(1, "starts"));
  OCTET_ASSIGN_OR_RETURN(auto ends, args.Integers(2, "ends"));
  OCTET_ASSIGN_OR_RETURN(const auto axes, args.KnownIntegers(3, "axes"));
  OCTET_ASSIGN_OR_RETURN(auto steps, args.Integers(4, "steps"));
  std::vector<int> along;
  if (axes.has_value()) {
    OCTET_ASSIGN_OR_RETURN(along, NormalizeAxes(*axes, out.size()));
  } else if (!args.has(3) && (starts.has_value() || ends.has_value())) {
    const size_t count = starts.has_value() ? starts->size() : ends->size();
    if (count > out.size()) {
      return Invalid(count, " starts for an operand of shape ", Str(out));
    }
    for (size_t i = 0; i < count; ++i) along.push_back(static_cast<int>(i));
  } else {
    return One(args.dtype(0), AllUnknown(out.size()));
  }
  for (auto* list : {&starts, &ends, &steps}) {
    if (!list->has_value()) *list = std::vector<Element>(along.size());
    if ((*list)->size() != along.size()) {
      return Invalid("starts, ends, axes and steps have ", starts->size(), ", ", ends->size(), ", ",
                     along.size(), " and ", steps.has_value() ? steps->size() : along.size(),
                     " elements, expected equal numbers");
    }
  }
  if (!args.has(4)) steps = std::vector<Element>(along.size(), Element::Integer(1));
  for (size_t i = 0; i < along.size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(out[along[i]],
                           SliceDim(out[along[i]], (*starts)[i], (*ends)[i], (*steps)[i]));
  }
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> Pad(const RuleArgs& args) {
  if (args.has(2)) OCTET_RETURN_IF_ERROR(SameType(args, 0, 2));
  const std::string mode = args.node.GetString("mode", "constant");
  if (mode != "constant" && mode != "reflect" && mode != "edge" && mode != "wrap") {
    return Invalid("attribute 'mode' is '", mode, "', expected constant, reflect, edge or wrap");
  }
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  Shape out = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const auto pads, args.Integers(1, "pads"));
  OCTET_ASSIGN_OR_RETURN(const auto axes, args.KnownIntegers(3, "axes"));
  std::vector<int> along;
  if (axes.has_value()) {
    OCTET_ASSIGN_OR_RETURN(along, NormalizeAxes(*axes, out.size()));
  } else if (args.has(3)) {
    return One(args.dtype(0), AllUnknown(out.size()));
  } else {
    for (size_t i = 0; i < out.size(); ++i) along.push_back(static_cast<int>(i));
  }
  if (!pads.has_value()) {
    for (int axis : along) out[axis] = kUnknownDim;
    return One(args.dtype(0), std::move(out));
  }
  if (pads->size() != 2 * along.size()) {
    return Invalid(pads->size(), " pads for ", along.size(), " axes, expected two each");
  }
  for (size_t i = 0; i < along.size(); ++i) {
    int64_t& dim = out[along[i]];
    const Element& begin = (*pads)[i];
    const Element& end = (*pads)[i + along.size()];
    for (const Element& pad : {begin, end}) {
      if (pad.known && (pad.integer > kMaxDim || pad.integer < -kMaxDim)) {
        return Invalid("padding of ", pad.integer, " along axis ", along[i]);
      }
    }
    if (begin.known && end.known && begin.integer == 0 && end.integer == 0) continue;
    if (!Known(dim) || !begin.known || !end.known) {
      dim = kUnknownDim;
      continue;
    }
    OCTET_ASSIGN_OR_RETURN(dim, CheckedDim(dim + begin.integer + end.integer, "padded size"));
  }
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> Expand(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(const auto target, args.Integers(1, "target shape"));
  if (!target.has_value() || !args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  Shape wanted;
  for (const Element& element : *target) {
    if (!element.known) {
      wanted.push_back(element.dim);
      continue;
    }
    OCTET_ASSIGN_OR_RETURN(const int64_t dim, CheckedDim(element.integer, "target shape"));
    wanted.push_back(dim);
  }
  OCTET_ASSIGN_OR_RETURN(Shape out, Broadcast(*args.shape(0), wanted));
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> Tile(const RuleArgs& args) {
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  Shape out = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const auto repeats, args.Integers(1, "repeats"));
  if (!repeats.has_value()) return One(args.dtype(0), AllUnknown(out.size()));
  if (repeats->size() != out.size()) {
    return Invalid(repeats->size(), " repeats for an operand of shape ", Str(out));
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const Element& times = (*repeats)[i];
    if (times.known && times.integer == 1) continue;
    if (!times.known || !Known(out[i])) {
      out[i] = out[i] == 1 && !times.known ? times.dim : kUnknownDim;
      continue;
    }
    OCTET_ASSIGN_OR_RETURN(const int64_t count, CheckedDim(times.integer, "repeats"));
    OCTET_ASSIGN_OR_RETURN(out[i], CheckedMul(out[i], count, "tiled size"));
  }
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<int64_t> ReadBlock(const Node& node) {
  const int64_t block = node.GetInt("blocksize", 0);
  if (block < 1 || block > (1 << 15)) {
    return Invalid("attribute 'blocksize' is ", block, ", expected 1 to 32768");
  }
  return block;
}

absl::StatusOr<Results> DepthToSpace(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(const int64_t block, ReadBlock(args.node));
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  Shape out = *args.shape(0);
  OCTET_RETURN_IF_ERROR(RequireRank(out, 4, 4));
  if (Known(out[1])) {
    if (out[1] % (block * block) != 0) {
      return Invalid(out[1], " channels do not divide by blocksize ", block, " squared");
    }
    out[1] /= block * block;
  }
  for (size_t i : {size_t{2}, size_t{3}}) {
    if (Known(out[i])) {
      OCTET_ASSIGN_OR_RETURN(out[i], CheckedMul(out[i], block, "output size"));
    } else if (block != 1) {
      out[i] = kUnknownDim;
    }
  }
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> SpaceToDepth(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(const int64_t block, ReadBlock(args.node));
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  Shape out = *args.shape(0);
  OCTET_RETURN_IF_ERROR(RequireRank(out, 4, 4));
  for (size_t i : {size_t{2}, size_t{3}}) {
    if (Known(out[i])) {
      if (out[i] % block != 0) {
        return Invalid("input of shape ", Str(*args.shape(0)), " does not divide by blocksize ",
                       block);
      }
      out[i] /= block;
    } else if (block != 1) {
      out[i] = kUnknownDim;
    }
  }
  if (Known(out[1])) {
    OCTET_ASSIGN_OR_RETURN(out[1], CheckedMul(out[1], block * block, "output channels"));
  }
  return One(args.dtype(0), std::move(out));
}

constexpr RuleEntry kRules[] = {
    {"Concat", Concat, 1, kVariadic}, {"DepthToSpace", DepthToSpace, 1, 1},
    {"Expand", Expand, 2, 2},         {"Pad", Pad, 2, 4},
    {"Slice", Slice, 3, 5},           {"SpaceToDepth", SpaceToDepth, 1, 1},
    {"Split", Split, 1, 2},           {"Tile", Tile, 2, 2},
    {"Transpose", Transpose, 1, 1},
};

}  // namespace

absl::Span<const RuleEntry> MovementRules() { return kRules; }

}  // namespace octet::graph
