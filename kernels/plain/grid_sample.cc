// GridSample: the taps of a position once, then all channels; and AffineGrid.
#include "kernels/plain/grid_sample.h"

#include <algorithm>
#include <cmath>

#include "absl/container/inlined_vector.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

using Mode = GridSampleParams::Mode;
using Padding = GridSampleParams::Padding;

constexpr float kFar = 1e9f;  // beyond any axis, within int64_t

struct Tap {
  int64_t offset;
  float weight;
};
using Taps = absl::InlinedVector<Tap, 64>;

float Denormalize(float g, int64_t size, GridCorners corners) {
  const auto n = static_cast<float>(size);
  return corners == GridCorners::kAligned ? (g + 1) / 2 * (n - 1) : ((g + 1) * n - 1) / 2;
}

// x mirrored at low and high until it lies between them.
float Reflect(float x, float low, float high) {
  const float range = high - low;
  if (!(range > 0)) return low;
  const float distance = x < low ? low - x : x > high ? x - high : -1;
  if (distance < 0) return x;
  const float turns = std::trunc(distance / range), rest = distance - turns * range;
  const bool even = std::fmod(turns, 2.0f) == 0;
  return (x < low) == even ? low + rest : high - rest;
}

// Positions along one axis.
struct Axis {
  int64_t size = 0, stride = 0;
  float low = 0, high = 0;  // of reflection

  // Element for position i after padding; -1: zero.
  int64_t Inside(int64_t i, Padding padding) const {
    if (i >= 0 && i < size) return i;
    switch (padding) {
      case Padding::kZeros:
        return -1;
      case Padding::kBorder:
        return i < 0 ? 0 : size - 1;
      case Padding::kReflection:
        return std::clamp<int64_t>(static_cast<int64_t>(Reflect(static_cast<float>(i), low, high)),
                                   0, size - 1);
    }
    return -1;
  }
};

Axis AxisOf(int64_t size, int64_t stride, GridCorners corners) {
  const auto n = static_cast<float>(size);
  if (corners == GridCorners::kAligned) return {size, stride, 0, n - 1};
  return {size, stride, -0.5f, n - 0.5f};
}

// Position and weights along one axis; entries with offset -1 count as zeros.
void AxisTaps(const GridSampleParams& p, const Axis& axis, float g,
              absl::InlinedVector<Tap, 4>* taps) {
  float x = Denormalize(g, axis.size, p.corners);
  if (!(std::fabs(x) <= kFar)) x = x > 0 ? kFar : -kFar;
  if (p.mode == Mode::kNearest) x = std::nearbyint(x);
  if (x < axis.low || x > axis.high) {
    // Cubic taps are clamped one by one below, as PyTorch and ONNX Runtime have it: the position
    // itself stays outside.
    if (p.padding == Padding::kBorder && p.mode != Mode::kCubic) {
      x = std::clamp(x, 0.0f, static_cast<float>(axis.size - 1));
    }
    if (p.padding == Padding::kReflection) x = Reflect(x, axis.low, axis.high);
  }
  const auto add = [&](int64_t i, float weight) {
    const int64_t at = axis.Inside(i, p.padding);
    taps->push_back({at < 0 ? -1 : at * axis.stride, weight});
  };
  if (p.mode == Mode::kNearest) return add(static_cast<int64_t>(x), 1);
  const float floor = std::floor(x), t = x - floor;
  const auto base = static_cast<int64_t>(floor);
  if (p.mode == Mode::kLinear) {
    add(base, 1 - t);
    add(base + 1, t);
    return;
  }
  constexpr float a = -0.75f;
  const auto far = [](float u) { return ((a * u - 5 * a) * u + 8 * a) * u - 4 * a; };
  const auto near = [](float u) { return ((a + 2) * u - (a + 3)) * u * u + 1; };
  add(base - 1, far(t + 1));
  add(base, near(t));
  add(base + 1, near(1 - t));
  add(base + 2, far(2 - t));
}

// All source elements of one position with their weights. `g` names the innermost axis first.
template <typename T>
void PositionTaps(const GridSampleParams& p, const absl::InlinedVector<Axis, 3>& axes, const T* g,
                  Taps* taps) {
  taps->assign(1, Tap{0, 1});
  for (size_t d = 0; d < axes.size(); ++d) {
    absl::InlinedVector<Tap, 4> along;
    AxisTaps(p, axes[d], static_cast<float>(g[axes.size() - 1 - d]), &along);
    Taps next;
    for (const Tap& tap : *taps) {
      for (const Tap& by : along) {
        if (by.offset >= 0) next.push_back({tap.offset + by.offset, tap.weight * by.weight});
      }
    }
    *taps = std::move(next);
  }
}

