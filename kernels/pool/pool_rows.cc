// Averages of channels-last tensors with any change of type and quantization: what oneDNN refuses
// (u8 into f32 or s8, padding with a zero point, ceil_mode with counted padding).
//
// Stored values are summed over blocks of channels (s32 for integers, float for f32):
//   real = src_scale * (sum - inside * src_zero_point) / count,   dst = round_half_even(real /
//   dst_scale) + dst_zero_point
#include <algorithm>
#include <array>
#include <cstdint>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/pool/pool.h"

namespace octet::kernels {
namespace {

constexpr int64_t kBlock = 64;  // channels summed at once
using Dims3 = std::array<int64_t, 3>;

// Three spatial dimensions, missing ones in front.
struct Window {
  Dims3 src{1, 1, 1}, dst{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, dilation{1, 1, 1},
      begin{0, 0, 0}, end{0, 0, 0};

  explicit Window(const PoolParams& p) {
    const size_t spatial = p.kernel.size();
    for (size_t i = 0; i < spatial; ++i) {
      const size_t to = 3 - spatial + i;
      src[to] = p.src.shape[i + 2];
      dst[to] = p.dst.shape[i + 2];
      kernel[to] = p.kernel[i];
      stride[to] = p.strides[i];
      dilation[to] = p.dilations[i];
      begin[to] = p.pads_begin[i];
      end[to] = p.pads_end[i];
    }
  }
};

// The part of a window along one dimension: kernel indices [first, last) inside the source, and how
// many are declared.
struct Range {
  int64_t first, last, declared, origin;
};

Range RangeAt(const Window& w, size_t d, int64_t at) {
  const int64_t origin = at * w.stride[d] - w.begin[d], step = w.dilation[d];
  const auto indices_below = [&](int64_t limit) {  // kernel indices whose position is below limit
    return std::clamp<int64_t>((limit - origin + step - 1) / step, 0, w.kernel[d]);
  };
  const int64_t first = origin >= 0 ? 0 : indices_below(0);
  return {first, indices_below(w.src[d]), indices_below(w.src[d] + w.end[d]), origin};
}

template <typename Src, typename Acc>
void AverageBlock(const PoolParams& p, const Window& w, const Src* image,
                  const std::array<Range, 3>& r, int64_t channel, int64_t n, void* dst,
                  int64_t dst_offset) {
  const int64_t channels = p.src.shape[1];
  std::array<Acc, kBlock> sums{};
  for (int64_t z = r[0].first; z < r[0].last; ++z) {
    for (int64_t y = r[1].first; y < r[1].last; ++y) {
      for (int64_t x = r[2].first; x < r[2].last; ++x) {
        const int64_t pixel =
            ((r[0].origin + z * w.dilation[0]) * w.src[1] + r[1].origin + y * w.dilation[1]) *
                w.src[2] +
            r[2].origin + x * w.dilation[2];
        const Src* src = image + pixel * channels + channel;
        if (n == kBlock) {  // a constant count, which compilers vectorise
          for (size_t c = 0; c < kBlock; ++c) sums[c] += static_cast<Acc>(src[c]);
        } else {
          for (size_t c = 0; c < static_cast<size_t>(n); ++c) sums[c] += static_cast<Acc>(src[c]);
        }
      }
    }
  }
  int64_t inside = 1, declared = 1;
  for (const Range& range : r) {
    inside *= range.last - range.first;
    declared *= range.declared;
  }
  const double count =
      static_cast<double>(p.kind == PoolParams::Kind::kAverage ? inside : declared);
  const double scale = (p.src.quant ? double{p.src.quant->scale[0]} : 1.0) / count;
  const double zero = p.src.quant ? static_cast<double>(inside * p.src.quant->zero_point_at(0)) : 0;
  for (int64_t c = 0; c < n; ++c) {
    StoreReal(p.dst, dst, dst_offset + c,
              scale * (static_cast<double>(sums[static_cast<size_t>(c)]) - zero));
  }
}

template <typename Src, typename Acc>
void Average(const PoolParams& p, const BindArgs& args) {
  const Window w(p);
  const int64_t channels = p.src.shape[1], blocks = (channels + kBlock - 1) / kBlock;
  const int64_t src_pixels = w.src[0] * w.src[1] * w.src[2],
                dst_pixels = w.dst[0] * w.dst[1] * w.dst[2];
  const int64_t window_bytes =
      w.kernel[0] * w.kernel[1] * w.kernel[2] * kBlock * static_cast<int64_t>(sizeof(Src));
  const int64_t grain = std::max<int64_t>(1, kGrainBytes / window_bytes);
  const auto* src = static_cast<const Src*>(args.src[0]);
  RunParallel(args.parallel, p.src.shape[0] * dst_pixels * blocks, grain,
              [&](int64_t from, int64_t to) {
                for (int64_t unit = from; unit < to; ++unit) {
                  const int64_t pixel = unit / blocks, channel = unit % blocks * kBlock;
                  const int64_t image = pixel / dst_pixels, at = pixel % dst_pixels;
                  const std::array<Range, 3> ranges = {RangeAt(w, 0, at / (w.dst[1] * w.dst[2])),
                                                       RangeAt(w, 1, at / w.dst[2] % w.dst[1]),
                                                       RangeAt(w, 2, at % w.dst[2])};
                  AverageBlock<Src, Acc>(p, w, src + image * src_pixels * channels, ranges, channel,
                                         std::min(kBlock, channels - channel), args.dst[0],
                                         pixel * channels + channel);
                }
              });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreatePoolRows(const PoolParams& params, const KernelEnv&) {
  if (params.kind == PoolParams::Kind::kMax) return absl::UnimplementedError("averages only");
  if (params.src.layout != Layout::kChannelsLast)
    return absl::UnimplementedError("channels-last only");
  return MakeFunctionKernel("rows", 0, [params](const BindArgs& args) {
    if (params.src.dtype == DType::kF32) {
      Average<float, float>(params, args);
    } else if (params.src.dtype == DType::kU8) {
      Average<uint8_t, int32_t>(params, args);
    } else {
      Average<int8_t, int32_t>(params, args);
    }
  });
}

}  // namespace octet::kernels
