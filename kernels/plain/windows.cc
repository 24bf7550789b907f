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

// Calls body(position index) for each element of the window at `at` that lies inside the source.
template <typename Body>
void ForWindow(const SlidingWindow& w, absl::Span<const int64_t> size, const Index& at,
               Body&& body) {
  Index inside(size.size());
  ForEachIndex(w.kernel, [&](const Index& k) {
    for (size_t d = 0; d < size.size(); ++d) {
      inside[d] = at[d] * w.strides[d] - w.pads_begin[d] + k[d] * w.dilations[d];
      if (inside[d] < 0 || inside[d] >= size[d]) return;
    }
    body(inside);
  });
}

// Planes and their sizes.
struct Planes {
  int64_t count, src, dst;
  Shape src_dims, dst_dims, src_strides;
};

Planes PlanesOf(const TensorSpec& src, const TensorSpec& dst) {
  const absl::Span<const int64_t> s = absl::MakeConstSpan(src.shape).subspan(2),
                                  d = absl::MakeConstSpan(dst.shape).subspan(2);
  return {src.shape[0] * src.shape[1], NumElements(s), NumElements(d), Shape(s.begin(), s.end()),
          Shape(d.begin(), d.end()),   StridesOf(s)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateLpPool(const LpPoolParams& p, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckPooling("lp pool", p.src, p.dst, p.window));
  OCTET_RETURN_IF_ERROR(WithFloat("lp pool", p.src.dtype, [](auto) { return absl::OkStatus(); }));
  if (p.p < 1)
    return absl::InvalidArgumentError(absl::StrCat("lp pool: p is ", p.p, ", expected at least 1"));
  const Planes planes = PlanesOf(p.src, p.dst);
  return MakeCheckedKernel("loops", 0, [=](const BindArgs& args) -> absl::Status {
    return WithFloat("lp pool", p.src.dtype, [&](auto t) {
      using T = decltype(t);
      const auto power = static_cast<double>(p.p);
      RunParallel(args.parallel, planes.count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t plane = begin; plane < end; ++plane) {
          const T* src = static_cast<const T*>(args.src[0]) + plane * planes.src;
          T* dst = static_cast<T*>(args.dst[0]) + plane * planes.dst;
          ForEachIndex(planes.dst_dims, [&](const Index& at) {
            double sum = 0;
            ForWindow(p.window, planes.src_dims, at, [&](const Index& i) {
              const double x = std::fabs(static_cast<double>(src[Offset(planes.src_strides, i)]));
              sum += p.p == 2 ? x * x : p.p == 1 ? x : std::pow(x, power);
            });
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
  const Planes planes = PlanesOf(p.src, p.dst);
  Shape places = planes.src_strides;  // what a spatial position adds to the place
  if (p.order == MaxPoolIndexParams::Order::kColumnMajor) {
    int64_t step = 1;
    for (size_t d = 0; d < places.size(); ++d) {
      places[d] = step;
      step *= planes.src_dims[d];
    }
  }
  return MakeCheckedKernel("loops", 0, [=](const BindArgs& args) -> absl::Status {
    return WithType("max pool", p.src.dtype, [&](auto t) {
      using T = decltype(t);
      RunParallel(args.parallel, planes.count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t plane = begin; plane < end; ++plane) {
          const T* src = static_cast<const T*>(args.src[0]) + plane * planes.src;
          T* dst = static_cast<T*>(args.dst[0]) + plane * planes.dst;
          int64_t* to = static_cast<int64_t*>(args.dst[1]) + plane * planes.dst;
          ForEachIndex(planes.dst_dims, [&](const Index& at) {
            T best{};
            int64_t place = -1;
            ForWindow(p.window, planes.src_dims, at, [&](const Index& i) {
              const T x = src[Offset(planes.src_strides, i)];
              if (place >= 0 && !(x > best)) return;
              best = x;
              place = plane * planes.src + Offset(places, i);
            });
            *dst++ = best;
            *to++ = place;
          });
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
            ForEachIndex(blocks, [&](const Index& b) {
              const T value = *src++;
              int64_t to = 0;
              for (size_t d = 0; d < b.size(); ++d) {
                const int64_t at = b[d] * p.window.strides[d] - p.window.pads_begin[d] +
                                   k[d] * p.window.dilations[d];
                if (at < 0 || at >= dims[d]) return;
                to += at * strides[d];
              }
              dst[to] =
                  static_cast<T>(static_cast<C>(static_cast<C>(dst[to]) + static_cast<C>(value)));
            });
          });
        }
      });
      return absl::OkStatus();
    });
  });
}

}  // namespace octet::kernels