absl::Status Check(const GridSampleParams& p) {
  const absl::Span<const int64_t> src = p.src.shape, grid = p.grid.shape, dst = p.dst.shape;
  const size_t rank = src.size();
  bool fits = rank >= 3 && rank <= 5 && grid.size() == rank && dst.size() == rank &&
              src[0] == grid[0] && dst[0] == src[0] && dst[1] == src[1] &&
              grid.back() == static_cast<int64_t>(rank) - 2 && p.src.dtype == p.dst.dtype &&
              p.src.dtype == p.grid.dtype;
  for (size_t d = 2; fits && d < rank; ++d) fits = dst[d] == grid[d - 1];
  if (fits && NumElements(dst) > 0) fits = NumElements(src) > 0;
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("grid sample: ", ShapeString(src), " at ",
                                                 ShapeString(grid), " to ", ShapeString(dst)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateGridSample(const GridSampleParams& p,
                                                         const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(Check(p));
  OCTET_RETURN_IF_ERROR(
      WithFloat("grid sample", p.src.dtype, [](auto) { return absl::OkStatus(); }));
  const absl::Span<const int64_t> src = p.src.shape;
  const Shape strides = StridesOf(src);
  absl::InlinedVector<Axis, 3> axes;
  for (size_t d = 2; d < src.size(); ++d) axes.push_back(AxisOf(src[d], strides[d], p.corners));
  const int64_t channels = src[1], plane = NumElements(src.subspan(2));
  const int64_t positions = NumElements(absl::MakeConstSpan(p.dst.shape).subspan(2)),
                batch = src[0];
  return MakeCheckedKernel("taps", 0, [=](const BindArgs& args) -> absl::Status {
    return WithFloat("grid sample", p.src.dtype, [&](auto t) {
      using T = decltype(t);
      const int64_t cost = (channels + 8) << axes.size();
      RunParallel(
          args.parallel, batch * positions, 8192 / cost + 1, [&](int64_t begin, int64_t end) {
            Taps taps;
            for (int64_t i = begin; i < end; ++i) {
              const int64_t n = i / positions;
              PositionTaps(
                  p, axes,
                  static_cast<const T*>(args.src[1]) + i * static_cast<int64_t>(axes.size()),
                  &taps);
              for (int64_t c = 0; c < channels; ++c) {
                const T* from = static_cast<const T*>(args.src[0]) + (n * channels + c) * plane;
                float sum = 0;
                for (const Tap& tap : taps)
                  sum += tap.weight * static_cast<float>(from[tap.offset]);
                static_cast<T*>(args.dst[0])[(n * channels + c) * positions + i % positions] =
                    static_cast<T>(sum);
              }
            }
          });
      return absl::OkStatus();
    });
  });
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateAffineGrid(const AffineGridParams& p,
                                                         const KernelEnv&) {
  const absl::Span<const int64_t> theta = p.theta.shape, dst = p.dst.shape;
  const auto r = static_cast<int64_t>(dst.size()) - 2;
  if (r < 2 || r > 3 || theta.size() != 3 || theta[0] != dst[0] || theta[1] != r ||
      theta[2] != r + 1 || dst.back() != r || p.theta.dtype != p.dst.dtype) {
    return absl::InvalidArgumentError(
        absl::StrCat("affine grid: ", ShapeString(theta), " to ", ShapeString(dst)));
  }
  OCTET_RETURN_IF_ERROR(
      WithFloat("affine grid", p.theta.dtype, [](auto) { return absl::OkStatus(); }));
  const int64_t positions = NumElements(dst.subspan(1, static_cast<size_t>(r)));
  return MakeCheckedKernel("loops", 0, [=](const BindArgs& args) -> absl::Status {
    return WithFloat("affine grid", p.theta.dtype, [&](auto t) {
      using T = decltype(t);
      RunParallel(args.parallel, p.dst.shape[0] * positions, 1024, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          double at[4] = {0, 0, 0, 0};  // innermost axis first, then 1
          int64_t rest = i % positions;
          for (int64_t d = 0; d < r; ++d) {
            const int64_t size = p.dst.shape[static_cast<size_t>(r - d)];
            const auto k = static_cast<double>(rest % size), n = static_cast<double>(size);
            rest /= size;
            at[d] = p.corners == GridCorners::kHalfPixel ? (2 * k + 1) / n - 1
                    : size > 1                           ? 2 * k / (n - 1) - 1
                                                         : 0;
          }
          at[r] = 1;
          const T* m = static_cast<const T*>(args.src[0]) + i / positions * r * (r + 1);
          for (int64_t row = 0; row < r; ++row) {
            double sum = 0;
            for (int64_t k = 0; k <= r; ++k)
              sum += static_cast<double>(m[row * (r + 1) + k]) * at[k];
            static_cast<T*>(args.dst[0])[i * r + row] =
                static_cast<T>(static_cast<ComputeType<T>>(sum));
          }
        }
      });
      return absl::OkStatus();
    });
  });
}

}  // namespace octet::kernels
