// Taps and positions of convolutions and matrix products.
#include "compress/product_reader.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/windows.h"

namespace octet::compress {

absl::StatusOr<ProductReader> ReaderOf(const graph::Graph& graph, const graph::Node& node) {
  const Tensor* weights = graph.ConstantInput(node, 1);
  const bool conv = node.op == "Conv", matrix = node.op == "MatMul" || node.op == "Gemm";
  if (weights == nullptr || NumElements(weights->shape()) == 0 ||
      !(conv ? weights->shape().size() > 2 : matrix && weights->shape().size() == 2)) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(graph, node),
                                                   " has no second moments: expected a Conv, Gemm or MatMul with a "
                                                   "constant operand 1 (of matrix products: of rank 2)"));
  }
  const Shape& shape = weights->shape();
  ProductReader r;
  r.node = &node;
  r.src = node.inputs[0];
  if (!conv) {
    r.inputs = node.op == "Gemm" && node.GetInt("transB", 0) != 0 ? shape[1] : shape[0];
    return r;
  }
  r.kernel.assign(shape.begin() + 2, shape.end());
  for (int64_t k : r.kernel) r.taps *= k;
  r.inputs = shape[1];
  r.conv_groups = node.GetInt("group", 1);
  return r;
}

absl::StatusOr<Places> Places::Of(const ProductReader& reader, const Shape& src) {
  return reader.kernel.empty() ? OfMatrix(reader, src) : OfConvolution(reader, src);
}

void Places::Offsets(int64_t tap, absl::Span<const int64_t> positions, int64_t* offsets) const {
  if (matrix_) {
    for (size_t i = 0; i < positions.size(); ++i) offsets[i] = positions[i] * position_stride_;
    return;
  }
  int64_t at_tap[kMaxSpatial];
  Split(tap, kernel_, at_tap);
  for (size_t i = 0; i < positions.size(); ++i) {
    int64_t at[kMaxSpatial];
    const int64_t image = Split(positions[i], dst_, at);
    int64_t offset = 0;
    bool inside = true;
    for (size_t d = 0; d < kMaxSpatial; ++d) {
      const int64_t x = at[d] * stride_[d] + at_tap[d] * dilation_[d] - pad_[d];
      inside = inside && x >= 0 && x < src_[d];
      offset = offset * src_[d] + x;
    }
    offsets[i] = inside ? image * position_stride_ + offset : -1;
  }
}

// Row-major coordinates of `index` in `dims`; returns what is left of it.
int64_t Places::Split(int64_t index, const Dims& dims, int64_t* at) {
  for (size_t d = kMaxSpatial; d-- > 0;) {
    at[d] = index % dims[d];
    index /= dims[d];
  }
  return index;
}

absl::StatusOr<Places> Places::OfMatrix(const ProductReader& reader, const Shape& src) {
  Places p;
  p.matrix_ = true;
  const bool transposed = reader.node->op == "Gemm" && reader.node->GetInt("transA", 0) != 0;
  p.count_ = NumElements(src) / reader.inputs;
  p.channel_stride_ = transposed ? p.count_ : 1;
  p.position_stride_ = transposed ? 1 : reader.inputs;
  return p;
}

absl::StatusOr<Places> Places::OfConvolution(const ProductReader& reader, const Shape& src) {
  const graph::Node& node = *reader.node;
  const size_t rank = reader.kernel.size();
  if (src.size() != rank + 2 || rank > kMaxSpatial) {
    return absl::InvalidArgumentError(
        absl::StrCat("source of shape ", ShapeString(src), " of a kernel with ", rank, " dimensions, expected at most 3"));
  }
  const std::string auto_pad = node.GetString("auto_pad", "NOTSET");
  const std::vector<int64_t> strides = node.GetInts("strides", std::vector<int64_t>(rank, 1));
  const std::vector<int64_t> dilations = node.GetInts("dilations", std::vector<int64_t>(rank, 1));
  const std::vector<int64_t> pads = node.GetInts("pads", std::vector<int64_t>(2 * rank, 0));
  Shape dst = src;
  for (size_t d = 0; d < rank; ++d) {
    const int64_t span = (reader.kernel[d] - 1) * dilations[d] + 1;
    const int64_t pad = auto_pad == "VALID" ? 0 : pads[d] + pads[d + rank];
    const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
    dst[d + 2] = same ? (src[d + 2] + strides[d] - 1) / strides[d] : (src[d + 2] + pad - span) / strides[d] + 1;
  }
  OCTET_ASSIGN_OR_RETURN(const engine::Window window, engine::WindowOf(node, src, dst, reader.kernel));
  Places p;
  p.count_ = src[0];
  for (size_t d = 0; d < rank; ++d) {  // missing dimensions stay 1 and come first
    const size_t to = d + kMaxSpatial - rank;
    p.kernel_[to] = window.kernel[d];
    p.stride_[to] = window.strides[d];
    p.dilation_[to] = window.dilations[d];
    p.pad_[to] = window.pads_begin[d];
    p.src_[to] = src[d + 2];
    p.dst_[to] = dst[d + 2];
    p.channel_stride_ *= src[d + 2];
    p.count_ *= dst[d + 2];
  }
  p.position_stride_ = p.channel_stride_ * src[1];
  return p;
}

std::vector<int64_t> SamplePositions(int64_t count, int64_t wanted, const CounterRng& rng) {
  const int64_t parts = std::min(count, wanted);
  std::vector<int64_t> out(static_cast<size_t>(parts));
  for (int64_t i = 0; i < parts; ++i) {
    const double u = parts < count ? rng.Uniform(static_cast<uint64_t>(i)) : 0;
    const double at = (static_cast<double>(i) + u) * static_cast<double>(count) / static_cast<double>(parts);
    out[static_cast<size_t>(i)] = std::min(static_cast<int64_t>(at), count - 1);
  }
  return out;
}

}  // namespace octet::compress
