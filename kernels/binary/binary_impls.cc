// The ordered list of Binary.
#include "base/status.h"
#include "kernels/binary/binary_reference.h"

namespace octet::kernels {

using Result = absl::StatusOr<std::unique_ptr<Kernel>>;
Result CreateBinaryOneDnn(const BinaryParams&, const KernelEnv&);
Result CreateBinaryRows(const BinaryParams&, const KernelEnv&);
Result CreateBinaryReference(const BinaryParams&, const KernelEnv&);

absl::string_view NameOf(BinaryKind kind) {
  static constexpr absl::string_view kNames[] = {"add",           "sub",     "mul",
                                                 "div",           "pow",     "max",
                                                 "min",           "mod",     "fmod",
                                                 "prelu",         "equal",   "less",
                                                 "less_or_equal", "greater", "greater_or_equal",
                                                 "and",           "or",      "xor"};
  return kNames[static_cast<size_t>(kind)];
}

absl::Span<const Implementation<BinaryParams>> BinaryImplementations() {
  static constexpr Implementation<BinaryParams> kList[] = {{"onednn", CreateBinaryOneDnn},
                                                           {"rows", CreateBinaryRows},
                                                           {"reference", CreateBinaryReference}};
  return kList;
}

static absl::Status Validate(const BinaryParams& p) {
  const absl::string_view name = NameOf(p.kind);
  absl::StatusOr<Shape> shape = BroadcastShapes(p.a.shape, p.b.shape);
  if (!shape.ok()) return Annotate(shape.status(), name);
  if (*shape != p.dst.shape) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", ShapeString(p.a.shape), " and ",
                                                   ShapeString(p.b.shape), " do not give ",
                                                   ShapeString(p.dst.shape)));
  }
  for (const TensorSpec* spec : {&p.a, &p.b, &p.dst}) {
    OCTET_RETURN_IF_ERROR(ValidateQuant(*spec));
    if (spec->quant && !spec->quant->per_tensor()) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": an operand has more than one scale"));
    }
    const bool scalar = NumElements(spec->shape) == 1;
    if (!scalar && (spec->layout != p.dst.layout || (spec->layout == Layout::kChannelsLast &&
                                                     spec->shape.size() != p.dst.shape.size()))) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": operand ", ShapeString(spec->shape), " is ", NameOf(spec->layout),
                       ", the result ", ShapeString(p.dst.shape), " ", NameOf(p.dst.layout)));
    }
  }
  for (const PostOp& op : p.post_ops) {
    if (op.kind != PostOp::Kind::kActivation) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": a post-op that is no activation"));
    }
  }
  if (IsComparison(p.kind) && p.dst.dtype != DType::kBool) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": the result is bool, not ", NameOf(p.dst.dtype)));
  }
  return absl::OkStatus();
}

Result CreateBinary(const BinaryParams& params, const KernelEnv& env) {
  if (absl::Status s = Validate(params); !s.ok()) return s;
  return Select(BinaryImplementations(), params, env);
}

}  // namespace octet::kernels
