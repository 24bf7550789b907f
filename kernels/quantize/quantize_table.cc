// Requantization u8/s8 -> u8/s8 in one memory order: every source value's result is computed once,
// at creation.
#include <array>

#include "kernels/elements.h"
#include "kernels/quantize/quantize.h"
#include "kernels/rows.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvertTable(const ConvertParams& params,
                                                           const KernelEnv&) {
  if (!IsQuantized8(params.src) || !IsQuantized8(params.dst)) {
    return absl::UnimplementedError("not from 8 bits to 8 bits with one scale each");
  }
  if (!SameMemoryOrder(params.src, params.dst))
    return absl::UnimplementedError("the order changes");
  std::array<uint8_t, 256> table;
  for (int bits = 0; bits < 256; ++bits) {
    const auto stored = static_cast<uint8_t>(bits);
    StoreReal(params.dst, table.data(), bits, LoadReal(params.src, &stored, 0));
  }
  const int64_t n = NumElements(params.dst.shape);
  return MakeFunctionKernel("table", 0, [table, n](const BindArgs& args) {
    const auto* src = static_cast<const uint8_t*>(args.src[0]);
    auto* dst = static_cast<uint8_t*>(args.dst[0]);
    RunParallel(args.parallel, n, kGrainBytes / 4, [&](int64_t begin, int64_t end) {
      LookupRow(src + begin, end - begin, table.data(), dst + begin);
    });
  });
}

}  // namespace octet::kernels
