// ScatterElements and ScatterND: a copy of the data, then the updates in their order.
#include <algorithm>
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

using Reduction = ScatterReduction;

// NaN wins, as numpy's maximum and minimum have it.
template <typename T>
T Larger(T a, T b) {
  return a >= b || a != a ? a : b;
}
template <typename T>
T Smaller(T a, T b) {
  return a <= b || a != a ? a : b;
}

template <Reduction kReduction, typename T>
void Update(T* to, T update) {
  using C = ComputeType<T>;
  if constexpr (kReduction == Reduction::kNone) {
    *to = update;
  } else if constexpr (kReduction == Reduction::kAdd) {
    *to = static_cast<T>(static_cast<C>(*to) + static_cast<C>(update));
  } else if constexpr (kReduction == Reduction::kMul) {
    *to = static_cast<T>(static_cast<C>(*to) * static_cast<C>(update));
  } else if constexpr (kReduction == Reduction::kMax) {
    *to = static_cast<T>(Larger(static_cast<C>(*to), static_cast<C>(update)));
  } else {
    *to = static_cast<T>(Smaller(static_cast<C>(*to), static_cast<C>(update)));
  }
}

// Calls body.operator()<T, reduction>() with T of the size (kNone) or the type of dtype's elements.
template <typename Body>
absl::Status WithReduction(absl::string_view what, DType dtype, Reduction reduction, Body&& body) {
  if (reduction == Reduction::kNone) {
    WithSize(dtype, [&](auto t) { body.template operator()<decltype(t), Reduction::kNone>(); });
    return absl::OkStatus();
  }
  return WithType(what, dtype, [&](auto t) {
    using T = decltype(t);
    switch (reduction) {
      case Reduction::kAdd:
        body.template operator()<T, Reduction::kAdd>();
        break;
      case Reduction::kMul:
        body.template operator()<T, Reduction::kMul>();
        break;
      case Reduction::kMax:
        body.template operator()<T, Reduction::kMax>();
        break;
      default:
        body.template operator()<T, Reduction::kMin>();
    }
    return absl::OkStatus();
  });
}

void CopyData(const BindArgs& args, int64_t bytes) {
  RunParallel(args.parallel, bytes, kGrainBytes, [&](int64_t begin, int64_t end) {
    std::memcpy(static_cast<std::byte*>(args.dst[0]) + begin,
                static_cast<const std::byte*>(args.src[0]) + begin,
                static_cast<size_t>(end - begin));
  });
}

absl::Status CheckCommon(absl::string_view what, const TensorSpec& data, const TensorSpec& updates,
                         const TensorSpec& dst, Reduction reduction) {
  OCTET_RETURN_IF_ERROR(CheckSized(what, data.dtype));
  if (data.dtype != updates.dtype || data.dtype != dst.dtype || data.shape != dst.shape) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": data ", NameOf(data.dtype), ShapeString(data.shape), ", updates ",
        NameOf(updates.dtype), ", result ", NameOf(dst.dtype), ShapeString(dst.shape)));
  }
  if (data.quant.has_value() && (reduction == Reduction::kAdd || reduction == Reduction::kMul)) {
    return absl::UnimplementedError(absl::StrCat(what, ": sums and products of stored integers"));
  }
  return absl::OkStatus();
}

// Columns (all positions but the one along the axis) [begin, end) of one ScatterElements: those of
// different columns never meet, so threads share them out.
struct ElementsPlan {
  int64_t axis_size = 0, axis_stride = 0;  // of the data
  int64_t along = 0, along_stride = 0;     // of the indices
  LoopNest columns;                        // strides[0] of the data, strides[1] of the indices

  template <typename T, Reduction kReduction, typename I>
  void Run(const BindArgs& args, int64_t begin, int64_t end, FirstBad* bad) const {
    const I* indices = static_cast<const I*>(args.src[1]);
    const T* updates = static_cast<const T*>(args.src[2]);
    T* dst = static_cast<T*>(args.dst[0]);
    const int64_t data_step = columns.strides[0].back(), index_step = columns.strides[1].back();
    ForEachRun(columns, begin, end, [&](const int64_t* offsets, int64_t count) {
      for (int64_t j = 0; j < along; ++j) {
        for (int64_t i = 0; i < count; ++i) {
          const int64_t from = offsets[1] + i * index_step + j * along_stride;
          const int64_t at = ResolveIndex(indices[from], axis_size);
          if (at < 0) {
            bad->Note(from);
          } else {
            Update<kReduction>(dst + offsets[0] + i * data_step + at * axis_stride, updates[from]);
          }
        }
      }
    });
  }
};

