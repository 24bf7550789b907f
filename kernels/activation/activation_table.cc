// Activation of an 8-bit source: every value's result is computed once, at creation; exact, any
// function, any layout.
#include <array>

#include "kernels/activation/activation_reference.h"
#include "kernels/rows.h"

namespace octet::kernels {
namespace {

// The oracle's results for the source values 0..255 (s8: in the order of their bits).
template <typename T>
std::array<T, 256> TableOf(const ActivationParams& params) {
  std::array<uint8_t, 256> bits;
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint8_t>(i);
  std::array<T, 256> table;
  ActivationReference(params, bits.data(), table.data(), 0, 256);
  return table;
}

void Look(const uint8_t* src, int64_t n, const uint8_t* table, uint8_t* dst) {
  LookupRow(src, n, table, dst);
}
void Look(const uint8_t* src, int64_t n, const float* table, float* dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = table[src[i]];
}

template <typename T>
std::unique_ptr<Kernel> MakeTableKernel(const ActivationParams& params) {
  const int64_t n = NumElements(params.dst.shape);
  return MakeFunctionKernel("table", 0, [table = TableOf<T>(params), n](const BindArgs& args) {
    const auto* src = static_cast<const uint8_t*>(args.src[0]);
    auto* dst = static_cast<T*>(args.dst[0]);
    RunParallel(args.parallel, n, kGrainBytes / 4, [&](int64_t begin, int64_t end) {
      Look(src + begin, end - begin, table.data(), dst + begin);
    });
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateActivationTable(const ActivationParams& params,
                                                              const KernelEnv&) {
  if (!IsQuantized8(params.src))
    return absl::UnimplementedError("the source has not 8 bits with a scale");
  if (IsQuantized8(params.dst)) return MakeTableKernel<uint8_t>(params);
  if (IsPlainF32(params.dst)) return MakeTableKernel<float>(params);
  return absl::UnimplementedError("the result is neither f32 nor 8 bits with a scale");
}

}  // namespace octet::kernels
