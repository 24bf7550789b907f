// Strided copy: merged loops; runs by memcpy or fill, exchanged dimensions in tiles, the rest
// element by element.
#include <algorithm>
#include <cstring>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/movement/movement.h"
#include "kernels/movement/sized.h"

namespace octet::kernels {
namespace {

constexpr int64_t kTile =
    16;  // elements: 16 lines read and 16 lines written fit any first-level cache

// Copies whole runs of the merged innermost dimension.
template <typename T>
void CopyRuns(const LoopNest& nest, const T* src, T* dst, int64_t begin, int64_t end) {
  const int64_t step = nest.strides[0].back();
  dst += begin;
  ForEachRun(nest, begin, end, [&](const int64_t* offset, int64_t count) {
    const T* from = src + *offset;
    if (step == 1) {
      std::memcpy(dst, from, static_cast<size_t>(count) * sizeof(T));
    } else if (step == 0) {
      std::fill_n(dst, count, *from);
    } else {
      for (int64_t i = 0; i < count; ++i) dst[i] = from[i * step];
    }
    dst += count;
  });
}

// dst[r * dst_step + c] = src[r + c * src_step] for a tile of rows x columns.
template <typename T>
void TransposeTile(const T* src, int64_t src_step, T* dst, int64_t dst_step, int64_t rows,
                   int64_t columns) {
  if (rows == kTile && columns == kTile) {
    for (int64_t r = 0; r < kTile; ++r) {
      for (int64_t c = 0; c < kTile; ++c) dst[r * dst_step + c] = src[r + c * src_step];
    }
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) dst[r * dst_step + c] = src[r + c * src_step];
  }
}

// The source's contiguous dimension lies at `rows` of the nest, its innermost one strides: strips
// of kTile rows.
struct Exchange {
  LoopNest outer;  // all other dimensions: strides[0] of src, strides[1] of dst
  int64_t rows = 0, columns = 0, src_step = 0, dst_step = 0;

  int64_t strips_per_plane() const { return (rows + kTile - 1) / kTile; }
  int64_t strips() const { return NumElements(outer.dims) * strips_per_plane(); }

  template <typename T>
  void Run(const T* src, T* dst, int64_t begin, int64_t end) const {
    const int64_t per_plane = strips_per_plane();
    for (int64_t strip = begin; strip < end; ++strip) {
      const int64_t plane = strip / per_plane, row = strip % per_plane * kTile;
      ForEachRun(outer, plane, plane + 1, [&](const int64_t* offsets, int64_t) {
        const T* from = src + offsets[0] + row;
        T* to = dst + offsets[1] + row * dst_step;
        for (int64_t column = 0; column < columns; column += kTile) {
          TransposeTile(from + column * src_step, src_step, to + column, dst_step,
                        std::min(kTile, rows - row), std::min(kTile, columns - column));
        }
      });
    }
  }
};

// The dimension to exchange with the innermost one, or -1.
int ExchangedDimension(const LoopNest& nest) {
  const Shape& strides = nest.strides[0];
  if (nest.dims.size() < 2 || strides.back() == 0 || strides.back() == 1 || nest.dims.back() < 2)
    return -1;
  for (size_t d = 0; d + 1 < nest.dims.size(); ++d) {
    if (strides[d] == 1 && nest.dims[d] >= 4) return static_cast<int>(d);
  }
  return -1;
}

Exchange PlanExchange(const LoopNest& nest, size_t rows) {
  const size_t last = nest.dims.size() - 1;
  const Shape dst_strides = StridesOf(nest.dims);
  Exchange plan;
  plan.rows = nest.dims[rows];
  plan.columns = nest.dims[last];
  plan.src_step = nest.strides[0][last];
  plan.dst_step = dst_strides[rows];
  Shape dims, src, dst;
  for (size_t d = 0; d < last; ++d) {
    if (d == rows) continue;
    dims.push_back(nest.dims[d]);
    src.push_back(nest.strides[0][d]);
    dst.push_back(dst_strides[d]);
  }
  plan.outer = MergeLoops(dims, {src, dst});
  return plan;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateStridedCopy(const StridedCopyParams& params,
                                                          const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckSized("copy", params.dtype));
  if (params.dst_shape.size() != params.src_strides.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "copy: ", params.src_strides.size(), " strides for shape ", ShapeString(params.dst_shape)));
  }
  const int64_t n = NumElements(params.dst_shape);
  const int64_t bytes = BytesOf(params.dtype);
  LoopNest nest = MergeLoops(params.dst_shape, {params.src_strides});
  const int rows = n == 0 ? -1 : ExchangedDimension(nest);
  if (rows >= 0) {
    Exchange plan = PlanExchange(nest, static_cast<size_t>(rows));
    return MakeFunctionKernel("transpose", 0, [params, plan, bytes](const BindArgs& args) {
      WithSize(params.dtype, [&](auto t) {
        using T = decltype(t);
        const T* src = static_cast<const T*>(args.src[0]) + params.src_offset;
        RunParallel(args.parallel, plan.strips(), kGrainBytes / (kTile * plan.columns * bytes) + 1,
                    [&](int64_t begin, int64_t end) {
                      plan.Run(src, static_cast<T*>(args.dst[0]), begin, end);
                    });
      });
    });
  }
  const char* name = nest.dims.size() == 1 && nest.strides[0][0] == 1 ? "copy" : "strided";
  return MakeFunctionKernel(
      name, 0, [params, nest = std::move(nest), n, bytes](const BindArgs& args) {
        WithSize(params.dtype, [&](auto t) {
          using T = decltype(t);
          const T* src = static_cast<const T*>(args.src[0]) + params.src_offset;
          RunParallel(args.parallel, n, kGrainBytes / bytes, [&](int64_t begin, int64_t end) {
            CopyRuns(nest, src, static_cast<T*>(args.dst[0]), begin, end);
          });
        });
      });
}

}  // namespace octet::kernels
