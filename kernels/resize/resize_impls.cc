// The ordered list of Resize.
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/resize/resize.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateResizeNearest(const ResizeParams&, const KernelEnv&);
Result CreateResizeSeparable(const ResizeParams&, const KernelEnv&);
Result CreateResizeReference(const ResizeParams&, const KernelEnv&);

absl::Span<const Implementation<ResizeParams>> ResizeImplementations() {
  static constexpr Implementation<ResizeParams> kList[] = {{"nearest", CreateResizeNearest},
                                                           {"separable", CreateResizeSeparable},
                                                           {"reference", CreateResizeReference}};
  return kList;
}

static absl::Status Validate(const ResizeParams& p) {
  const size_t rank = p.src.shape.size();
  if (p.dst.shape.size() != rank || p.scales.size() != rank) {
    return absl::InvalidArgumentError(absl::StrCat("resize: ", ShapeString(p.src.shape), " to ",
                                                   ShapeString(p.dst.shape), " with ",
                                                   p.scales.size(), " scales"));
  }
  for (float scale : p.scales) {
    if (!(scale > 0))
      return absl::InvalidArgumentError(absl::StrCat("resize: scale ", scale, " is not positive"));
  }
  if (NumElements(p.src.shape) == 0 && NumElements(p.dst.shape) > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("resize: nothing to sample in ", ShapeString(p.src.shape)));
  }
  if (p.coordinates == ResizeParams::Coordinates::kTfCropAndResize && p.roi.size() != 2 * rank) {
    return absl::InvalidArgumentError(
        absl::StrCat("resize: region has ", p.roi.size(), " bounds, not ", 2 * rank));
  }
  if (p.src.dtype != p.dst.dtype || p.src.layout != p.dst.layout || p.src.quant != p.dst.quant) {
    return absl::InvalidArgumentError("resize: type, layout or scale changes");
  }
  OCTET_RETURN_IF_ERROR(ValidateQuant(p.src));
  if (p.src.quant && !p.src.quant->per_tensor()) {
    return absl::InvalidArgumentError("resize: the source has more than one scale");
  }
  if (p.mode != ResizeParams::Mode::kNearest && !IsFloat(p.src.dtype) && !p.src.quant) {
    return absl::UnimplementedError(absl::StrCat("resize: interpolation of ", NameOf(p.src.dtype)));
  }
  return absl::OkStatus();
}

Result CreateResize(const ResizeParams& params, const KernelEnv& env) {
  if (absl::Status s = Validate(params); !s.ok()) return s;
  return Select(ResizeImplementations(), params, env);
}

}  // namespace octet::kernels
