// Oracle of Resize: the taps of one coordinate (shared by all implementations), and their product
// over all dimensions for each result alone.
#ifndef OCTET_KERNELS_RESIZE_RESIZE_REFERENCE_H_
#define OCTET_KERNELS_RESIZE_RESIZE_REFERENCE_H_

#include <algorithm>
#include <cmath>

#include "absl/container/inlined_vector.h"
#include "kernels/elements.h"
#include "kernels/resize/resize.h"

namespace octet::kernels {

// Length of dimension d after scaling, before it is cut to whole elements: what ONNX's reference and test vectors call
// length_resized. Where the scale follows from the sizes, that is the size itself, free of the quotient's rounding.
inline float ResizedLength(const ResizeParams& p, size_t d) {
  const auto to = static_cast<float>(p.dst.shape[d]);
  const float length = p.scales[d] * static_cast<float>(p.src.shape[d]);
  return std::fabs(length - to) <= 1e-5f * to ? to : length;
}

// Source coordinate of result coordinate `at` along dimension d, in f32 as ONNX Runtime computes
// it.
inline float SourceCoordinate(const ResizeParams& p, size_t d, int64_t at) {
  using Coordinates = ResizeParams::Coordinates;
  const auto x = static_cast<float>(at);
  const auto from = static_cast<float>(p.src.shape[d]), to = static_cast<float>(p.dst.shape[d]);
  const float scale = p.scales[d], length = ResizedLength(p, d);
  switch (p.coordinates) {
    case Coordinates::kHalfPixel:
      return (x + 0.5f) / scale - 0.5f;
    case Coordinates::kHalfPixelSymmetric: {
      const float adjustment = to / (scale * from);
      return from / 2 * (1 - adjustment) + (x + 0.5f) / scale - 0.5f;
    }
    case Coordinates::kPytorchHalfPixel:
      return to > 1 ? (x + 0.5f) / scale - 0.5f : 0;
    case Coordinates::kAlignCorners:
      return to > 1 ? x * (from - 1) / (length - 1) : 0;
    case Coordinates::kAsymmetric:
      return x / scale;
    case Coordinates::kTfCropAndResize: {
      const float start = p.roi[d], end = p.roi[d + p.src.shape.size()];
      return to > 1 ? start * (from - 1) + x * (end - start) * (from - 1) / (length - 1)
                    : 0.5f * (start + end) * (from - 1);
    }
  }
  return x;
}

struct Taps {
  absl::InlinedVector<std::pair<int64_t, float>, 4> of;  // source index, weight
  bool outside = false;                                  // the extrapolation value instead
};

inline int64_t NearestIndex(ResizeParams::Rounding rounding, float x) {
  switch (rounding) {
    case ResizeParams::Rounding::kRoundPreferFloor:
      return static_cast<int64_t>(std::ceil(x - 0.5f));
    case ResizeParams::Rounding::kRoundPreferCeil:
      return static_cast<int64_t>(std::floor(x + 0.5f));
    case ResizeParams::Rounding::kFloor:
      return static_cast<int64_t>(std::floor(x));
    default:
      return static_cast<int64_t>(std::ceil(x));
  }
}

// Keys' cubic convolution, IEEE ASSP 29(6), 1981.
inline float CubicKernel(float x, float a) {
  const float u = std::fabs(x);
  if (u <= 1) return ((a + 2) * u - (a + 3)) * u * u + 1;
  return u < 2 ? ((a * u - 5 * a) * u + 8 * a) * u - 4 * a : 0;
}

// Every source element within reach of a kernel widened by 1/scale (< 1) around x.
inline void AntialiasTaps(const ResizeParams& p, float scale, float x, Taps* taps) {
  const bool cubic = p.mode == ResizeParams::Mode::kCubic;
  const float reach = (cubic ? 2.0f : 1.0f) / scale;
  const auto first = static_cast<int64_t>(std::floor(x - reach)) + 1, last = static_cast<int64_t>(std::ceil(x + reach)) - 1;
  float sum = 0;
  for (int64_t i = first; i <= last; ++i) {
    const float u = (static_cast<float>(i) - x) * scale;
    const float weight = cubic ? CubicKernel(u, p.cubic_coefficient) : std::max(1 - std::fabs(u), 0.0f);
    taps->of.push_back({i, weight});
    sum += weight;
  }
  for (auto& [index, weight] : taps->of) weight /= sum;
}

inline Taps TapsOf(const ResizeParams& p, size_t d, int64_t at) {
  const int64_t size = p.src.shape[d];
  const bool crop = p.coordinates == ResizeParams::Coordinates::kTfCropAndResize;
  Taps taps;
  if (size == p.dst.shape[d] && p.scales[d] == 1 && !crop) {
    taps.of.push_back({at, 1.0f});
    return taps;
  }
  const float x = SourceCoordinate(p, d, at);
  taps.outside = crop && (x < 0 || x > static_cast<float>(size - 1));
  const float floor = std::floor(x), t = x - floor;
  const auto base = static_cast<int64_t>(floor);
  if (p.mode == ResizeParams::Mode::kNearest) {
    taps.of.push_back({NearestIndex(p.rounding, x), 1.0f});
  } else if (p.antialias == ResizeParams::Antialias::kYes && p.scales[d] < 1) {
    AntialiasTaps(p, p.scales[d], x, &taps);
  } else if (p.mode == ResizeParams::Mode::kLinear) {
    taps.of = {{base, 1 - t}, {base + 1, t}};
  } else {
    for (int64_t k = -1; k <= 2; ++k) {
      taps.of.push_back({base + k, CubicKernel(t - static_cast<float>(k), p.cubic_coefficient)});
    }
  }
  if (p.border == ResizeParams::Border::kExcludeOutside && p.mode != ResizeParams::Mode::kNearest) {
    float sum = 0;
    for (auto& [index, weight] : taps.of) {
      if (index < 0 || index >= size) weight = 0;
      sum += weight;
    }
    for (auto& [index, weight] : taps.of) weight /= sum;
  }
  for (auto& [index, weight] : taps.of) index = std::clamp<int64_t>(index, 0, size - 1);
  return taps;
}

// Results [begin, end) in the row-major order of their ONNX indices.
inline void ResizeReference(const ResizeParams& p, const void* src, void* dst, int64_t begin,
                            int64_t end) {
  const Shape strides = StridesIn(p.src), dst_strides = StridesIn(p.dst),
              order = StridesOf(p.dst.shape);
  const size_t rank = p.src.shape.size();
  for (int64_t i = begin; i < end; ++i) {
    Index index(rank);
    std::vector<std::pair<int64_t, double>> terms{{0, 1.0}};  // offset, weight
    bool outside = false;
    for (size_t d = 0; d < rank; ++d) {
      index[d] = i / order[d] % p.dst.shape[d];
      const Taps taps = TapsOf(p, d, index[d]);
      outside = outside || taps.outside;
      std::vector<std::pair<int64_t, double>> next;
      for (const auto& [offset, weight] : terms) {
        for (const auto& [at, w] : taps.of) {
          if (w != 0) next.push_back({offset + at * strides[d], weight * w});
        }
      }
      terms = std::move(next);
    }
    const int64_t to = Offset(dst_strides, index);
    if (p.mode == ResizeParams::Mode::kNearest && !outside) {
      CopyElement(p.src.dtype, src, terms[0].first, dst, to);
      continue;
    }
    double real = outside ? p.extrapolation_value : 0;
    for (const auto& [offset, weight] : terms)
      real += outside ? 0 : weight * LoadReal(p.src, src, offset);
    StoreReal(p.dst, dst, to, real);
  }
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_RESIZE_RESIZE_REFERENCE_H_
