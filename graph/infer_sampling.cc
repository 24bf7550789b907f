// Shape rules of operators that sample, crop or unfold images, of regions of interest, and of
// Einsum.
//
// Source: ONNX AffineGrid-20, CenterCropPad-18, Col2Im-18, DeformConv-22, Einsum-12, GridSample-22,
// MaxRoiPool-22, MaxUnpool-22, RoiAlign-22.
#include <algorithm>
#include <map>

#include "graph/einsum.h"
#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

int64_t DimOf(const RuleArgs& args, size_t operand, size_t axis) {
  const std::optional<Shape>& shape = args.shape(operand);
  return shape.has_value() && axis < shape->size() ? (*shape)[axis] : kUnknownDim;
}

absl::StatusOr<int64_t> DimOf(const Element& element, absl::string_view what) {
  if (!element.known) return element.dim;
  return CheckedDim(element.integer, what);
}

absl::StatusOr<Results> Einsum(const RuleArgs& args) {
  std::vector<size_t> ranks;
  for (size_t i = 0; i < args.in.size(); ++i) {
    if (!args.has(i)) return Invalid("operand ", i, " is missing");
    OCTET_RETURN_IF_ERROR(SameType(args, 0, i));
    if (!args.shape(i).has_value()) return One(args.dtype(0), std::nullopt);
    ranks.push_back(args.shape(i)->size());
  }
  OCTET_ASSIGN_OR_RETURN(const auto einsum,
                         ParseEinsum(args.node.GetString("equation", ""), ranks));
  std::map<int, int64_t> sizes;
  for (size_t i = 0; i < einsum.operands.size(); ++i) {
    for (size_t d = 0; d < ranks[i]; ++d) {
      const int64_t dim = (*args.shape(i))[d];
      const auto [it, fresh] = sizes.emplace(einsum.operands[i][d], dim);
      if (fresh || dim == 1) continue;
      if (it->second == 1) {
        it->second = dim;
        continue;
      }
      OCTET_ASSIGN_OR_RETURN(
          it->second, MergeDims(it->second, dim, absl::StrCat("dimension ", d, " of operand ", i)));
    }
  }
  Shape out;
  for (int label : einsum.result) out.push_back(sizes.at(label));
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> GridSample(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 1));
  const std::string mode = args.node.GetString("mode", "linear");
  if (mode != "linear" && mode != "nearest" && mode != "cubic") {
    return Invalid("attribute 'mode' is '", mode, "', expected linear, nearest or cubic");
  }
  const std::string padding = args.node.GetString("padding_mode", "zeros");
  if (padding != "zeros" && padding != "border" && padding != "reflection") {
    return Invalid("attribute 'padding_mode' is '", padding,
                   "', expected zeros, border or reflection");
  }
  if (!args.shape(0).has_value() || !args.shape(1).has_value())
    return One(args.dtype(0), std::nullopt);
  const Shape& x = *args.shape(0);
  const Shape& grid = *args.shape(1);
  OCTET_RETURN_IF_ERROR(RequireRank(x, 3, 5));
  if (grid.size() != x.size() ||
      (Known(grid.back()) && grid.back() != static_cast<int64_t>(x.size()) - 2)) {
    return Invalid("grid of shape ", Str(grid), " for an input of shape ", Str(x));
  }
  OCTET_ASSIGN_OR_RETURN(const int64_t batch, MergeDims(x[0], grid[0], "batch of the grid"));
  Shape out = {batch, x[1]};
  out.insert(out.end(), grid.begin() + 1, grid.end() - 1);
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> AffineGrid(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  OCTET_ASSIGN_OR_RETURN(const auto size, args.Integers(1, "size"));
  if (!size.has_value()) return One(args.dtype(0), std::nullopt);
  if (size->size() != 4 && size->size() != 5)
    return Invalid("size of ", size->size(), " numbers, expected 4 or 5");
  const int64_t spatial = static_cast<int64_t>(size->size()) - 2;
  if (args.shape(0).has_value()) {
    const Shape& theta = *args.shape(0);
    OCTET_RETURN_IF_ERROR(RequireRank(theta, 3, 3));
    if ((Known(theta[1]) && theta[1] != spatial) || (Known(theta[2]) && theta[2] != spatial + 1)) {
      return Invalid("theta of shape ", Str(theta), ", expected [N, ", spatial, ", ", spatial + 1,
                     "]");
    }
  }
  OCTET_ASSIGN_OR_RETURN(const int64_t n, DimOf((*size)[0], "size"));
  OCTET_ASSIGN_OR_RETURN(const int64_t batch, MergeDims(DimOf(args, 0, 0), n, "batch of size"));
  Shape out = {batch};
  for (size_t i = 2; i < size->size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(const int64_t dim, DimOf((*size)[i], "size"));
    out.push_back(dim);
  }
  out.push_back(spatial);
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> CenterCropPad(const RuleArgs& args) {
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  Shape out = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const auto sizes, args.Integers(1, "shape"));
  std::vector<int> along;
  if (args.node.Has("axes")) {
    OCTET_ASSIGN_OR_RETURN(along, NormalizeAxes(args.node.GetInts("axes"), out.size()));
  } else {
    for (size_t i = 0; i < out.size(); ++i) along.push_back(static_cast<int>(i));
  }
  if (sizes.has_value() && sizes->size() != along.size()) {
    return Invalid(sizes->size(), " sizes for ", along.size(), " axes");
  }
  for (size_t i = 0; i < along.size(); ++i) {
    out[along[i]] = kUnknownDim;
    if (!sizes.has_value()) continue;
    OCTET_ASSIGN_OR_RETURN(out[along[i]], DimOf((*sizes)[i], "shape"));
  }
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> Col2Im(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(const auto image, args.Integers(1, "image_shape"));
  OCTET_ASSIGN_OR_RETURN(const auto block, args.KnownIntegers(2, "block_shape"));
  if (args.shape(0).has_value()) OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(0), 3, 3));
  if (!image.has_value()) return One(args.dtype(0), std::nullopt);
  if (image->empty() || (block.has_value() && block->size() != image->size())) {
    return Invalid("block_shape of ", block.has_value() ? block->size() : 0,
                   " numbers for an image_shape of ", image->size());
  }
  int64_t channels = kUnknownDim;
  if (block.has_value() && Known(DimOf(args, 0, 1))) {
    int64_t volume = 1;
    for (int64_t b : *block) {
      if (b < 1) return Invalid("block_shape contains ", b);
      OCTET_ASSIGN_OR_RETURN(volume, CheckedMul(volume, b, "block"));
    }
    if (DimOf(args, 0, 1) % volume != 0) {
      return Invalid(DimOf(args, 0, 1), " rows do not divide into blocks of ", volume);
    }
    channels = DimOf(args, 0, 1) / volume;
  }
  Shape out = {DimOf(args, 0, 0), channels};
  for (const Element& element : *image) {
    OCTET_ASSIGN_OR_RETURN(const int64_t dim, DimOf(element, "image_shape"));
    out.push_back(dim);
  }
  return One(args.dtype(0), std::move(out));
}

