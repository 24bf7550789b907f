// Greedy non-maximum suppression.
#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "kernels/selection/selection.h"

namespace octet::kernels {
namespace {

struct Box {
  float y1, x1, y2, x2;
  float Area() const { return (y2 - y1) * (x2 - x1); }
};

Box BoxOf(const float* p, bool center) {
  if (center) return {p[1] - p[3] / 2, p[0] - p[2] / 2, p[1] + p[3] / 2, p[0] + p[2] / 2};
  return {std::min(p[0], p[2]), std::min(p[1], p[3]), std::max(p[0], p[2]), std::max(p[1], p[3])};
}

float IntersectionOverUnion(const Box& a, const Box& b) {
  const float h = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  const float w = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  if (h <= 0 || w <= 0) return 0;
  const float both = h * w, either = a.Area() + b.Area() - both;
  return either > 0 ? both / either : 0;
}

void SelectClass(const std::vector<Box>& boxes, const float* scores, const SuppressionParams& params, int64_t batch,
                 int64_t of_class, std::vector<int64_t>* out) {
  std::vector<int64_t> order;
  for (size_t i = 0; i < boxes.size(); ++i) {
    if (!params.score_threshold.has_value() || scores[i] > *params.score_threshold) {
      order.push_back(static_cast<int64_t>(i));
    }
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  std::vector<int64_t> kept;
  for (int64_t i : order) {
    if (static_cast<int64_t>(kept.size()) >= params.max_boxes_per_class) break;
    const bool dropped = std::any_of(kept.begin(), kept.end(), [&](int64_t k) {
      return IntersectionOverUnion(boxes[static_cast<size_t>(i)], boxes[static_cast<size_t>(k)]) > params.iou_threshold;
    });
    if (dropped) continue;
    kept.push_back(i);
    out->insert(out->end(), {batch, of_class, i});
  }
}

}  // namespace

absl::StatusOr<Tensor> NonMaxSuppression(const Tensor& boxes, const Tensor& scores, const SuppressionParams& params) {
  const Shape& b = boxes.shape();
  const Shape& s = scores.shape();
  if (b.size() != 3 || s.size() != 3 || b[2] != 4 || b[0] != s[0] || b[1] != s[2]) {
    return absl::InvalidArgumentError(absl::StrCat("boxes ", ShapeString(b), " and scores ", ShapeString(s),
                                                   ", expected [batches, n, 4] and [batches, classes, n]"));
  }
  if (!(params.iou_threshold >= 0 && params.iou_threshold <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("iou_threshold ", params.iou_threshold, ", expected 0 to 1"));
  }
  const std::vector<float> coordinates = boxes.ToF32(), all_scores = scores.ToF32();
  std::vector<int64_t> out;
  for (int64_t n = 0; n < b[0]; ++n) {
    std::vector<Box> of_batch;
    for (int64_t i = 0; i < b[1]; ++i) {
      of_batch.push_back(BoxOf(coordinates.data() + (n * b[1] + i) * 4, params.center_point_box));
    }
    for (int64_t c = 0; c < s[1]; ++c) {
      SelectClass(of_batch, all_scores.data() + (n * s[1] + c) * s[2], params, n, c, &out);
    }
  }
  return Tensor::FromS64({static_cast<int64_t>(out.size() / 3), 3}, out);
}

}  // namespace octet::kernels
