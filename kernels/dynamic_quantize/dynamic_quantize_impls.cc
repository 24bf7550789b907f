// The ordered list of DynamicQuantize.
#include "base/status.h"
#include "kernels/dynamic_quantize/dynamic_quantize.h"
#include "kernels/elements.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateDynamicQuantizeRows(const DynamicQuantizeParams&, const KernelEnv&);
Result CreateDynamicQuantizeReference(const DynamicQuantizeParams&, const KernelEnv&);

absl::Span<const Implementation<DynamicQuantizeParams>> DynamicQuantizeImplementations() {
  static constexpr Implementation<DynamicQuantizeParams> kList[] = {
      {"rows", CreateDynamicQuantizeRows},
      {"reference", CreateDynamicQuantizeReference},
  };
  return kList;
}

Result CreateDynamicQuantize(const DynamicQuantizeParams& params, const KernelEnv& env) {
  if (!IsPlainF32(params.src) || params.dst.dtype != DType::kU8 || params.dst.quant) {
    return absl::InvalidArgumentError(absl::StrCat("dynamic quantization of ",
                                                   NameOf(params.src.dtype), " to ",
                                                   NameOf(params.dst.dtype), ", expected f32 to u8"));
  }
  if (params.src.shape != params.dst.shape || params.src.layout != params.dst.layout) {
    return absl::InvalidArgumentError("dynamic quantization: src and dst differ in shape or layout");
  }
  return Select(DynamicQuantizeImplementations(), params, env);
}

}  // namespace octet::kernels
