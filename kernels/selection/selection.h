// Operators whose result's size depends on the content of their operands. They run on the host thread, on whole tensors.
#ifndef OCTET_KERNELS_SELECTION_SELECTION_H_
#define OCTET_KERNELS_SELECTION_SELECTION_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"

namespace octet::kernels {

// Coordinates of the elements that are not zero, in row-major order: s64 [max(rank, 1), count].
absl::StatusOr<Tensor> NonZero(const Tensor& x);

// The slices along `axis` (elements of the flattened x without one) where `condition` (bool [n]) is true; n may be
// shorter than the axis. Errors: kInvalidArgument.
absl::StatusOr<Tensor> Compress(const Tensor& x, const Tensor& condition, std::optional<int64_t> axis);

// Distinct elements of the flattened x, or distinct slices along `axis`; ascending (slices by their elements in
// row-major order, NaN last) when sorted, else in the order of their first appearance.
struct Distinct {
  Tensor values;
  Tensor first, inverse, counts;  // s64: first index of each, its number for every element of x, how often it occurs
};
absl::StatusOr<Distinct> Unique(const Tensor& x, std::optional<int64_t> axis, bool sorted);

// Greedy suppression per batch and class, best score first (ties: lower index first).
//   boxes f32 [batches, n, 4], scores f32 [batches, classes, n] -> s64 [selected, 3]: batch, class, box
// A box is dropped when its intersection over union with a kept one exceeds iou_threshold, or its score does not exceed
// score_threshold (nullopt: none). Boxes are corners (y1, x1, y2, x2) in any order, or with center_point_box
// (x center, y center, width, height). Source: ONNX NonMaxSuppression-11.
struct SuppressionParams {
  int64_t max_boxes_per_class = 0;
  float iou_threshold = 0;
  std::optional<float> score_threshold;
  bool center_point_box = false;
};
absl::StatusOr<Tensor> NonMaxSuppression(const Tensor& boxes, const Tensor& scores, const SuppressionParams& params);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_SELECTION_SELECTION_H_
