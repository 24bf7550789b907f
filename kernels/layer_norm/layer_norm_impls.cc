// The ordered list of LayerNorm and the rules its parameters obey.
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/layer_norm/layer_norm.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateLayerNormRows(const LayerNormParams&, const KernelEnv&);
Result CreateLayerNormReference(const LayerNormParams&, const KernelEnv&);

absl::Span<const Implementation<LayerNormParams>> LayerNormImplementations() {
  static constexpr Implementation<LayerNormParams> kList[] = {
      {"rows", CreateLayerNormRows},
      {"reference", CreateLayerNormReference},
  };
  return kList;
}

Result CreateLayerNorm(const LayerNormParams& p, const KernelEnv& env) {
  const auto bad = [&](absl::string_view rule) {
    return absl::InvalidArgumentError(absl::StrCat("layer_norm of ", ShapeString(p.src.shape), " into ",
                                                   ShapeString(p.dst.shape), " with rows of ", p.row, ": ", rule));
  };
  if (p.src.shape != p.dst.shape || (p.copy && p.copy->shape != p.dst.shape)) return bad("shapes must agree");
  if (p.row < 0 || (p.row == 0 ? NumElements(p.src.shape) != 0 : NumElements(p.src.shape) % p.row != 0)) {
    return bad("rows must divide the elements");
  }
  if (p.copy && !IsQuantized8(*p.copy)) return bad("the copy must be quantized to 8 bits");
  for (const TensorSpec* spec : {&p.src, &p.dst}) {
    if (spec->layout != Layout::kPlain) return bad("operands must be plain");
    OCTET_RETURN_IF_ERROR(ValidateQuant(*spec));
    if (!IsPlainF32(*spec) && !IsQuantized8(*spec)) {
      return absl::UnimplementedError(absl::StrCat("layer_norm: operand of type ", NameOf(spec->dtype)));
    }
  }
  return Select(LayerNormImplementations(), p, env);
}

}  // namespace octet::kernels