absl::StatusOr<ElementsPlan> PlanElements(const ScatterElementsParams& p) {
  const size_t rank = p.data.shape.size();
  const auto axis = static_cast<size_t>(p.axis);
  bool fits = p.indices.shape.size() == rank && p.updates.shape == p.indices.shape && p.axis >= 0 &&
              axis < rank;
  for (size_t d = 0; fits && d < rank; ++d)
    fits = d == axis || p.indices.shape[d] <= p.data.shape[d];
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat("scatter elements: indices of shape ", ShapeString(p.indices.shape),
                     " and updates of shape ", ShapeString(p.updates.shape), " along axis ", p.axis,
                     " of ", ShapeString(p.data.shape)));
  }
  Shape data = StridesOf(p.data.shape), indices = StridesOf(p.indices.shape),
        dims = p.indices.shape;
  ElementsPlan plan{p.data.shape[axis], data[axis], dims[axis], indices[axis], {}};
  for (Shape* list : {&data, &indices, &dims}) list->erase(list->begin() + p.axis);
  plan.columns = MergeLoops(dims, {data, indices});
  return plan;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateScatterElements(const ScatterElementsParams& p,
                                                              const KernelEnv&) {
  constexpr char kWhat[] = "scatter elements";
  OCTET_RETURN_IF_ERROR(CheckCommon(kWhat, p.data, p.updates, p.dst, p.reduction));
  OCTET_RETURN_IF_ERROR(CheckIndexType(kWhat, p.indices.dtype));
  OCTET_ASSIGN_OR_RETURN(const ElementsPlan plan, PlanElements(p));
  const int64_t bytes = p.data.size_bytes();
  const int64_t columns = plan.along == 0 ? 0 : NumElements(p.indices.shape) / plan.along;
  return MakeCheckedKernel("elements", 0, [=](const BindArgs& args) -> absl::Status {
    CopyData(args, bytes);
    FirstBad bad;
    OCTET_RETURN_IF_ERROR(
        WithReduction(kWhat, p.data.dtype, p.reduction, [&]<typename T, Reduction kReduction>() {
          WithIndex(p.indices.dtype, [&](auto i) {
            RunParallel(args.parallel, columns,
                        kGrainBytes / 16 / std::max<int64_t>(plan.along, 1) + 1,
                        [&](int64_t begin, int64_t end) {
                          plan.Run<T, kReduction, decltype(i)>(args, begin, end, &bad);
                        });
          });
        }));
    if (bad.none()) return absl::OkStatus();
    return OutsideError(kWhat, LoadInteger(p.indices.dtype, args.src[1], bad.element()),
                        bad.element(), plan.axis_size);
  });
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateScatterNd(const ScatterNdParams& p,
                                                        const KernelEnv&) {
  constexpr char kWhat[] = "scatter";
  OCTET_RETURN_IF_ERROR(CheckCommon(kWhat, p.data, p.updates, p.dst, p.reduction));
  OCTET_ASSIGN_OR_RETURN(const IndexTuples tuples,
                         IndexTuples::Create(kWhat, p.data.shape, p.indices, 0));
  const int64_t slice = tuples.slice_elements();
  if (NumElements(p.updates.shape) != tuples.count() * slice) {
    return absl::InvalidArgumentError(
        absl::StrCat("scatter: updates of shape ", ShapeString(p.updates.shape), " at ",
                     ShapeString(p.indices.shape), " of ", ShapeString(p.data.shape)));
  }
  const int64_t bytes = p.data.size_bytes();
  if (p.constant_indices.valid()) {
    OCTET_ASSIGN_OR_RETURN(const std::vector<IndexRun> runs,
                           tuples.Runs(p.constant_indices.data()));
    return MakeCheckedKernel("runs", 0, [=](const BindArgs& args) -> absl::Status {
      CopyData(args, bytes);
      return WithReduction(
          kWhat, p.data.dtype, p.reduction, [&]<typename T, Reduction kReduction>() {
            for (const IndexRun& run : runs) {
              T* to = static_cast<T*>(args.dst[0]) + run.offset;
              const T* from = static_cast<const T*>(args.src[1]) + run.tuple * slice;
              for (int64_t i = 0; i < run.count * slice; ++i) Update<kReduction>(to + i, from[i]);
            }
          });
    });
  }
  return MakeCheckedKernel("slices", 0, [=](const BindArgs& args) -> absl::Status {
    CopyData(args, bytes);
    absl::Status outside;
    OCTET_RETURN_IF_ERROR(
        WithReduction(kWhat, p.data.dtype, p.reduction, [&]<typename T, Reduction kReduction>() {
          for (int64_t i = 0; i < tuples.count(); ++i) {
            const int64_t offset = tuples.OffsetOf(args.src[2], i);
            if (offset < 0) {
              outside = tuples.Error(args.src[2], i);
              return;
            }
            T* to = static_cast<T*>(args.dst[0]) + offset;
            const T* from = static_cast<const T*>(args.src[1]) + i * slice;
            for (int64_t j = 0; j < slice; ++j) Update<kReduction>(to + j, from[j]);
          }
        }));
    return outside;
  });
}

}  // namespace octet::kernels
