// Gather: checks all indices, then copies slices. The indices come from outside, so a run can fail.
#include <cstring>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/movement/movement.h"
#include "kernels/movement/sized.h"

namespace octet::kernels {
namespace {

struct Plan {
  DType index_dtype;
  int64_t outer = 1, axis = 1, count = 1;  // dst is [outer, count, slice]
  int64_t slice_bytes = 1;

  absl::Status Check(const void* indices) const {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = LoadInteger(index_dtype, indices, i);
      if (at < -axis || at >= axis) {
        return absl::InvalidArgumentError(absl::StrCat("gather: index ", at, " (element ", i,
                                                       ") is outside [-", axis, ", ", axis, ")"));
      }
    }
    return absl::OkStatus();
  }

  void Copy(const std::byte* src, const void* indices, std::byte* dst, int64_t begin,
            int64_t end) const {
    for (int64_t i = begin; i < end; ++i) {
      int64_t at = LoadInteger(index_dtype, indices, i % count);
      if (at < 0) at += axis;
      std::memcpy(dst + i * slice_bytes, src + (i / count * axis + at) * slice_bytes,
                  static_cast<size_t>(slice_bytes));
    }
  }
};

class GatherKernel final : public Kernel {
 public:
  explicit GatherKernel(const Plan& plan) : Kernel("slices"), plan_(plan) {}

  absl::StatusOr<BoundKernel> Bind(const BindArgs& args) const override {
    return BoundKernel([plan = plan_, src = args.src[0], indices = args.src[1], dst = args.dst[0],
                        parallel = args.parallel]() -> absl::Status {
      const int64_t slices = plan.outer * plan.count;
      if (slices == 0) return absl::OkStatus();
      OCTET_RETURN_IF_ERROR(plan.Check(indices));
      if (plan.slice_bytes == 0) return absl::OkStatus();
      RunParallel(parallel, slices, kGrainBytes / plan.slice_bytes + 1,
                  [&](int64_t begin, int64_t end) {
                    plan.Copy(static_cast<const std::byte*>(src), indices,
                              static_cast<std::byte*>(dst), begin, end);
                  });
      return absl::OkStatus();
    });
  }

 private:
  Plan plan_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateGather(const GatherParams& params, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckSized("gather", params.src.dtype));
  const auto rank = static_cast<int>(params.src.shape.size());
  if (params.axis < 0 || params.axis >= rank) {
    return absl::InvalidArgumentError(
        absl::StrCat("gather: axis ", params.axis, " of shape ", ShapeString(params.src.shape)));
  }
  if (params.indices.dtype != DType::kS32 && params.indices.dtype != DType::kS64) {
    return absl::InvalidArgumentError(
        absl::StrCat("gather: indices are ", NameOf(params.indices.dtype), ", not s32 or s64"));
  }
  const auto axis = static_cast<size_t>(params.axis);
  Shape want(params.src.shape.begin(), params.src.shape.begin() + params.axis);
  want.insert(want.end(), params.indices.shape.begin(), params.indices.shape.end());
  want.insert(want.end(), params.src.shape.begin() + params.axis + 1, params.src.shape.end());
  if (want != params.dst.shape || params.src.dtype != params.dst.dtype) {
    return absl::InvalidArgumentError(absl::StrCat("gather: result is ", ShapeString(want),
                                                   ", not ", ShapeString(params.dst.shape)));
  }
  const absl::Span<const int64_t> src = params.src.shape;
  return std::make_unique<GatherKernel>(
      Plan{params.indices.dtype, NumElements(src.subspan(0, axis)), src[axis],
           NumElements(params.indices.shape),
           NumElements(src.subspan(axis + 1)) * BytesOf(params.src.dtype)});
}

}  // namespace octet::kernels
