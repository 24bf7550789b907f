// Deformable convolution: a column of samples per output position, then one dot product per output
// channel.
#include "kernels/plain/deform_conv.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

// Linear interpolation of a plane at (y, x), zero outside.
template <typename T>
float At(const T* plane, int64_t height, int64_t width, float y, float x) {
  if (!(y > -1 && y < static_cast<float>(height) && x > -1 && x < static_cast<float>(width)))
    return 0;
  const float fy = std::floor(y), fx = std::floor(x), ly = y - fy, lx = x - fx;
  const auto y0 = static_cast<int64_t>(fy), x0 = static_cast<int64_t>(fx);
  float sum = 0;
  for (int64_t dy = 0; dy < 2; ++dy) {
    for (int64_t dx = 0; dx < 2; ++dx) {
      const int64_t yy = y0 + dy, xx = x0 + dx;
      if (yy < 0 || yy >= height || xx < 0 || xx >= width) continue;
      sum += (dy == 1 ? ly : 1 - ly) * (dx == 1 ? lx : 1 - lx) *
             static_cast<float>(plane[yy * width + xx]);
    }
  }
  return sum;
}

struct Plan {
  DeformConvParams p;
  int64_t channels, height, width, out_channels, kh, kw, oh, ow;
  int bias = -1, mask = -1;  // operands

  static constexpr int64_t kTile = 16;  // positions whose columns are multiplied together

  // Samples of all channels and taps for position `at` of image n: column[k * kTile], k over
  // [C, kh, kw].
  template <typename T>
  void Column(const BindArgs& args, int64_t n, int64_t at, float* column) const {
    const int64_t taps = kh * kw, area = oh * ow, per_group = channels / p.offset_groups;
    const T* src = static_cast<const T*>(args.src[0]) + n * channels * height * width;
    const T* offset =
        static_cast<const T*>(args.src[2]) + n * p.offset_groups * taps * 2 * area + at;
    const T* scale = mask < 0 ? nullptr
                              : static_cast<const T*>(args.src[static_cast<size_t>(mask)]) +
                                    n * p.offset_groups * taps * area + at;
    for (int64_t g = 0; g < p.offset_groups; ++g) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t k = g * taps + tap;
        const float y = static_cast<float>(at / ow * p.strides[0] - p.pads_begin[0] +
                                           tap / kw * p.dilations[0]) +
                        static_cast<float>(offset[k * 2 * area]);
        const float x = static_cast<float>(at % ow * p.strides[1] - p.pads_begin[1] +
                                           tap % kw * p.dilations[1]) +
                        static_cast<float>(offset[(k * 2 + 1) * area]);
        const float factor = scale == nullptr ? 1.0f : static_cast<float>(scale[k * area]);
        for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) {
          column[(c * taps + tap) * kTile] =
              factor * At(src + c * height * width, height, width, y, x);
        }
      }
    }
  }

  template <typename T>
  void Run(const BindArgs& args, int64_t begin, int64_t end) const {
    const int64_t depth = channels / p.groups * kh * kw, per_group = out_channels / p.groups;
    const int64_t area = oh * ow;
    std::vector<float> columns(static_cast<size_t>(channels * kh * kw * kTile));
    const T* weights = static_cast<const T*>(args.src[1]);
    for (int64_t i = begin; i < end; i += kTile) {
      const int64_t count = std::min(kTile, end - i);
      for (int64_t j = 0; j < count; ++j) {
        Column<T>(args, (i + j) / area, (i + j) % area, columns.data() + j);
      }
      for (int64_t m = 0; m < out_channels; ++m) {
        const float* samples = columns.data() + m / per_group * depth * kTile;
        float sum[kTile];
        std::fill_n(sum, kTile,
                    bias < 0 ? 0.0f
                             : static_cast<float>(
                                   static_cast<const T*>(args.src[static_cast<size_t>(bias)])[m]));
        for (int64_t k = 0; k < depth; ++k) {
          const float w = static_cast<float>(weights[m * depth + k]);
          for (int64_t j = 0; j < kTile; ++j) sum[j] += w * samples[k * kTile + j];
        }
        for (int64_t j = 0; j < count; ++j) {
          const int64_t n = (i + j) / area, at = (i + j) % area;
          static_cast<T*>(args.dst[0])[(n * out_channels + m) * area + at] = static_cast<T>(sum[j]);
        }
      }
    }
  }
};

absl::Status Check(const DeformConvParams& p) {
  const Shape &src = p.src.shape, &w = p.weights.shape, &offset = p.offset.shape,
              &dst = p.dst.shape;
  bool fits = src.size() == 4 && w.size() == 4 && offset.size() == 4 && dst.size() == 4 &&
              p.groups >= 1 && p.offset_groups >= 1;
  fits = fits && src[1] == w[1] * p.groups && w[0] % p.groups == 0 &&
         src[1] % p.offset_groups == 0 && dst == Shape{src[0], w[0], offset[2], offset[3]} &&
         offset[0] == src[0] && offset[1] == 2 * p.offset_groups * w[2] * w[3];
  fits = fits && (!p.bias.has_value() || p.bias->shape == Shape{w[0]});
  fits =
      fits && (!p.mask.has_value() ||
               p.mask->shape == Shape{src[0], p.offset_groups * w[2] * w[3], offset[2], offset[3]});
  for (const TensorSpec* s :
       {&p.weights, &p.offset, &p.dst, p.bias ? &*p.bias : &p.src, p.mask ? &*p.mask : &p.src}) {
    fits = fits && s->dtype == p.src.dtype;
  }
  if (fits)
    return WithFloat("deformable convolution", p.src.dtype, [](auto) { return absl::OkStatus(); });
  return absl::InvalidArgumentError(
      absl::StrCat("deformable convolution: ", ShapeString(src), " by ", ShapeString(w), " in ",
                   p.groups, " groups, offsets ", ShapeString(offset), " in ", p.offset_groups,
                   " groups, to ", ShapeString(dst)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateDeformConv(const DeformConvParams& p,
                                                         const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(Check(p));
  Plan plan{p,
            p.src.shape[1],
            p.src.shape[2],
            p.src.shape[3],
            p.weights.shape[0],
            p.weights.shape[2],
            p.weights.shape[3],
            p.offset.shape[2],
            p.offset.shape[3]};
  int next = 3;
  if (p.bias.has_value()) plan.bias = next++;
  if (p.mask.has_value()) plan.mask = next++;
  const int64_t positions = p.src.shape[0] * plan.oh * plan.ow;
  const int64_t cost = NumElements(p.weights.shape) + 8 * plan.channels * plan.kh * plan.kw;
  return MakeCheckedKernel(
      "columns", 0, [plan, positions, cost](const BindArgs& args) -> absl::Status {
        return WithFloat("deformable convolution", plan.p.src.dtype, [&](auto t) {
          RunParallel(args.parallel, positions, 16384 / (cost + 1) + 1,
                      [&](int64_t begin, int64_t end) { plan.Run<decltype(t)>(args, begin, end); });
          return absl::OkStatus();
        });
      });
}

}  // namespace octet::kernels
