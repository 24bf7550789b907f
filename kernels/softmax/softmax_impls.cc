// The ordered list of Softmax.
#include "kernels/elements.h"
#include "kernels/softmax/softmax.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateSoftmaxOneDnn(const SoftmaxParams&, const KernelEnv&);
Result CreateSoftmaxReference(const SoftmaxParams&, const KernelEnv&);

absl::Span<const Implementation<SoftmaxParams>> SoftmaxImplementations() {
  static constexpr Implementation<SoftmaxParams> kList[] = {{"onednn", CreateSoftmaxOneDnn},
                                                            {"reference", CreateSoftmaxReference}};
  return kList;
}

Result CreateSoftmax(const SoftmaxParams& params, const KernelEnv& env) {
  const auto rank = static_cast<int>(params.src.shape.size());
  if (params.axis < 0 || params.axis >= rank) {
    return absl::InvalidArgumentError(
        absl::StrCat("softmax: axis ", params.axis, " of shape ", ShapeString(params.src.shape)));
  }
  if (params.src.shape != params.dst.shape || !SameMemoryOrder(params.src, params.dst)) {
    return absl::InvalidArgumentError(
        absl::StrCat("softmax: ", ShapeString(params.src.shape), " ", NameOf(params.src.layout),
                     " to ", ShapeString(params.dst.shape), " ", NameOf(params.dst.layout)));
  }
  for (const TensorSpec* spec : {&params.src, &params.dst}) {
    if (!IsFloat(spec->dtype) || spec->quant) {
      return absl::InvalidArgumentError(
          absl::StrCat("softmax: ", NameOf(spec->dtype), " is no plain float"));
    }
  }
  return Select(SoftmaxImplementations(), params, env);
}

}  // namespace octet::kernels
