// Sliding windows in plain loops over multi-indices; threads share out planes.
#include "kernels/plain/windows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/movement/sized.h"
#include "kernels/plain/index_checks.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

absl::Status CheckWindow(absl::string_view what, const SlidingWindow& w, size_t spatial) {
  bool fits = w.kernel.size() == spatial && w.strides.size() == spatial &&
              w.dilations.size() == spatial && w.pads_begin.size() == spatial;
  for (const auto* list : {&w.kernel, &w.strides, &w.dilations}) {
    fits = fits && std::all_of(list->begin(), list->end(), [](int64_t v) { return v >= 1; });
  }
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, ": a window of ", w.kernel.size(),
                                                 " dimensions with ", w.strides.size(),
                                                 " strides for ", spatial, " dimensions"));
}

absl::Status CheckPooling(absl::string_view what, const TensorSpec& src, const TensorSpec& dst,
                          const SlidingWindow& w) {
  const bool fits = src.shape.size() >= 3 && dst.shape.size() == src.shape.size() &&
                    src.shape[0] == dst.shape[0] && src.shape[1] == dst.shape[1] &&
                    src.dtype == dst.dtype;
  if (fits) return CheckWindow(what, w, src.shape.size() - 2);
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": ", ShapeString(src.shape), " to ", ShapeString(dst.shape)));
}

// Pooling of planes in up to three spatial dimensions; absent ones in front have size 1.
struct Pooling {
  struct Dim {
    int64_t src = 1, dst = 1, kernel = 1, stride = 1, dilation = 1, pad = 0;
    int64_t step = 0, place = 0;  // what one position adds to an offset and to a place
  };
  Dim dims[3];
  int64_t planes = 0, src_plane = 0, dst_plane = 0;

  // Window positions [first, second) of result `at` that lie inside the source along one dimension.
  static std::pair<int64_t, int64_t> Inside(const Dim& d, int64_t at) {
    const int64_t start = at * d.stride - d.pad, last = d.src - start;  // positions below `last`
    const int64_t begin = start >= 0 ? 0 : (-start + d.dilation - 1) / d.dilation;
    return {begin, last <= 0 ? 0 : std::min(d.kernel, (last + d.dilation - 1) / d.dilation)};
  }

  // For each result in order: begin(), element(offset, place) of its window inside the plane,
  // end().
  template <typename Begin, typename Element, typename End>
  void Plane(const Begin& begin, const Element& element, const End& end) const {
    const auto at = [](const Dim& d, int64_t o, int64_t k) {
      return o * d.stride - d.pad + k * d.dilation;
    };
    for (int64_t a = 0; a < dims[0].dst; ++a) {
      const auto [a0, a1] = Inside(dims[0], a);
      for (int64_t b = 0; b < dims[1].dst; ++b) {
        const auto [b0, b1] = Inside(dims[1], b);
        for (int64_t c = 0; c < dims[2].dst; ++c) {
          const auto [c0, c1] = Inside(dims[2], c);
          begin();
          for (int64_t i = a0; i < a1; ++i) {
            for (int64_t j = b0; j < b1; ++j) {
              const int64_t p = at(dims[0], a, i), q = at(dims[1], b, j);
              for (int64_t k = c0; k < c1; ++k) {
                const int64_t r = at(dims[2], c, k);
                element(p * dims[0].step + q * dims[1].step + r * dims[2].step,
                        p * dims[0].place + q * dims[1].place + r * dims[2].place);
              }
            }
          }
          end();
        }
      }
    }
  }
};

