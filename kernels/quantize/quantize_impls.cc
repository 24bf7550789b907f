// The ordered list of Convert.
#include "kernels/elements.h"
#include "kernels/quantize/quantize.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateConvertCopy(const ConvertParams&, const KernelEnv&);
Result CreateConvertRows(const ConvertParams&, const KernelEnv&);
Result CreateConvertTable(const ConvertParams&, const KernelEnv&);
Result CreateConvertTranspose(const ConvertParams&, const KernelEnv&);
Result CreateConvertTiles(const ConvertParams&, const KernelEnv&);
Result CreateConvertCast(const ConvertParams&, const KernelEnv&);
Result CreateConvertOneDnn(const ConvertParams&, const KernelEnv&);
Result CreateConvertReference(const ConvertParams&, const KernelEnv&);

absl::Span<const Implementation<ConvertParams>> ConvertImplementations() {
  static constexpr Implementation<ConvertParams> kList[] = {
      {"copy", CreateConvertCopy},           {"rows", CreateConvertRows},
      {"table", CreateConvertTable},         {"tiles", CreateConvertTiles},
      {"transpose", CreateConvertTranspose},
      {"cast", CreateConvertCast},           {"onednn", CreateConvertOneDnn},
      {"reference", CreateConvertReference},
  };
  return kList;
}

Result CreateConvert(const ConvertParams& params, const KernelEnv& env) {
  if (params.src.shape != params.dst.shape) {
    return absl::InvalidArgumentError(absl::StrCat("convert: shapes ",
                                                   ShapeString(params.src.shape), " and ",
                                                   ShapeString(params.dst.shape), " differ"));
  }
  for (const TensorSpec* spec : {&params.src, &params.dst}) {
    if (spec->dtype == DType::kInvalid) return absl::InvalidArgumentError("convert: no data type");
    if (absl::Status s = ValidateQuant(*spec); !s.ok()) return s;
  }
  return Select(ConvertImplementations(), params, env);
}

}  // namespace octet::kernels
