// Quantization of f32 plain into u8/s8 channels-last: rows of pixels are quantized by vectors,
// channel by channel, and interleaved from the first-level cache. Exact, where oneDNN's reorder
// rounds after adding the zero point.
#include <algorithm>

#include "kernels/elements.h"
#include "kernels/quantize/quantize.h"
#include "kernels/rows.h"

namespace octet::kernels {
namespace {

constexpr int64_t kPixels = 256;   // of a tile
constexpr int64_t kChannels = 32;  // 8 KB of quantized values

struct Plan {
  int64_t batch, channels, pixels;
  float scale;
  int32_t zero_point;

  int64_t tiles_per_image() const { return (pixels + kPixels - 1) / kPixels; }

  template <typename Q>
  void Tiles(const float* src, Q* dst, int64_t begin, int64_t end) const {
    alignas(64) Q tile[kChannels][kPixels];
    for (int64_t t = begin; t < end; ++t) {
      const int64_t image = t / tiles_per_image(), pixel = t % tiles_per_image() * kPixels;
      const int64_t width = std::min(kPixels, pixels - pixel);
      if (channels == 3) {
        QuantizeInterleave3(src + image * 3 * pixels + pixel, pixels, width, scale, zero_point,
                            dst + (image * pixels + pixel) * 3);
        continue;
      }
      for (int64_t c = 0; c < channels; c += kChannels) {
        const int64_t depth = std::min(kChannels, channels - c);
        for (int64_t i = 0; i < depth; ++i) {
          QuantizeRow(src + (image * channels + c + i) * pixels + pixel, width, scale, zero_point,
                      tile[i]);
        }
        Interleave(tile, width, depth, dst + (image * pixels + pixel) * channels + c);
      }
    }
  }

  // dst[p * channels + i] = tile[i][p]
  template <typename Q>
  void Interleave(const Q (*tile)[kPixels], int64_t width, int64_t depth, Q* dst) const {
    for (int64_t p = 0; p < width; ++p, dst += channels) {
      for (int64_t i = 0; i < depth; ++i) dst[i] = tile[i][p];
    }
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvertTiles(const ConvertParams& params,
                                                           const KernelEnv&) {
  if (!IsPlainF32(params.src) || !IsQuantized8(params.dst)) {
    return absl::UnimplementedError("not from f32 to 8 bits with one scale");
  }
  if (params.src.layout != Layout::kPlain || params.dst.layout != Layout::kChannelsLast ||
      params.src.shape.size() < 3) {
    return absl::UnimplementedError("not from plain to channels-last");
  }
  const Shape& shape = params.src.shape;
  const Plan plan{shape[0], shape[1], NumElements(absl::MakeConstSpan(shape).subspan(2)),
                  params.dst.quant->scale[0], params.dst.quant->zero_point_at(0)};
  const bool is_u8 = params.dst.dtype == DType::kU8;
  return MakeFunctionKernel("tiles", 0, [plan, is_u8](const BindArgs& args) {
    const auto* src = static_cast<const float*>(args.src[0]);
    RunParallel(args.parallel, plan.batch * plan.tiles_per_image(),
                kGrainBytes / 4 / (kPixels * std::max<int64_t>(plan.channels, 1)) + 1,
                [&](int64_t begin, int64_t end) {
                  if (is_u8) {
                    plan.Tiles(src, static_cast<uint8_t*>(args.dst[0]), begin, end);
                  } else {
                    plan.Tiles(src, static_cast<int8_t*>(args.dst[0]), begin, end);
                  }
                });
  });
}

}  // namespace octet::kernels
