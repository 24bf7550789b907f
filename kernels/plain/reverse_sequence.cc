// ReverseSequence: one copy per batch entry and step.
#include "kernels/plain/reverse_sequence.h"

#include <cstring>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/movement/sized.h"
#include "kernels/plain/index_checks.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateReverseSequence(const ReverseSequenceParams& p,
                                                              const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckSized("reverse sequence", p.src.dtype));
  OCTET_RETURN_IF_ERROR(CheckIndexType("reverse sequence", p.lengths.dtype));
  const absl::Span<const int64_t> shape = p.src.shape;
  const size_t batch_axis = p.axes == ReverseSequenceParams::Axes::kBatchFirst ? 0 : 1;
  if (shape.size() < 2 || p.lengths.shape != Shape{shape[batch_axis]}) {
    return absl::InvalidArgumentError(absl::StrCat("reverse sequence: lengths of shape ",
                                                   ShapeString(p.lengths.shape), " for ",
                                                   ShapeString(shape)));
  }
  const int64_t batch = shape[batch_axis], time = shape[1 - batch_axis];
  const int64_t slice = NumElements(shape.subspan(2)) * BytesOf(p.src.dtype);
  const int64_t batch_step = (batch_axis == 0 ? time : 1) * slice,
                time_step = (batch_axis == 0 ? 1 : batch) * slice;
  return MakeCheckedKernel(
      "slices", 0, [=, dtype = p.lengths.dtype](const BindArgs& args) -> absl::Status {
        const auto* src = static_cast<const std::byte*>(args.src[0]);
        auto* dst = static_cast<std::byte*>(args.dst[0]);
        for (int64_t b = 0; b < batch; ++b) {
          const int64_t length = LoadInteger(dtype, args.src[1], b);
          if (length < 0 || length > time) {
            return absl::InvalidArgumentError(absl::StrCat("reverse sequence: length ", length,
                                                           " (element ", b, ") is outside [0, ",
                                                           time, "]"));
          }
        }
        if (slice == 0) return absl::OkStatus();
        RunParallel(
            args.parallel, batch * time, kGrainBytes / slice + 1, [&](int64_t begin, int64_t end) {
              for (int64_t i = begin; i < end; ++i) {
                const int64_t b = i / time, t = i % time,
                              length = LoadInteger(dtype, args.src[1], b);
                const int64_t from = t < length ? length - 1 - t : t;
                std::memcpy(dst + b * batch_step + t * time_step,
                            src + b * batch_step + from * time_step, static_cast<size_t>(slice));
              }
            });
        return absl::OkStatus();
      });
}

}  // namespace octet::kernels
