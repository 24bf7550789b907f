// The ordered list of normalizations, and the checks that all entries rely on.
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/normalize/normalize.h"

namespace octet::kernels {
namespace {

absl::Status Bad(absl::string_view why) { return absl::InvalidArgumentError(absl::StrCat("normalize: ", why)); }

absl::Status CheckFactor(const NormalizeParams& p, const std::optional<TensorSpec>& factor, absl::string_view name) {
  if (!factor.has_value()) return absl::OkStatus();
  bool fits = IsFloat(factor->dtype) && !factor->quant && factor->shape.size() == p.src.shape.size() &&
              factor->layout == Layout::kPlain;
  for (size_t d = 0; fits && d < factor->shape.size(); ++d) {
    fits = factor->shape[d] == 1 || factor->shape[d] == p.src.shape[d];
  }
  if (fits) return absl::OkStatus();
  return Bad(absl::StrCat(name, " ", NameOf(factor->dtype), ShapeString(factor->shape), " does not broadcast to src ",
                          ShapeString(p.src.shape)));
}

absl::Status CheckMoment(const NormalizeParams& p, const std::optional<TensorSpec>& moment, absl::string_view name) {
  if (!moment.has_value()) return absl::OkStatus();
  Shape wanted = p.src.shape;
  for (int axis : p.axes) wanted[static_cast<size_t>(axis)] = 1;
  if (moment->shape != wanted || moment->dtype != DType::kF32 || moment->quant || moment->layout != Layout::kPlain) {
    return Bad(absl::StrCat(name, " ", NameOf(moment->dtype), ShapeString(moment->shape), ", expected f32 ",
                            ShapeString(wanted)));
  }
  if (p.kind != NormalizeKind::kDeviation && p.kind != NormalizeKind::kRms) {
    return Bad(absl::StrCat(name, " of a normalization that has none"));
  }
  return absl::OkStatus();
}

absl::Status Validate(const NormalizeParams& p) {
  if (p.src.shape != p.dst.shape || !SameMemoryOrder(p.src, p.dst)) {
    return Bad(absl::StrCat("src ", ShapeString(p.src.shape), " and dst ", ShapeString(p.dst.shape),
                            " must have one shape and layout"));
  }
  for (const TensorSpec* spec : {&p.src, &p.dst}) {
    if ((!IsFloat(spec->dtype) || spec->quant) && !IsQuantized8(*spec)) {
      return Bad(absl::StrCat(NameOf(spec->dtype), " does not stand for reals"));
    }
    OCTET_RETURN_IF_ERROR(ValidateQuant(*spec));
  }
  int last = -1;
  for (int axis : p.axes) {
    if (axis <= last || axis >= static_cast<int>(p.src.shape.size())) {
      return Bad(absl::StrCat("axis ", axis, " of src ", ShapeString(p.src.shape)));
    }
    last = axis;
  }
  OCTET_RETURN_IF_ERROR(CheckFactor(p, p.scale, "scale"));
  OCTET_RETURN_IF_ERROR(CheckFactor(p, p.shift, "shift"));
  OCTET_RETURN_IF_ERROR(CheckMoment(p, p.mean, "mean"));
  return CheckMoment(p, p.inverse_deviation, "inverse deviation");
}

}  // namespace

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateNormalizeRows(const NormalizeParams&, const KernelEnv&);
Result CreateNormalizeReference(const NormalizeParams&, const KernelEnv&);

absl::Span<const Implementation<NormalizeParams>> NormalizeImplementations() {
  static constexpr Implementation<NormalizeParams> kList[] = {{"rows", CreateNormalizeRows},
                                                              {"reference", CreateNormalizeReference}};
  return kList;
}

Result CreateNormalize(const NormalizeParams& params, const KernelEnv& env) {
  OCTET_RETURN_IF_ERROR(Validate(params));
  return Select(NormalizeImplementations(), params, env);
}

}  // namespace octet::kernels
