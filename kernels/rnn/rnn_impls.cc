// The ordered list of recurrent layers, and the checks that all entries rely on.
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/rnn/rnn.h"

namespace octet::kernels {
namespace {

absl::Status CheckShape(const std::optional<TensorSpec>& spec, absl::string_view name, const Shape& wanted, DType dtype) {
  if (!spec) return absl::OkStatus();
  if (spec->shape == wanted && spec->dtype == dtype && !spec->quant && spec->layout == Layout::kPlain) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("recurrent layer: ", name, " is ", NameOf(spec->dtype),
                                                 ShapeString(spec->shape), ", expected ", NameOf(dtype),
                                                 ShapeString(wanted)));
}

absl::Status Validate(const RnnParams& p) {
  const DType dtype = p.src.dtype;
  if (p.src.shape.size() != 3 || !IsFloat(dtype) || p.src.quant || p.src.layout != Layout::kPlain) {
    return absl::InvalidArgumentError(absl::StrCat("recurrent layer: src is ", NameOf(dtype), ShapeString(p.src.shape),
                                                   ", expected floats [time, batch, input]"));
  }
  if (!p.weights.spec || !p.recurrence.spec || p.recurrence.spec->shape.size() != 3) {
    return absl::InvalidArgumentError("recurrent layer: W or R is absent or not of rank 3");
  }
  const int64_t d = p.directions(), h = p.hidden(), gates = p.gates() * h, batch = p.batch();
  const bool first = p.layout == RnnParams::Layout::kBatchFirst;
  const Shape state = first ? Shape{batch, d, h} : Shape{d, batch, h};
  const Shape y = first ? Shape{batch, p.time(), d, h} : Shape{p.time(), d, batch, h};
  OCTET_RETURN_IF_ERROR(CheckShape(p.weights.spec, "W", {d, gates, p.input()}, dtype));
  OCTET_RETURN_IF_ERROR(CheckShape(p.recurrence.spec, "R", {d, gates, h}, dtype));
  OCTET_RETURN_IF_ERROR(CheckShape(p.bias.spec, "B", {d, 2 * gates}, dtype));
  OCTET_RETURN_IF_ERROR(CheckShape(p.peepholes.spec, "P", {d, 3 * h}, dtype));
  OCTET_RETURN_IF_ERROR(CheckShape(p.sequence_lens, "sequence_lens", {batch}, DType::kS32));
  OCTET_RETURN_IF_ERROR(CheckShape(p.initial_h, "initial_h", state, dtype));
  OCTET_RETURN_IF_ERROR(CheckShape(p.initial_c, "initial_c", state, dtype));
  OCTET_RETURN_IF_ERROR(CheckShape(p.y, "Y", y, dtype));
  OCTET_RETURN_IF_ERROR(CheckShape(p.y_h, "Y_h", state, dtype));
  OCTET_RETURN_IF_ERROR(CheckShape(p.y_c, "Y_c", state, dtype));
  for (const RnnWeight* w : {&p.recurrence, &p.bias, &p.peepholes}) {
    if (w->spec && w->constant.present() != p.has_constant_weights()) {
      return absl::InvalidArgumentError("recurrent layer: some weights are constants, others are not");
    }
  }
  if (static_cast<int64_t>(p.functions.size()) != d * p.functions_per_direction()) {
    return absl::InvalidArgumentError(absl::StrCat("recurrent layer: ", p.functions.size(), " functions, expected ",
                                                   d * p.functions_per_direction()));
  }
  if (p.cell != RnnParams::Cell::kLstm && (p.peepholes.spec || p.initial_c || p.y_c)) {
    return absl::InvalidArgumentError("recurrent layer: only an LSTM has peepholes and a cell state");
  }
  return absl::OkStatus();
}

}  // namespace

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateRnnPanels(const RnnParams&, const KernelEnv&);
Result CreateRnnReference(const RnnParams&, const KernelEnv&);

absl::Span<const Implementation<RnnParams>> RnnImplementations() {
  static constexpr Implementation<RnnParams> kList[] = {{"panels", CreateRnnPanels}, {"reference", CreateRnnReference}};
  return kList;
}

Result CreateRnn(const RnnParams& params, const KernelEnv& env) {
  OCTET_RETURN_IF_ERROR(Validate(params));
  return Select(RnnImplementations(), params, env);
}

}  // namespace octet::kernels
