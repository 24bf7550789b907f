// A product as a reader of its source: which element of an activation each weight meets at each output position. What
// gathering moments (collect_moments.h) and rows (collect_rows.h) of inputs have in common; internal to compress/.
#ifndef OCTET_COMPRESS_PRODUCT_READER_H_
#define OCTET_COMPRESS_PRODUCT_READER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/rng.h"
#include "base/shape.h"
#include "graph/graph.h"

namespace octet::compress {

// Column p * inputs + i of conv group g is channel g * inputs + i at tap p, as in compress/weight_matrix.h.
struct ProductReader {
  const graph::Node* node = nullptr;
  graph::ValueId src = graph::kNoValue;
  std::vector<int64_t> kernel;  // empty of a matrix product
  int64_t taps = 1, inputs = 0, conv_groups = 1;

  int64_t columns() const { return taps * inputs; }
  int64_t gram_elements() const { return conv_groups * columns() * columns(); }
};

// Of a Conv, Gemm or MatMul with a constant operand 1; `node` is one of `graph` and outlives the reader.
// Errors: kInvalidArgument for another node, named.
absl::StatusOr<ProductReader> ReaderOf(const graph::Graph& graph, const graph::Node& node);

// Where the taps of all output positions lie in the source of one sample: channel c of tap t of position p is element
// Offset(t, p) + c * channel_stride, or a zero of the padding where Offset is negative.
class Places {
 public:
  // `src` is the shape of the source. Errors: kInvalidArgument for more than 3 spatial dimensions or a wrong rank.
  static absl::StatusOr<Places> Of(const ProductReader& reader, const Shape& src);

  int64_t count() const { return count_; }
  int64_t channel_stride() const { return channel_stride_; }

  // Offsets of tap t at each of `positions`; `offsets` has room for as many.
  void Offsets(int64_t tap, absl::Span<const int64_t> positions, int64_t* offsets) const;

 private:
  static constexpr int64_t kMaxSpatial = 3;
  using Dims = int64_t[kMaxSpatial];

  static int64_t Split(int64_t index, const Dims& dims, int64_t* at);
  static absl::StatusOr<Places> OfMatrix(const ProductReader& reader, const Shape& src);
  static absl::StatusOr<Places> OfConvolution(const ProductReader& reader, const Shape& src);

  bool matrix_ = false;
  int64_t count_ = 0, channel_stride_ = 1;
  int64_t position_stride_ = 0;  // of a convolution: elements of one image
  Dims kernel_ = {1, 1, 1}, stride_ = {1, 1, 1}, dilation_ = {1, 1, 1}, pad_ = {0, 0, 0};
  Dims src_ = {1, 1, 1}, dst_ = {1, 1, 1};
};

// One position, at a place that `rng` chooses, of each of at most `wanted` equal parts of [0, count).
std::vector<int64_t> SamplePositions(int64_t count, int64_t wanted, const CounterRng& rng);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_PRODUCT_READER_H_
