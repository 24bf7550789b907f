// The ordered list of Attention and the rules its parameters obey.
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/attention/attention.h"
#include "kernels/elements.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateAttentionInt8(const AttentionParams&, const KernelEnv&);
Result CreateAttentionBlocks(const AttentionParams&, const KernelEnv&);
Result CreateAttentionReference(const AttentionParams&, const KernelEnv&);

namespace {

// The last element that the strides reach lies inside.
absl::Status CheckExtent(const AttentionParams& p, const AttentionOperand& o, int64_t rows, int64_t columns,
                         absl::string_view name) {
  int64_t last = 0;
  const int64_t extents[4] = {p.batch, p.heads, rows, columns};
  for (size_t d = 0; d < 4; ++d) {
    if (extents[d] == 0) return absl::OkStatus();
    if (o.strides[d] < 0 || extents[d] < 0) {
      return absl::InvalidArgumentError(absl::StrCat("attention: a negative extent or stride of ", name));
    }
    last += (extents[d] - 1) * o.strides[d];
  }
  if (last < NumElements(o.spec.shape)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("attention: the strides of ", name, " lead out of ", ShapeString(o.spec.shape)));
}

}  // namespace

absl::Span<const Implementation<AttentionParams>> AttentionImplementations() {
  static constexpr Implementation<AttentionParams> kList[] = {
      {"int8", CreateAttentionInt8},
      {"blocks", CreateAttentionBlocks},
      {"reference", CreateAttentionReference},
  };
  return kList;
}

Result CreateAttention(const AttentionParams& p, const KernelEnv& env) {
  OCTET_RETURN_IF_ERROR(CheckExtent(p, p.q, p.queries, p.depth, "q"));
  OCTET_RETURN_IF_ERROR(CheckExtent(p, p.k, p.keys, p.depth, "k"));
  OCTET_RETURN_IF_ERROR(CheckExtent(p, p.v, p.keys, p.values, "v"));
  OCTET_RETURN_IF_ERROR(CheckExtent(p, p.y, p.queries, p.values, "y"));
  if (p.mask.has_value()) {
    OCTET_RETURN_IF_ERROR(CheckExtent(p, *p.mask, p.queries, p.keys, "the mask"));
    if (!IsPlainF32(p.mask->spec)) return absl::UnimplementedError("attention: a mask that is not f32");
  }
  for (const AttentionOperand* o : {&p.q, &p.k, &p.v, &p.y}) {
    OCTET_RETURN_IF_ERROR(ValidateQuant(o->spec));
    if (!IsPlainF32(o->spec) && !IsQuantized8(o->spec)) {
      return absl::UnimplementedError(absl::StrCat("attention: operand of type ", NameOf(o->spec.dtype)));
    }
  }
  return Select(AttentionImplementations(), p, env);
}

}  // namespace octet::kernels
