// The ordered list of Reduce.
#include "base/status.h"
#include "kernels/reduce/reduce_reference.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateReduceRows(const ReduceParams&, const KernelEnv&);
Result CreateReduceReference(const ReduceParams&, const KernelEnv&);

absl::Span<const Implementation<ReduceParams>> ReduceImplementations() {
  static constexpr Implementation<ReduceParams> kList[] = {{"rows", CreateReduceRows},
                                                           {"reference", CreateReduceReference}};
  return kList;
}

static absl::Status Validate(const ReduceParams& p) {
  Shape want = p.src.shape;
  const auto rank = static_cast<int>(want.size());
  int previous = -1;
  for (int axis : p.axes) {
    if (axis <= previous || axis >= rank) {
      return absl::InvalidArgumentError(absl::StrCat("reduce: axis ", axis, " of shape ",
                                                     ShapeString(p.src.shape), " (axes ascend)"));
    }
    previous = axis;
    want[static_cast<size_t>(axis)] = 1;
  }
  if (want != p.dst.shape) {
    return absl::InvalidArgumentError(
        absl::StrCat("reduce: result is ", ShapeString(want), ", not ", ShapeString(p.dst.shape)));
  }
  for (const TensorSpec* spec : {&p.src, &p.dst}) {
    OCTET_RETURN_IF_ERROR(ValidateQuant(*spec));
    if (spec->quant && !spec->quant->per_tensor()) {
      return absl::InvalidArgumentError("reduce: an operand has more than one scale");
    }
    if (!SameMemoryOrder(*spec, {spec->dtype, spec->shape, Layout::kPlain, std::nullopt})) {
      return absl::InvalidArgumentError(
          absl::StrCat("reduce: ", ShapeString(spec->shape), " is not plain"));
    }
  }
  if (!IsArg(p.kind)) return absl::OkStatus();
  if (p.axes.size() != 1 || p.dst.dtype != DType::kS64) {
    return absl::InvalidArgumentError(absl::StrCat("arg reduction: ", p.axes.size(),
                                                   " axes, result ", NameOf(p.dst.dtype),
                                                   "; wants one axis and s64"));
  }
  if (p.src.shape[static_cast<size_t>(p.axes[0])] == 0 && NumElements(p.dst.shape) > 0) {
    return absl::InvalidArgumentError(absl::StrCat("arg reduction: axis ", p.axes[0], " is empty"));
  }
  return absl::OkStatus();
}

Result CreateReduce(const ReduceParams& params, const KernelEnv& env) {
  if (absl::Status s = Validate(params); !s.ok()) return s;
  return Select(ReduceImplementations(), params, env);
}

}  // namespace octet::kernels
