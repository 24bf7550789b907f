// Where: one merged loop nest over condition and both operands.
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/movement/movement.h"
#include "kernels/movement/sized.h"

namespace octet::kernels {
namespace {

template <typename T>
void Choose(const LoopNest& nest, const BindArgs& args, int64_t begin, int64_t end) {
  const auto* condition = static_cast<const uint8_t*>(args.src[0]);
  const T* a = static_cast<const T*>(args.src[1]);
  const T* b = static_cast<const T*>(args.src[2]);
  T* dst = static_cast<T*>(args.dst[0]) + begin;
  const int64_t step_c = nest.strides[0].back(), step_a = nest.strides[1].back(),
                step_b = nest.strides[2].back();
  ForEachRun(nest, begin, end, [&](const int64_t* offsets, int64_t count) {
    const uint8_t* c = condition + offsets[0];
    const T* x = a + offsets[1];
    const T* y = b + offsets[2];
    for (int64_t i = 0; i < count; ++i) dst[i] = c[i * step_c] != 0 ? x[i * step_a] : y[i * step_b];
    dst += count;
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateWhere(const WhereParams& params, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckSized("where", params.dst.dtype));
  if (params.condition.dtype != DType::kBool || params.a.dtype != params.dst.dtype ||
      params.b.dtype != params.dst.dtype) {
    return absl::InvalidArgumentError(absl::StrCat(
        "where: condition ", NameOf(params.condition.dtype), ", operands ", NameOf(params.a.dtype),
        " and ", NameOf(params.b.dtype), " for a result of ", NameOf(params.dst.dtype)));
  }
  OCTET_ASSIGN_OR_RETURN(Shape shape, BroadcastShapes(params.a.shape, params.b.shape));
  OCTET_ASSIGN_OR_RETURN(shape, BroadcastShapes(shape, params.condition.shape));
  if (shape != params.dst.shape) {
    return absl::InvalidArgumentError(absl::StrCat("where: result is ", ShapeString(shape),
                                                   ", not ", ShapeString(params.dst.shape)));
  }
  LoopNest nest = BroadcastNest({&params.condition, &params.a, &params.b}, params.dst);
  const int64_t n = NumElements(params.dst.shape);
  return MakeFunctionKernel(
      "loop", 0, [nest = std::move(nest), n, dtype = params.dst.dtype](const BindArgs& args) {
        WithSize(dtype, [&](auto t) {
          RunParallel(
              args.parallel, n, kGrainBytes / int64_t{sizeof(t)},
              [&](int64_t begin, int64_t end) { Choose<decltype(t)>(nest, args, begin, end); });
        });
      });
}

}  // namespace octet::kernels
