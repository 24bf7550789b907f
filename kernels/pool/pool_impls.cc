// The ordered list of Pool and the rules its parameters obey.
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/pool/pool.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreatePoolOneDnn(const PoolParams&, const KernelEnv&);
Result CreatePoolRows(const PoolParams&, const KernelEnv&);
Result CreatePoolReference(const PoolParams&, const KernelEnv&);

namespace {

absl::Status Validate(const PoolParams& p) {
  const size_t rank = p.src.shape.size();
  const auto bad = [&](absl::string_view rule) {
    return absl::InvalidArgumentError(absl::StrCat("pool of ", ShapeString(p.src.shape), " into ",
                                                   ShapeString(p.dst.shape), ": ", rule));
  };
  if (rank < 3 || rank > 5 || p.dst.shape.size() != rank) return bad("ranks must be equal, 3 to 5");
  if (p.dst.shape[0] != p.src.shape[0] || p.dst.shape[1] != p.src.shape[1])
    return bad("batch or channels differ");
  if (p.src.layout != p.dst.layout) return bad("layouts differ");
  for (const auto* list : {&p.kernel, &p.strides, &p.dilations, &p.pads_begin, &p.pads_end}) {
    if (list->size() != rank - 2)
      return bad("one kernel, stride, dilation and pad per spatial dimension");
  }
  for (size_t i = 0; i + 2 < rank; ++i) {
    if (p.kernel[i] < 1 || p.strides[i] < 1 || p.dilations[i] < 1 || p.pads_begin[i] < 0 ||
        p.pads_end[i] < 0) {
      return bad("kernel, stride and dilation start at 1, pads at 0");
    }
    const int64_t extent = (p.kernel[i] - 1) * p.dilations[i] + 1, size = p.src.shape[i + 2];
    const int64_t last =
        (p.dst.shape[i + 2] - 1) * p.strides[i] - p.pads_begin[i];  // where the last window starts
    if (extent <= p.pads_begin[i] || last >= size) {
      return bad(absl::StrCat("a window lies outside of spatial dimension ", i));
    }
  }
  for (const TensorSpec* spec : {&p.src, &p.dst}) {
    OCTET_RETURN_IF_ERROR(ValidateQuant(*spec));
    if (!IsPlainF32(*spec) && !IsQuantized8(*spec)) {
      return absl::UnimplementedError(absl::StrCat("pool of type ", NameOf(spec->dtype)));
    }
  }
  if (p.kind == PoolParams::Kind::kMax &&
      (p.src.dtype != p.dst.dtype || p.src.quant != p.dst.quant)) {
    return bad("maxima keep type and quantization");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Span<const Implementation<PoolParams>> PoolImplementations() {
  static constexpr Implementation<PoolParams> kList[] = {
      {"onednn", CreatePoolOneDnn},
      {"rows", CreatePoolRows},
      {"reference", CreatePoolReference},
  };
  return kList;
}

Result CreatePool(const PoolParams& params, const KernelEnv& env) {
  OCTET_RETURN_IF_ERROR(Validate(params));
  return Select(PoolImplementations(), params, env);
}

}  // namespace octet::kernels
