// The ordered list of Pool, the check of its parameters, and its last resort.
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/pool/pool_lists.h"
#include "kernels/pool/pool_reference.h"

namespace octet::kernels {
namespace {

absl::Status Check(const PoolParams& p) {
  const size_t spatial = p.kernel.size();
  if (p.src.shape.size() != spatial + 2 || p.dst.shape.size() != spatial + 2 || p.strides.size() != spatial ||
      p.dilations.size() != spatial || p.pads_begin.size() != spatial || p.pads_end.size() != spatial) {
    return absl::InvalidArgumentError(absl::StrCat("pooling of rank ", spatial, " from ", ShapeString(p.src.shape), " to ",
                                                   ShapeString(p.dst.shape), ": ranks differ"));
  }
  if (p.src.shape[0] != p.dst.shape[0] || p.src.shape[1] != p.dst.shape[1]) {
    return absl::InvalidArgumentError(absl::StrCat("pooling from ", ShapeString(p.src.shape), " to ",
                                                   ShapeString(p.dst.shape), ": batch or channels differ"));
  }
  for (size_t d = 0; d < spatial; ++d) {
    if (p.kernel[d] < 1 || p.strides[d] < 1 || p.dilations[d] < 1 || p.pads_begin[d] < 0 || p.pads_end[d] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("kernel ", p.kernel[d], ", stride ", p.strides[d], ", dilation ", p.dilations[d],
                       ": expected positive, paddings not negative"));
    }
  }
  OCTET_RETURN_IF_ERROR(ValidateQuant(p.src));
  return ValidateQuant(p.dst);
}

constexpr Implementation<PoolParams> kList[] = {
    {"onednn", CreatePoolOneDnn}, {"average8", CreatePoolAverage8}, {"reference", CreatePoolReference}};

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreatePoolReference(const PoolParams& p, const KernelEnv&) {
  return MakeFunctionKernel("reference", 0,
                            [p](const BindArgs& args) { PoolReference(p, args.src[0], args.dst[0]); });
}

absl::Span<const Implementation<PoolParams>> PoolImplementations() { return kList; }

absl::StatusOr<std::unique_ptr<Kernel>> CreatePool(const PoolParams& params, const KernelEnv& env) {
  OCTET_RETURN_IF_ERROR(Check(params));
  return Select(PoolImplementations(), params, env);
}

}  // namespace octet::kernels
