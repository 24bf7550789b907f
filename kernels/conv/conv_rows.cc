// Geometry and copying of rows.
#include "kernels/conv/conv_rows.h"

#include <algorithm>
#include <cstring>

namespace octet::kernels {
namespace {

constexpr int64_t kLine = 64, kBeyond = 15;  // bytes of a cache line; positions read behind the last

}  // namespace

ConvRows::ConvRows(const ConvParams& params, int64_t depth, Copied copied)
    : g_(params), batch_(params.src.shape[0]), channels_(params.src.shape[1]) {
  bool moved = false;
  for (size_t d = 0; d < 3; ++d) {
    extent_[d] = g_.dst[d] + (g_.kernel[d] - 1) * g_.dilation[d] / g_.stride[d];
    for (int64_t k = 0; k < g_.kernel[d]; ++k) {
      const int64_t phase = k * g_.dilation[d] % g_.stride[d];
      auto& phases = phases_[d];
      if (std::find(phases.begin(), phases.end(), phase) == phases.end()) phases.push_back(phase);
    }
    moved |= g_.kernel[d] != 1 || g_.stride[d] != 1 || g_.pad[d] != 0 || g_.dst[d] != g_.src[d];
  }
  copied_ = moved || channels_ % depth != 0 || copied == Copied::kAlways;
  pixel_bytes_ = used_bytes_ = (channels_ + depth - 1) / depth * depth;
  if (copied_) {
    // An odd number of cache lines: the same channels of neighbouring pixels must not share a cache set.
    pixel_bytes_ = (pixel_bytes_ + kLine - 1) / kLine * kLine;
    if (pixel_bytes_ / kLine % 2 == 0) pixel_bytes_ += kLine;
  }
  const int64_t image = extent_[0] * extent_[1] * extent_[2];
  const int64_t beyond_last = ((extent_[0] - g_.dst[0]) * extent_[1] + extent_[1] - g_.dst[1]) * extent_[2] + extent_[2] - g_.dst[2];
  positions_ = batch_ * image - beyond_last;
  pixels_ = batch_ * image * static_cast<int64_t>(phases_[0].size() * phases_[1].size() * phases_[2].size()) + kBeyond;
}

int64_t ConvRows::PixelAt(int64_t position) const {
  Dims3 y;
  for (size_t d = 3; d-- > 0; position /= extent_[d]) y[d] = position % extent_[d];
  if (y[0] >= g_.dst[0] || y[1] >= g_.dst[1] || y[2] >= g_.dst[2] || position >= batch_) return -1;
  return ((position * g_.dst[0] + y[0]) * g_.dst[1] + y[1]) * g_.dst[2] + y[2];
}

int64_t ConvRows::TapOffset(int64_t tap) const {
  Dims3 shift, phase;
  for (size_t d = 3; d-- > 0; tap /= g_.kernel[d]) {
    const int64_t at = tap % g_.kernel[d] * g_.dilation[d];
    shift[d] = at / g_.stride[d];
    const auto& phases = phases_[d];
    phase[d] = std::find(phases.begin(), phases.end(), at % g_.stride[d]) - phases.begin();
  }
  const auto count = [&](size_t d) { return static_cast<int64_t>(phases_[d].size()); };
  const int64_t image = (phase[0] * count(1) + phase[1]) * count(2) + phase[2];
  return ((image * batch_ * extent_[0] + shift[0]) * extent_[1] + shift[1]) * extent_[2] + shift[2];
}

// The innermost spatial dimension of one phase; `line` is its first source pixel.
void ConvRows::CopyLine(const uint8_t* line, int64_t phase, uint8_t padding, uint8_t* to) const {
  for (int64_t y = 0; y < extent_[2]; ++y, to += pixel_bytes_) {
    const int64_t x = y * g_.stride[2] + phase - g_.pad[2];
    if (line == nullptr || x < 0 || x >= g_.src[2]) {
      std::memset(to, padding, static_cast<size_t>(channels_));
    } else {
      std::memcpy(to, line + x * channels_, static_cast<size_t>(channels_));
    }
    if (used_bytes_ > channels_) std::memset(to + channels_, 0, static_cast<size_t>(used_bytes_ - channels_));
  }
}

void ConvRows::Copy(const uint8_t* src, uint8_t padding, uint8_t* to) const {
  Dims3 x;
  for (const int64_t phase0 : phases_[0]) {
    for (const int64_t phase1 : phases_[1]) {
      for (const int64_t phase2 : phases_[2]) {
        for (int64_t n = 0; n < batch_; ++n) {
          for (int64_t y0 = 0; y0 < extent_[0]; ++y0) {
            x[0] = y0 * g_.stride[0] + phase0 - g_.pad[0];
            for (int64_t y1 = 0; y1 < extent_[1]; ++y1, to += extent_[2] * pixel_bytes_) {
              x[1] = y1 * g_.stride[1] + phase1 - g_.pad[1];
              const bool inside = x[0] >= 0 && x[0] < g_.src[0] && x[1] >= 0 && x[1] < g_.src[1];
              const int64_t first = ((n * g_.src[0] + x[0]) * g_.src[1] + x[1]) * g_.src[2];
              CopyLine(inside ? src + first * channels_ : nullptr, phase2, padding, to);
            }
          }
        }
      }
    }
  }
  std::memset(to, 0, static_cast<size_t>(kBeyond * pixel_bytes_));
}

}  // namespace octet::kernels