// The offsets name every output position, so the output's size is theirs.
absl::StatusOr<Results> DeformConv(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 1));
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 2));
  for (size_t i : {size_t{0}, size_t{1}, size_t{2}}) {
    if (args.shape(i).has_value()) OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(i), 4, 4));
  }
  return One(args.dtype(0),
             Shape{DimOf(args, 0, 0), DimOf(args, 1, 0), DimOf(args, 2, 2), DimOf(args, 2, 3)});
}

absl::StatusOr<Results> RoiAlign(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  for (size_t i : {size_t{0}, size_t{1}, size_t{2}}) {
    const size_t rank = i == 0 ? 4 : i == 1 ? 2 : 1;
    if (args.shape(i).has_value()) OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(i), rank, rank));
  }
  OCTET_ASSIGN_OR_RETURN(const int64_t rois,
                         MergeDims(DimOf(args, 1, 0), DimOf(args, 2, 0), "batch_indices"));
  OCTET_ASSIGN_OR_RETURN(const int64_t height,
                         CheckedDim(args.node.GetInt("output_height", 1), "output_height"));
  OCTET_ASSIGN_OR_RETURN(const int64_t width,
                         CheckedDim(args.node.GetInt("output_width", 1), "output_width"));
  return One(args.dtype(0), Shape{rois, DimOf(args, 0, 1), height, width});
}

