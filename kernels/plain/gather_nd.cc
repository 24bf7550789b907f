// GatherElements and GatherND: positions checked as they are used; constant tuples become runs of
// one copy each.
#include <cstring>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/movement/sized.h"
#include "kernels/plain/index_checks.h"
#include "kernels/plain/index_tuples.h"
#include "kernels/plain/indexing.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

absl::Status CheckElements(const GatherElementsParams& p) {
  OCTET_RETURN_IF_ERROR(CheckSized("gather elements", p.src.dtype));
  OCTET_RETURN_IF_ERROR(CheckIndexType("gather elements", p.indices.dtype));
  const size_t rank = p.src.shape.size();
  bool fits = p.indices.shape.size() == rank && p.dst.shape == p.indices.shape &&
              p.dst.dtype == p.src.dtype && p.axis >= 0 && p.axis < static_cast<int>(rank);
  for (size_t d = 0; fits && d < rank; ++d) {
    fits = d == static_cast<size_t>(p.axis) || p.indices.shape[d] <= p.src.shape[d];
  }
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("gather elements: indices of shape ",
                                                 ShapeString(p.indices.shape), " along axis ",
                                                 p.axis, " of ", ShapeString(p.src.shape)));
}

// Elements [begin, end) of dst.
template <typename T, typename I>
void GatherRange(const LoopNest& nest, int64_t axis_size, int64_t axis_stride, const BindArgs& args,
                 int64_t begin, int64_t end, FirstBad* bad) {
  const T* src = static_cast<const T*>(args.src[0]);
  const I* indices = static_cast<const I*>(args.src[1]);
  T* dst = static_cast<T*>(args.dst[0]);
  const int64_t step = nest.strides[0].back();
  int64_t at = begin;
  ForEachRun(nest, begin, end, [&](const int64_t* offset, int64_t count) {
    const T* from = src + *offset;
    for (int64_t i = 0; i < count; ++i, ++at) {
      const int64_t taken = ResolveIndex(indices[at], axis_size);
      if (taken < 0) {
        bad->Note(at);
        continue;
      }
      dst[at] = from[i * step + taken * axis_stride];
    }
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateGatherElements(const GatherElementsParams& p,
                                                             const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckElements(p));
  Shape strides = StridesOf(p.src.shape);
  const int64_t axis_stride = strides[static_cast<size_t>(p.axis)];
  const int64_t axis_size = p.src.shape[static_cast<size_t>(p.axis)];
  strides[static_cast<size_t>(p.axis)] = 0;
  const LoopNest nest = MergeLoops(p.dst.shape, {strides});
  const int64_t n = NumElements(p.dst.shape);
  return MakeCheckedKernel("elements", 0, [=](const BindArgs& args) -> absl::Status {
    FirstBad bad;
    WithSize(p.src.dtype, [&](auto t) {
      WithIndex(p.indices.dtype, [&](auto i) {
        RunParallel(args.parallel, n, kGrainBytes / 8, [&](int64_t begin, int64_t end) {
          GatherRange<decltype(t), decltype(i)>(nest, axis_size, axis_stride, args, begin, end,
                                                &bad);
        });
      });
    });
    if (bad.none()) return absl::OkStatus();
    return OutsideError("gather elements", LoadInteger(p.indices.dtype, args.src[1], bad.element()),
                        bad.element(), axis_size);
  });
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateGatherNd(const GatherNdParams& p, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckSized("gather", p.src.dtype));
  OCTET_ASSIGN_OR_RETURN(const IndexTuples tuples,
                         IndexTuples::Create("gather", p.src.shape, p.indices, p.batch_dims));
  const int64_t bytes = BytesOf(p.src.dtype);
  const int64_t slice = tuples.slice_elements() * bytes;
  if (NumElements(p.dst.shape) != tuples.count() * tuples.slice_elements() ||
      p.dst.dtype != p.src.dtype) {
    return absl::InvalidArgumentError(
        absl::StrCat("gather: result of shape ", ShapeString(p.dst.shape), " from ",
                     ShapeString(p.src.shape), " at ", ShapeString(p.indices.shape)));
  }
  if (p.constant_indices.valid()) {
    OCTET_ASSIGN_OR_RETURN(const std::vector<IndexRun> runs,
                           tuples.Runs(p.constant_indices.data()));
    return MakeFunctionKernel("runs", 0, [=](const BindArgs& args) {
      RunParallel(args.parallel, static_cast<int64_t>(runs.size()),
                  kGrainBytes / std::max<int64_t>(slice, 1) + 1, [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) {
                      const IndexRun& run = runs[static_cast<size_t>(i)];
                      std::memcpy(static_cast<std::byte*>(args.dst[0]) + run.tuple * slice,
                                  static_cast<const std::byte*>(args.src[0]) + run.offset * bytes,
                                  static_cast<size_t>(run.count * slice));
                    }
                  });
    });
  }
  return MakeCheckedKernel("slices", 0, [=](const BindArgs& args) -> absl::Status {
    FirstBad bad;
    RunParallel(args.parallel, tuples.count(), kGrainBytes / 2 / (slice + 8) + 1,
                [&](int64_t begin, int64_t end) {
                  for (int64_t i = begin; i < end; ++i) {
                    const int64_t offset = tuples.OffsetOf(args.src[1], i);
                    if (offset < 0) {
                      bad.Note(i);
                      continue;
                    }
                    if (slice == 0) continue;
                    std::memcpy(static_cast<std::byte*>(args.dst[0]) + i * slice,
                                static_cast<const std::byte*>(args.src[0]) + offset * bytes,
                                static_cast<size_t>(slice));
                  }
                });
    return bad.none() ? absl::OkStatus() : tuples.Error(args.src[1], bad.element());
  });
}

}  // namespace octet::kernels
