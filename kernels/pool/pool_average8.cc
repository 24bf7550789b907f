// Average pooling of 8-bit channels-last sources into any storage: integer sums per channel, one
// requantization.
//
//   real[c] = src_scale * (sum_i q[i, c] - n * src_zero) / divisor,  n the elements inside the
//   source
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/pool/pool_lists.h"

namespace octet::kernels {
namespace {

// The part of a window inside the source along one dimension, and what it counts with padding.
struct Span1 {
  int64_t first, step, count, padded;
};

Span1 SpanOf(const PoolParams& p, size_t d, int64_t out) {
  const int64_t origin = out * p.strides[d] - p.pads_begin[d], step = p.dilations[d];
  const int64_t size = p.src.shape[d + 2], limit = size + p.pads_end[d];
  Span1 s{0, step, 0, 0};
  for (int64_t k = 0; k < p.kernel[d]; ++k) {
    const int64_t x = origin + k * step;
    if (x < limit) ++s.padded;
    if (x < 0 || x >= size) continue;
    if (s.count++ == 0) s.first = x;
  }
  return s;
}

template <typename T>
void AddRow(const T* src, int64_t channels, int32_t* sum) {
  for (int64_t c = 0; c < channels; ++c) sum[c] += src[c];
}

template <typename T>
void Run(const PoolParams& p, const BindArgs& args) {
  const int64_t channels = p.src.shape[1], height = p.src.shape[2], width = p.src.shape[3];
  const int64_t out_h = p.dst.shape[2], out_w = p.dst.shape[3];
  const auto* src = static_cast<const T*>(args.src[0]);
  const float scale = p.src.quant->scale[0];
  const int32_t zero = p.src.quant->zero_point_at(0);
  const int64_t grain = std::max<int64_t>(
      1, kGrainBytes / std::max<int64_t>(1, channels * p.kernel[0] * p.kernel[1]));
  RunParallel(
      args.parallel, p.dst.shape[0] * out_h * out_w, grain, [&](int64_t begin, int64_t end) {
        std::vector<int32_t> sum(static_cast<size_t>(channels));
        for (int64_t at = begin; at < end; ++at) {
          const int64_t n = at / (out_h * out_w);
          const Span1 y = SpanOf(p, 0, at / out_w % out_h), x = SpanOf(p, 1, at % out_w);
          std::fill(sum.begin(), sum.end(), 0);
          for (int64_t i = 0; i < y.count; ++i) {
            for (int64_t j = 0; j < x.count; ++j) {
              AddRow(src + ((n * height + y.first + i * y.step) * width + x.first + j * x.step) *
                               channels,
                     channels, sum.data());
            }
          }
          const auto inside = static_cast<int32_t>(y.count * x.count);
          const int64_t divisor =
              p.kind == PoolParams::Kind::kAverage ? inside : y.padded * x.padded;
          const double factor =
              divisor > 0 ? static_cast<double>(scale) / static_cast<double>(divisor) : 0;
          for (int64_t c = 0; c < channels; ++c) {
            StoreReal(p.dst, args.dst[0], at * channels + c,
                      factor * (static_cast<double>(sum[static_cast<size_t>(c)]) -
                                static_cast<double>(inside) * zero));
          }
        }
      });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreatePoolAverage8(const PoolParams& p, const KernelEnv&) {
  if (p.kind == PoolParams::Kind::kMax) return absl::UnimplementedError("maximum");
  if (!IsQuantized8(p.src)) return absl::UnimplementedError("source is not 8-bit");
  if (p.src.shape.size() != 4 || p.src.layout != Layout::kChannelsLast ||
      p.dst.layout != Layout::kChannelsLast) {
    return absl::UnimplementedError("not two-dimensional channels-last");
  }
  if (p.kernel[0] * p.kernel[1] > (int64_t{1} << 22))
    return absl::UnimplementedError("window of more than 2^22 elements");
  const bool is_signed = p.src.dtype == DType::kS8;
  return MakeFunctionKernel("average8", 0, [p, is_signed](const BindArgs& args) {
    is_signed ? Run<int8_t>(p, args) : Run<uint8_t>(p, args);
  });
}

}  // namespace octet::kernels
