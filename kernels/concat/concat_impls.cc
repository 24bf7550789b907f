// The ordered list of Concat.
#include "base/status.h"
#include "kernels/concat/concat.h"
#include "kernels/elements.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateConcatRuns(const ConcatParams&, const KernelEnv&);
Result CreateConcatReference(const ConcatParams&, const KernelEnv&);

absl::Span<const Implementation<ConcatParams>> ConcatImplementations() {
  static constexpr Implementation<ConcatParams> kList[] = {{"runs", CreateConcatRuns},
                                                           {"reference", CreateConcatReference}};
  return kList;
}

static absl::Status Validate(const ConcatParams& p) {
  const auto rank = static_cast<int>(p.dst.shape.size());
  if (p.axis < 0 || p.axis >= rank) {
    return absl::InvalidArgumentError(
        absl::StrCat("concat: axis ", p.axis, " of shape ", ShapeString(p.dst.shape)));
  }
  const auto axis = static_cast<size_t>(p.axis);
  OCTET_RETURN_IF_ERROR(ValidateQuant(p.dst));
  int64_t sum = 0;
  for (const TensorSpec& part : p.parts) {
    OCTET_RETURN_IF_ERROR(ValidateQuant(part));
    Shape want = p.dst.shape;
    if (part.shape.size() == want.size()) want[axis] = part.shape[axis];
    if (part.shape != want || part.dtype != p.dst.dtype || part.layout != p.dst.layout) {
      return absl::InvalidArgumentError(absl::StrCat(
          "concat: part ", NameOf(part.dtype), ShapeString(part.shape), " ", NameOf(part.layout),
          " for a result ", NameOf(p.dst.dtype), ShapeString(p.dst.shape), " ",
          NameOf(p.dst.layout), " along axis ", p.axis));
    }
    const auto many = [](const TensorSpec& s) { return s.quant && !s.quant->per_tensor(); };
    if (part.quant != p.dst.quant && (many(part) || many(p.dst))) {
      return absl::InvalidArgumentError("concat: a part with more than one scale changes its grid");
    }
    sum += part.shape[axis];
  }
  if (sum != p.dst.shape[axis]) {
    return absl::InvalidArgumentError(absl::StrCat("concat: parts have ", sum, " along axis ",
                                                   p.axis, ", the result ",
                                                   ShapeString(p.dst.shape)));
  }
  return absl::OkStatus();
}

Result CreateConcat(const ConcatParams& params, const KernelEnv& env) {
  if (absl::Status s = Validate(params); !s.ok()) return s;
  return Select(ConcatImplementations(), params, env);
}

}  // namespace octet::kernels
