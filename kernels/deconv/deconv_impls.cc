// The ordered list of transposed convolutions, and the checks that all entries rely on.
#include "absl/strings/str_cat.h"
#include "kernels/deconv/deconv.h"
#include "kernels/elements.h"

namespace octet::kernels {
namespace {

absl::Status Bad(absl::string_view why) { return absl::InvalidArgumentError(absl::StrCat("deconv: ", why)); }

absl::Status Validate(const DeconvParams& p) {
  const size_t rank = p.src.shape.size();
  if (rank < 3 || rank > 5 || p.weights_shape.size() != rank || p.dst.shape.size() != rank) {
    return Bad(absl::StrCat("ranks of src ", ShapeString(p.src.shape), ", weights ", ShapeString(p.weights_shape),
                            " and dst ", ShapeString(p.dst.shape), " must be equal, 3 to 5"));
  }
  for (const auto* list : {&p.strides, &p.dilations, &p.pads_begin}) {
    if (list->size() != rank - 2) return Bad("strides, dilations and pads need one entry per spatial dimension");
  }
  if (p.groups < 1 || p.src.shape[1] != p.weights_shape[0] || p.weights_shape[0] % p.groups != 0 ||
      p.dst.shape[1] != p.weights_shape[1] * p.groups || p.dst.shape[0] != p.src.shape[0]) {
    return Bad(absl::StrCat("channels of src ", ShapeString(p.src.shape), ", weights ", ShapeString(p.weights_shape),
                            ", dst ", ShapeString(p.dst.shape), " do not fit ", p.groups, " groups"));
  }
  for (size_t i = 0; i + 2 < rank; ++i) {
    if (p.strides[i] < 1 || p.dilations[i] < 1) return Bad("strides and dilations start at 1");
  }
  if (!IsPlainF32(p.src) || (!IsPlainF32(p.dst) && !IsQuantized8(p.dst))) {
    return absl::UnimplementedError(
        absl::StrCat("deconv: ", NameOf(p.src.dtype), " into ", NameOf(p.dst.dtype), " is not computed"));
  }
  for (const PostOp& op : p.post_ops) {
    if (op.kind == PostOp::Kind::kAdd && (op.residual.shape != p.dst.shape || op.residual.layout != p.dst.layout ||
                                          BitsOf(op.residual.dtype) != BitsOf(p.dst.dtype))) {
      return Bad("a residual lies in dst's memory: shape, layout and element size must agree");
    }
  }
  return absl::OkStatus();
}

}  // namespace

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateDeconvOneDnn(const DeconvParams&, const KernelEnv&);
Result CreateDeconvReference(const DeconvParams&, const KernelEnv&);

absl::Span<const Implementation<DeconvParams>> DeconvImplementations() {
  static constexpr Implementation<DeconvParams> kList[] = {{"onednn", CreateDeconvOneDnn},
                                                           {"reference", CreateDeconvReference}};
  return kList;
}

Result CreateDeconv(const DeconvParams& params, const KernelEnv& env) {
  if (absl::Status status = Validate(params); !status.ok()) return status;
  for (const TensorSpec* spec : {&params.src, &params.dst}) {
    if (absl::Status status = ValidateQuant(*spec); !status.ok()) return status;
  }
  return Select(DeconvImplementations(), params, env);
}

}  // namespace octet::kernels
