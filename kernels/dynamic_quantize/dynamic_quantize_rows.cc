// DynamicQuantize by vector loops over pieces that the team shares: extremes first, then elements.
#include <vector>

#include "kernels/dynamic_quantize/dynamic_quantize.h"
#include "kernels/elements.h"
#include "kernels/rows.h"

namespace octet::kernels {
namespace {

constexpr int64_t kPieceElements = kGrainBytes / 4;

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateDynamicQuantizeRows(
    const DynamicQuantizeParams& params, const KernelEnv&) {
  const int64_t n = NumElements(params.src.shape);
  const int64_t pieces = (n + kPieceElements - 1) / kPieceElements;
  const int64_t scratch_bytes = 2 * pieces * int64_t{sizeof(float)};
  return MakeFunctionKernel("rows", scratch_bytes, [n, pieces](const BindArgs& args) {
    const auto* src = static_cast<const float*>(args.src[0]);
    auto* lows = static_cast<float*>(args.scratch);
    float* highs = lows + pieces;
    RunParallel(args.parallel, pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const int64_t at = p * kPieceElements, count = std::min(kPieceElements, n - at);
        lows[p] = MinRow(src + at, count);
        highs[p] = MaxRow(src + at, count);
      }
    });
    const DynamicRange range(pieces == 0 ? 0 : MinRow(lows, pieces),
                             pieces == 0 ? 0 : MaxRow(highs, pieces));
    auto* dst = static_cast<uint8_t*>(args.dst[0]);
    RunParallel(args.parallel, n, kPieceElements, [&](int64_t begin, int64_t end) {
      QuantizeRow(src + begin, end - begin, range.scale, range.zero_point, dst + begin);
    });
    *static_cast<float*>(args.dst[1]) = range.scale;
    *static_cast<uint8_t*>(args.dst[2]) = range.zero_point;
  });
}

}  // namespace octet::kernels
