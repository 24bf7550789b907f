// Detections out of raw outputs, and how well two sets of them match.
#ifndef OCTET_BENCH_QUALITY_DETECTION_H_
#define OCTET_BENCH_QUALITY_DETECTION_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace octet::bench {

struct Box {
  float x0 = 0, y0 = 0, x1 = 0, y1 = 0;
  float score = 0;
  int label = 0;
};

// Area of the intersection over area of the union; 0 where the union is empty.
double Iou(const Box& a, const Box& b);

// Greedy non-maximum suppression per label: best score first, a box goes when its IoU with a kept one of its label
// exceeds max_iou. The result is sorted by score, best first.
std::vector<Box> SuppressNonMaxima(std::vector<Box> boxes, double max_iou);

// YOLOX heads, strides 8, 16 and 32 of a square image of `side` pixels, cells row by row. A row of `output` is
// (dx, dy, log w, log h, objectness, class scores...), and
//   centre = (cell + (dx, dy)) * stride, size = exp(log w, log h) * stride, score = objectness * best class score.
// Keeps scores above the threshold. Requires: output has ((side/8)^2 + (side/16)^2 + (side/32)^2) * (5 + classes)
// elements. Source: arXiv:2107.08430, section 2.1.
std::vector<Box> DecodeYolox(absl::Span<const float> output, int64_t side, int64_t classes, float threshold);

// UltraFace: scores [N, 2] (background, face), boxes [N, 4] (x0, y0, x1, y1); label 0.
std::vector<Box> DecodeUltraface(absl::Span<const float> scores, absl::Span<const float> boxes, float threshold);

// Pairs of equal label and IoU >= min_iou: found boxes in their order take the free reference box of largest IoU.
int64_t CountMatches(const std::vector<Box>& reference, const std::vector<Box>& found, double min_iou);

// 100 * 2 matches / (reference + found), the harmonic mean of precision and recall; 100 when there are no boxes.
double F1Percent(int64_t matches, int64_t reference, int64_t found);

}  // namespace octet::bench

#endif  // OCTET_BENCH_QUALITY_DETECTION_H_