// Places count as offsets do. Errors: kUnimplemented above three spatial dimensions.
absl::StatusOr<Pooling> PlanPooling(const TensorSpec& src, const TensorSpec& dst,
                                    const SlidingWindow& w) {
  const size_t spatial = src.shape.size() - 2;
  if (spatial > 3) {
    return absl::UnimplementedError(absl::StrCat("pooling of ", spatial, " spatial dimensions"));
  }
  Pooling plan;
  const Shape strides = StridesOf(src.shape);
  for (size_t d = 0; d < spatial; ++d) {
    const int64_t step = strides[d + 2];
    plan.dims[3 - spatial + d] = {src.shape[d + 2], dst.shape[d + 2], w.kernel[d], w.strides[d],
                                  w.dilations[d],   w.pads_begin[d],  step,        step};
  }
  plan.planes = src.shape[0] * src.shape[1];
  plan.src_plane = NumElements(absl::MakeConstSpan(src.shape).subspan(2));
  plan.dst_plane = NumElements(absl::MakeConstSpan(dst.shape).subspan(2));
  return plan;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateLpPool(const LpPoolParams& p, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckPooling("lp pool", p.src, p.dst, p.window));
  OCTET_RETURN_IF_ERROR(WithFloat("lp pool", p.src.dtype, [](auto) { return absl::OkStatus(); }));
  if (p.p < 1) {
    return absl::InvalidArgumentError(absl::StrCat("lp pool: p is ", p.p, ", expected at least 1"));
  }
  OCTET_ASSIGN_OR_RETURN(const Pooling plan, PlanPooling(p.src, p.dst, p.window));
  return MakeCheckedKernel("loops", 0, [=](const BindArgs& args) -> absl::Status {
    return WithFloat("lp pool", p.src.dtype, [&](auto t) {
      using T = decltype(t);
      const auto power = static_cast<double>(p.p);
      RunParallel(args.parallel, plan.planes, 1, [&](int64_t begin, int64_t end) {
        for (int64_t plane = begin; plane < end; ++plane) {
          const T* src = static_cast<const T*>(args.src[0]) + plane * plan.src_plane;
          T* dst = static_cast<T*>(args.dst[0]) + plane * plan.dst_plane;
          double sum = 0;
          plan.Plane([&] { sum = 0; },
                     [&](int64_t offset, int64_t) {
                       const double x = std::fabs(static_cast<double>(src[offset]));
                       sum += p.p == 2 ? x * x : p.p == 1 ? x : std::pow(x, power);
                     },
                     [&] {
                       const double norm = p.p == 2   ? std::sqrt(sum)
                                           : p.p == 1 ? sum
                                                      : std::pow(sum, 1 / power);
                       *dst++ = static_cast<T>(static_cast<ComputeType<T>>(norm));
                     });
        }
      });
      return absl::OkStatus();
    });
  });
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateMaxPoolIndex(const MaxPoolIndexParams& p,
                                                           const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckPooling("max pool", p.src, p.dst, p.window));
  OCTET_RETURN_IF_ERROR(WithType("max pool", p.src.dtype, [](auto) { return absl::OkStatus(); }));
  OCTET_ASSIGN_OR_RETURN(Pooling plan, PlanPooling(p.src, p.dst, p.window));
  if (p.order == MaxPoolIndexParams::Order::kColumnMajor) {
    int64_t place = 1;
    for (Pooling::Dim& d : plan.dims) {
      d.place = place;
      place *= d.src;
    }
  }
  return MakeCheckedKernel("loops", 0, [=](const BindArgs& args) -> absl::Status {
    return WithType("max pool", p.src.dtype, [&](auto t) {
      using T = decltype(t);
      RunParallel(args.parallel, plan.planes, 1, [&](int64_t begin, int64_t end) {
        for (int64_t plane = begin; plane < end; ++plane) {
          const T* src = static_cast<const T*>(args.src[0]) + plane * plan.src_plane;
          T* dst = static_cast<T*>(args.dst[0]) + plane * plan.dst_plane;
          int64_t* places = static_cast<int64_t*>(args.dst[1]) + plane * plan.dst_plane;
          T best{};
          int64_t place = -1;
          plan.Plane([&] { best = T{}, place = -1; },
                     [&](int64_t offset, int64_t at) {
                       const T x = src[offset];
                       if (place >= 0 && !(x > best)) return;
                       best = x;
                       place = plane * plan.src_plane + at;
                     },
                     [&] { *dst++ = best, *places++ = place; });
        }
      });
      return absl::OkStatus();
    });
  });
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateMaxUnpool(const MaxUnpoolParams& p,
                                                        const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckSized("max unpool", p.src.dtype));
  bool fits = p.src.shape == p.places.shape && p.places.dtype == DType::kS64 &&
              p.src.dtype == p.dst.dtype && p.inferred.size() == p.dst.shape.size();
  for (size_t d = 0; fits && d < p.inferred.size(); ++d) fits = p.inferred[d] <= p.dst.shape[d];
  if (!fits) {
    return absl::InvalidArgumentError(absl::StrCat("max unpool: ", ShapeString(p.src.shape), " to ",
                                                   ShapeString(p.dst.shape), ", which must hold ",
                                                   ShapeString(p.inferred)));
  }
  const int64_t room = NumElements(p.inferred), n = NumElements(p.src.shape);
  const Shape strides = StridesOf(p.dst.shape);
  return MakeCheckedKernel("loop", 0, [=](const BindArgs& args) -> absl::Status {
    const auto* places = static_cast<const int64_t*>(args.src[1]);
    std::memset(args.dst[0], 0, static_cast<size_t>(p.dst.size_bytes()));
    for (int64_t i = 0; i < n; ++i) {
      int64_t place = places[i];
      if (place < 0 || place >= room) {
        return absl::InvalidArgumentError(absl::StrCat("max unpool: place ", place, " (element ", i,
                                                       ") is outside [0, ", room, ")"));
      }
      int64_t to = 0;
      for (size_t d = strides.size(); d-- > 0;) {
        to += place % p.inferred[d] * strides[d];
        place /= p.inferred[d];
      }
      CopyElement(p.src.dtype, args.src[0], i, args.dst[0], to);
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateCol2Im(const Col2ImParams& p, const KernelEnv&) {
  const size_t spatial = p.dst.shape.size() < 3 ? 0 : p.dst.shape.size() - 2;
  OCTET_RETURN_IF_ERROR(CheckWindow("col2im", p.window, spatial));
  OCTET_RETURN_IF_ERROR(WithType("col2im", p.src.dtype, [](auto) { return absl::OkStatus(); }));
  const SlidingWindow& w = p.window;
  Shape blocks;
  const int64_t volume = NumElements(w.kernel);
  for (size_t d = 0; d < spatial && p.pads_end.size() == spatial; ++d) {
    const int64_t room = p.dst.shape[d + 2] + w.pads_begin[d] + p.pads_end[d] -
                         (w.kernel[d] - 1) * w.dilations[d] - 1;
    blocks.push_back(room < 0 ? 0 : room / w.strides[d] + 1);
  }
  if (spatial == 0 || blocks.size() != spatial || p.src.dtype != p.dst.dtype ||
      p.src.shape != Shape{p.dst.shape[0], p.dst.shape[1] * volume, NumElements(blocks)}) {
    return absl::InvalidArgumentError(absl::StrCat("col2im: ", ShapeString(p.src.shape), " to ",
                                                   ShapeString(p.dst.shape), ", blocks ",
                                                   ShapeString(blocks), " of ", volume));
  }
  const Shape dims(p.dst.shape.begin() + 2, p.dst.shape.end()), strides = StridesOf(dims);
  const int64_t planes = p.dst.shape[0] * p.dst.shape[1], area = NumElements(dims),
                count = NumElements(blocks);
  const size_t last = spatial - 1;
  const Shape rows(blocks.begin(), blocks.end() - 1);
  return MakeCheckedKernel("loops", 0, [=](const BindArgs& args) -> absl::Status {
    return WithType("col2im", p.src.dtype, [&](auto t) {
      using T = decltype(t);
      using C = ComputeType<T>;
      RunParallel(args.parallel, planes, 1, [&](int64_t begin, int64_t end) {
        for (int64_t plane = begin; plane < end; ++plane) {
          const T* src = static_cast<const T*>(args.src[0]) + plane * volume * count;
          T* dst = static_cast<T*>(args.dst[0]) + plane * area;
          std::fill_n(dst, area, T{});
          ForEachIndex(p.window.kernel, [&](const Index& k) {
            ForEachIndex(rows, [&](const Index& b) {  // all block dimensions but the last
              int64_t to = 0;
              bool inside = true;
              for (size_t d = 0; d < b.size(); ++d) {
                const int64_t at = b[d] * p.window.strides[d] - p.window.pads_begin[d] +
                                   k[d] * p.window.dilations[d];
                inside = inside && at >= 0 && at < dims[d];
                to += at * strides[d];
              }
              int64_t at = k[last] * p.window.dilations[last] - p.window.pads_begin[last];
              for (int64_t i = 0; inside && i < blocks[last]; ++i, at += p.window.strides[last]) {
                if (at < 0 || at >= dims[last]) continue;
                T& cell = dst[to + at];
                cell =
                    static_cast<T>(static_cast<C>(static_cast<C>(cell) + static_cast<C>(src[i])));
              }
              src += blocks[last];
            });
          });
        }
      });
      return absl::OkStatus();
    });
  });
}

}  // namespace octet::kernels