absl::StatusOr<Results> MaxRoiPool(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  const std::vector<int64_t> pooled = args.node.GetInts("pooled_shape");
  if (pooled.size() != 2)
    return Invalid("attribute 'pooled_shape' has ", pooled.size(), " numbers, expected 2");
  if (args.shape(0).has_value()) OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(0), 4, 4));
  Shape out = {DimOf(args, 1, 0), DimOf(args, 0, 1)};
  for (int64_t size : pooled) {
    OCTET_ASSIGN_OR_RETURN(const int64_t dim, CheckedDim(size, "pooled_shape"));
    out.push_back(dim);
  }
  return One(args.dtype(0), std::move(out));
}

//   out = stride * (in - 1) + kernel - pad_begin - pad_end, or output_shape
absl::StatusOr<Results> MaxUnpool(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(const auto declared, args.Integers(2, "output_shape"));
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  const Shape& x = *args.shape(0);
  OCTET_RETURN_IF_ERROR(RequireRank(x, 3, kMaxRank));
  const size_t spatial = x.size() - 2;
  const std::vector<int64_t> kernel = args.node.GetInts("kernel_shape");
  const std::vector<int64_t> strides =
      args.node.GetInts("strides", std::vector<int64_t>(spatial, 1));
  const std::vector<int64_t> pads = args.node.GetInts("pads", std::vector<int64_t>(2 * spatial, 0));
  if (kernel.size() != spatial || strides.size() != spatial || pads.size() != 2 * spatial) {
    return Invalid("kernel_shape, strides and pads have ", kernel.size(), ", ", strides.size(),
                   " and ", pads.size(), " numbers for an input of shape ", Str(x));
  }
  if (declared.has_value() && declared->size() != x.size()) {
    return Invalid("output_shape of ", declared->size(), " numbers for an input of shape ", Str(x));
  }
  Shape out = {x[0], x[1]};
  for (size_t i = 0; i < spatial; ++i) {
    if (args.has(2)) {
      OCTET_ASSIGN_OR_RETURN(const int64_t dim, declared.has_value()
                                                    ? DimOf((*declared)[i + 2], "output_shape")
                                                    : kUnknownDim);
      out.push_back(dim);
      continue;
    }
    for (int64_t value : {kernel[i], strides[i], pads[i], pads[i + spatial]}) {
      if (value < 0 || value > kMaxAttribute)
        return Invalid("kernel_shape, strides or pads contain ", value);
    }
    if (!Known(x[i + 2])) {
      out.push_back(kUnknownDim);
      continue;
    }
    OCTET_ASSIGN_OR_RETURN(const int64_t steps, CheckedMul(std::max<int64_t>(x[i + 2] - 1, 0),
                                                           strides[i], "output size"));
    OCTET_ASSIGN_OR_RETURN(
        const int64_t dim,
        CheckedDim(steps + kernel[i] - pads[i] - pads[i + spatial], "output size"));
    out.push_back(dim);
  }
  return One(args.dtype(0), std::move(out));
}

constexpr RuleEntry kRules[] = {
    {"AffineGrid", AffineGrid, 2, 2}, {"CenterCropPad", CenterCropPad, 2, 2},
    {"Col2Im", Col2Im, 3, 3},         {"DeformConv", DeformConv, 3, 5},
    {"Einsum", Einsum, 1, kVariadic}, {"GridSample", GridSample, 2, 2},
    {"MaxRoiPool", MaxRoiPool, 2, 2}, {"MaxUnpool", MaxUnpool, 2, 3},
    {"RoiAlign", RoiAlign, 3, 3},
};

}  // namespace

absl::Span<const RuleEntry> SamplingRules() { return kRules; }

}  // namespace octet::graph
