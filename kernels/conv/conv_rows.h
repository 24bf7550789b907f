// A convolution as products of rows: a copy of its source in which every tap reads at one constant offset.
//
//   dst[position] = sum_t sum_c copy[(position + tap_offset(t)) * pixel_bytes + c] * weights[t, c]
//   position = ((n * extent[0] + y0) * extent[1] + y1) * extent[2] + y2
//
// The copy holds the padding, and one image per phase of the strides (pixels y * stride + phase). Positions that belong to no
// output lie between those that do; they are computed and thrown away. A 1x1 convolution needs no copy. Internal to conv/.
#ifndef OCTET_KERNELS_CONV_CONV_ROWS_H_
#define OCTET_KERNELS_CONV_CONV_ROWS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/conv/conv_reference.h"

namespace octet::kernels {

// Requires: channels-last source of 8 bits, one group. Immutable.
class ConvRows {
 public:
  enum class Copied : uint8_t { kIfNeeded, kAlways };
  // Channels of a pixel of the copy are filled up with zeros to a multiple of `depth` bytes.
  ConvRows(const ConvParams& params, int64_t depth, Copied copied = Copied::kIfNeeded);

  bool needs_copy() const { return copied_; }
  int64_t pixel_bytes() const { return pixel_bytes_; }
  int64_t copy_bytes() const { return copied_ ? pixels_ * pixel_bytes_ : 0; }
  // Positions up to the last output; tiles of 16 may read the copy 15 positions further.
  int64_t positions() const { return positions_; }
  // The output pixel (in dst's order) at a position, or -1.
  int64_t PixelAt(int64_t position) const;
  // In positions; `tap` counts the kernel's elements in row-major order.
  int64_t TapOffset(int64_t tap) const;
  // Writes copy_bytes(); `padding` is the source's zero point.
  void Copy(const uint8_t* src, uint8_t padding, uint8_t* to) const;

 private:
  using Dims3 = ConvGeometry::Dims3;
  void CopyLine(const uint8_t* line, int64_t phase, uint8_t padding, uint8_t* to) const;

  ConvGeometry g_;
  int64_t batch_, channels_, used_bytes_ = 0, pixel_bytes_ = 0, positions_ = 0, pixels_ = 0;
  bool copied_ = true;
  Dims3 extent_ = {1, 1, 1};
  std::array<std::vector<int64_t>, 3> phases_;  // those that a tap reads
};

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CONV_CONV_ROWS_H_
