// The ordered list of Activation.
#include "base/status.h"
#include "kernels/activation/activation.h"
#include "kernels/elements.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateActivationTable(const ActivationParams&, const KernelEnv&);
Result CreateActivationMath(const ActivationParams&, const KernelEnv&);
Result CreateActivationOneDnn(const ActivationParams&, const KernelEnv&);
Result CreateActivationReference(const ActivationParams&, const KernelEnv&);

absl::Span<const Implementation<ActivationParams>> ActivationImplementations() {
  static constexpr Implementation<ActivationParams> kList[] = {
      {"table", CreateActivationTable},
      {"highway", CreateActivationMath},
      {"onednn", CreateActivationOneDnn},
      {"reference", CreateActivationReference}};
  return kList;
}

Result CreateActivation(const ActivationParams& params, const KernelEnv& env) {
  const absl::string_view name = NameOf(params.activation.kind);
  if (params.src.shape != params.dst.shape || !SameMemoryOrder(params.src, params.dst)) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", ShapeString(params.src.shape), " ", NameOf(params.src.layout),
                     " to ", ShapeString(params.dst.shape), " ", NameOf(params.dst.layout)));
  }
  for (const TensorSpec* spec : {&params.src, &params.dst}) {
    OCTET_RETURN_IF_ERROR(ValidateQuant(*spec));
    if (spec->quant && !spec->quant->per_tensor()) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": an operand has more than one scale"));
    }
  }
  return Select(ActivationImplementations(), params, env);
}

}  // namespace octet::kernels
