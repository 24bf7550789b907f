// Decoding, suppression and matching of boxes.
#include "bench/quality/detection.h"

#include <algorithm>
#include <cmath>

namespace octet::bench {
namespace {

double Area(const Box& b) {
  return std::max(0.0, static_cast<double>(b.x1) - b.x0) * std::max(0.0, static_cast<double>(b.y1) - b.y0);
}

Box YoloxBox(absl::Span<const float> row, int64_t x, int64_t y, int64_t stride) {
  const auto s = static_cast<float>(stride);
  const float cx = (static_cast<float>(x) + row[0]) * s, cy = (static_cast<float>(y) + row[1]) * s;
  const float w = std::exp(row[2]) * s, h = std::exp(row[3]) * s;
  const auto best = std::max_element(row.begin() + 5, row.end());
  return {cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, row[4] * *best, static_cast<int>(best - row.begin()) - 5};
}

}  // namespace

double Iou(const Box& a, const Box& b) {
  const double both = Area({std::max(a.x0, b.x0), std::max(a.y0, b.y0), std::min(a.x1, b.x1), std::min(a.y1, b.y1)});
  const double either = Area(a) + Area(b) - both;
  return either > 0 ? both / either : 0;
}

std::vector<Box> SuppressNonMaxima(std::vector<Box> boxes, double max_iou) {
  std::stable_sort(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.score > b.score; });
  std::vector<Box> kept;
  for (const Box& box : boxes) {
    const bool covered = std::any_of(kept.begin(), kept.end(), [&](const Box& other) {
      return other.label == box.label && Iou(other, box) > max_iou;
    });
    if (!covered) kept.push_back(box);
  }
  return kept;
}

std::vector<Box> DecodeYolox(absl::Span<const float> output, int64_t side, int64_t classes, float threshold) {
  std::vector<Box> boxes;
  const auto width = static_cast<size_t>(5 + classes);
  size_t at = 0;
  for (const int64_t stride : {8, 16, 32}) {
    for (int64_t y = 0; y < side / stride; ++y) {
      for (int64_t x = 0; x < side / stride; ++x, at += width) {
        const Box box = YoloxBox(output.subspan(at, width), x, y, stride);
        if (box.score > threshold) boxes.push_back(box);
      }
    }
  }
  return boxes;
}

std::vector<Box> DecodeUltraface(absl::Span<const float> scores, absl::Span<const float> boxes, float threshold) {
  std::vector<Box> found;
  for (size_t i = 0; 2 * i + 1 < scores.size(); ++i) {
    const float* b = boxes.data() + 4 * i;
    if (scores[2 * i + 1] > threshold) found.push_back({b[0], b[1], b[2], b[3], scores[2 * i + 1], 0});
  }
  return found;
}

int64_t CountMatches(const std::vector<Box>& reference, const std::vector<Box>& found, double min_iou) {
  std::vector<bool> taken(reference.size(), false);
  int64_t matches = 0;
  for (const Box& box : found) {
    size_t best = reference.size();
    double best_iou = 0;
    for (size_t r = 0; r < reference.size(); ++r) {
      const double iou = Iou(reference[r], box);
      if (taken[r] || reference[r].label != box.label || iou < min_iou || iou <= best_iou) continue;
      best = r;
      best_iou = iou;
    }
    if (best == reference.size()) continue;
    taken[best] = true;
    ++matches;
  }
  return matches;
}

double F1Percent(int64_t matches, int64_t reference, int64_t found) {
  if (reference + found == 0) return 100;
  return 200 * static_cast<double>(matches) / static_cast<double>(reference + found);
}

}  // namespace octet::bench
