// RoiAlign and MaxRoiPool; threads share out the regions.
#include "kernels/plain/regions.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/index_checks.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

constexpr float kMaxSamples = 65536;    // of one bin
constexpr float kMaxCorner = 16777216;  // pixels; f32 holds every integer up to here

absl::Status CheckShapes(absl::string_view what, const TensorSpec& src, const TensorSpec& regions,
                         const TensorSpec& dst, int64_t columns) {
  const bool samples = NumElements(src.shape) > 0 || NumElements(dst.shape) == 0;
  if (samples && src.shape.size() == 4 && dst.shape.size() == 4 && dst.shape[1] == src.shape[1] &&
      regions.shape == Shape{dst.shape[0], columns} && src.dtype == dst.dtype &&
      src.dtype == regions.dtype) {
    return WithFloat(what, src.dtype, [](auto) { return absl::OkStatus(); });
  }
  return absl::InvalidArgumentError(absl::StrCat(what, ": ", ShapeString(src.shape), " in regions ",
                                                 ShapeString(regions.shape), " to ",
                                                 ShapeString(dst.shape)));
}

// One bilinear sample: four elements of a plane and their weights.
struct Sample {
  int64_t at[4] = {0, 0, 0, 0};
  float weight[4] = {0, 0, 0, 0};
};

Sample SampleAt(float y, float x, int64_t height, int64_t width) {
  Sample s;
  if (y < -1 || y > static_cast<float>(height) || x < -1 || x > static_cast<float>(width)) return s;
  y = std::max(y, 0.0f);
  x = std::max(x, 0.0f);
  int64_t y0 = static_cast<int64_t>(y), x0 = static_cast<int64_t>(x), y1 = y0 + 1, x1 = x0 + 1;
  if (y0 >= height - 1) {
    y0 = y1 = height - 1;
    y = static_cast<float>(y0);
  }
  if (x0 >= width - 1) {
    x0 = x1 = width - 1;
    x = static_cast<float>(x0);
  }
  const float ly = y - static_cast<float>(y0), lx = x - static_cast<float>(x0), hy = 1 - ly,
              hx = 1 - lx;
  return {{y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1},
          {hy * hx, hy * lx, ly * hx, ly * lx}};
}

// A region on the pixel grid.
struct Bins {
  float top = 0, left = 0, bin_height = 0, bin_width = 0;
  int64_t samples_y = 0, samples_x = 0;  // per bin
};

template <typename T>
absl::StatusOr<Bins> BinsOf(const RoiAlignParams& p, const T* region, int64_t number) {
  const bool half = p.coordinates == RoiAlignParams::Coordinates::kHalfPixel;
  float corner[4];
  for (int i = 0; i < 4; ++i) {
    corner[i] = static_cast<float>(region[i]) * p.scale - (half ? 0.5f : 0.0f);
    if (!(std::fabs(corner[i]) <= kMaxCorner)) {
      return absl::InvalidArgumentError(
          absl::StrCat("roi align: region ", number, " has a corner at ", corner[i]));
    }
  }
  float width = corner[2] - corner[0], height = corner[3] - corner[1];
  if (!half) {
    width = std::max(width, 1.0f);
    height = std::max(height, 1.0f);
  }
  Bins bins{corner[1],
            corner[0],
            height / static_cast<float>(p.dst.shape[2]),
            width / static_cast<float>(p.dst.shape[3]),
            p.sampling,
            p.sampling};
  if (p.sampling <= 0) {
    const float y = std::max(std::ceil(bins.bin_height), 0.0f),
                x = std::max(std::ceil(bins.bin_width), 0.0f);
    if (y * x > kMaxSamples) {
      return absl::InvalidArgumentError(absl::StrCat("roi align: region ", number, " of ", height,
                                                     " x ", width, " pixels has too many samples"));
    }
    bins.samples_y = static_cast<int64_t>(y);
    bins.samples_x = static_cast<int64_t>(x);
  }
  return bins;
}

// Appends the samples of one bin.
void BinSamples(const RoiAlignParams& p, const Bins& bins, int64_t row, int64_t column,
                std::vector<Sample>* samples) {
  for (int64_t iy = 0; iy < bins.samples_y; ++iy) {
    const float y =
        bins.top + static_cast<float>(row) * bins.bin_height +
        (static_cast<float>(iy) + 0.5f) * bins.bin_height / static_cast<float>(bins.samples_y);
    for (int64_t ix = 0; ix < bins.samples_x; ++ix) {
      const float x =
          bins.left + static_cast<float>(column) * bins.bin_width +
          (static_cast<float>(ix) + 0.5f) * bins.bin_width / static_cast<float>(bins.samples_x);
      samples->push_back(SampleAt(y, x, p.src.shape[2], p.src.shape[3]));
    }
  }
}

template <typename T>
float Pool(RoiAlignParams::Mode mode, absl::Span<const Sample> samples, const T* plane) {
  float out = 0;
  bool first = true;
  for (const Sample& s : samples) {
    float term[4];
    for (int i = 0; i < 4; ++i) term[i] = s.weight[i] * static_cast<float>(plane[s.at[i]]);
    if (mode == RoiAlignParams::Mode::kAverage) {
      out += term[0] + term[1] + term[2] + term[3];
    } else {
      const float largest = std::max(std::max(term[0], term[1]), std::max(term[2], term[3]));
      out = first ? largest : std::max(out, largest);
      first = false;
    }
  }
  if (mode == RoiAlignParams::Mode::kAverage && !samples.empty()) {
    out /= static_cast<float>(samples.size());
  }
  return out;
}

template <typename T>
absl::Status AlignRegion(const RoiAlignParams& p, const BindArgs& args, int64_t region) {
  OCTET_ASSIGN_OR_RETURN(
      const Bins bins,
      BinsOf(p, static_cast<const T*>(args.src[1]) + region * p.regions.shape[1], region));
  const int64_t channels = p.src.shape[1], plane = p.src.shape[2] * p.src.shape[3];
  const int64_t height = p.dst.shape[2], width = p.dst.shape[3];
  const T* image = static_cast<const T*>(args.src[0]) +
                   LoadInteger(p.images.dtype, args.src[2], region) * channels * plane;
  T* dst = static_cast<T*>(args.dst[0]) + region * channels * height * width;
  // The samples of as many bins as fit a cache, then all channels: a plane stays in the cache, too.
  const int64_t per_bin = bins.samples_y * bins.samples_x, area = height * width;
  const int64_t bins_at_once = std::clamp<int64_t>(1024 / std::max<int64_t>(per_bin, 1), 1, area);
  std::vector<Sample> samples;
  for (int64_t first = 0; first < area; first += bins_at_once) {
    const int64_t count = std::min(bins_at_once, area - first);
    samples.clear();
    for (int64_t bin = first; bin < first + count; ++bin) {
      BinSamples(p, bins, bin / width, bin % width, &samples);
    }
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t i = 0; i < count; ++i) {
        const auto own = absl::MakeConstSpan(samples).subspan(static_cast<size_t>(i * per_bin),
                                                              static_cast<size_t>(per_bin));
        dst[c * area + first + i] = static_cast<T>(Pool(p.mode, own, image + c * plane));
      }
    }
  }
  return absl::OkStatus();
}

// Pixels [begin, end) of bin `i` of `bins` that divide `size` pixels from `start` on, within [0,
// limit).
std::pair<int64_t, int64_t> BinRange(int64_t i, int64_t bins, int64_t start, int64_t size,
                                     int64_t limit) {
  const float step = static_cast<float>(size) / static_cast<float>(bins);
  const auto begin = static_cast<int64_t>(std::floor(static_cast<float>(i) * step)) + start;
  const auto end = static_cast<int64_t>(std::ceil(static_cast<float>(i + 1) * step)) + start;
  return {std::clamp<int64_t>(begin, 0, limit), std::clamp<int64_t>(end, 0, limit)};
}

template <typename T>
absl::Status PoolRegion(const MaxRoiPoolParams& p, const BindArgs& args, int64_t region) {
  const T* given = static_cast<const T*>(args.src[1]) + region * 5;
  int64_t corner[4];
  for (int i = 0; i < 4; ++i) {
    const float at = std::round(static_cast<float>(given[i + 1]) * p.scale);
    if (!(std::fabs(at) <= kMaxCorner)) {
      return absl::InvalidArgumentError(
          absl::StrCat("roi pool: region ", region, " has a corner at ", at));
    }
    corner[i] = static_cast<int64_t>(at);
  }
  const float image = static_cast<float>(given[0]);
  if (!(image >= 0 && image < static_cast<float>(p.src.shape[0]))) {
    return absl::InvalidArgumentError(absl::StrCat("roi pool: region ", region, " is of image ",
                                                   image, ", there are ", p.src.shape[0]));
  }
  const int64_t channels = p.src.shape[1], rows = p.src.shape[2], columns = p.src.shape[3];
  const int64_t height = p.dst.shape[2], width = p.dst.shape[3];
  const int64_t region_width = std::max<int64_t>(corner[2] - corner[0] + 1, 1);
  const int64_t region_height = std::max<int64_t>(corner[3] - corner[1] + 1, 1);
  for (int64_t c = 0; c < channels; ++c) {
    const T* plane = static_cast<const T*>(args.src[0]) +
                     (static_cast<int64_t>(image) * channels + c) * rows * columns;
    T* dst = static_cast<T*>(args.dst[0]) + (region * channels + c) * height * width;
    for (int64_t bin = 0; bin < height * width; ++bin) {
      const auto [y0, y1] = BinRange(bin / width, height, corner[1], region_height, rows);
      const auto [x0, x1] = BinRange(bin % width, width, corner[0], region_width, columns);
      T best = y0 < y1 && x0 < x1 ? plane[y0 * columns + x0] : T(0.0f);
      for (int64_t y = y0; y < y1; ++y) {
        for (int64_t x = x0; x < x1; ++x) {
          if (plane[y * columns + x] > best) best = plane[y * columns + x];
        }
      }
      dst[bin] = best;
    }
  }
  return absl::OkStatus();
}

// body for every region on the team; the error of the first region that has one.
absl::Status ForRegions(const BindArgs& args, int64_t regions,
                        absl::FunctionRef<absl::Status(int64_t)> body) {
  FirstBad bad;
  RunParallel(args.parallel, regions, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!body(i).ok()) bad.Note(i);
    }
  });
  return bad.none() ? absl::OkStatus() : body(bad.element());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateRoiAlign(const RoiAlignParams& p, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckShapes("roi align", p.src, p.regions, p.dst, 4));
  OCTET_RETURN_IF_ERROR(CheckIndexType("roi align", p.images.dtype));
  if (p.images.shape != Shape{p.dst.shape[0]} || p.sampling < 0 || p.sampling > 256) {
    return absl::InvalidArgumentError(absl::StrCat("roi align: image numbers of shape ",
                                                   ShapeString(p.images.shape), ", sampling ratio ",
                                                   p.sampling, ", expected 0 to 256"));
  }
  return MakeCheckedKernel("samples", 0, [p](const BindArgs& args) -> absl::Status {
    const int64_t images = p.src.shape[0], regions = p.dst.shape[0];
    for (int64_t i = 0; i < regions; ++i) {
      const int64_t image = LoadInteger(p.images.dtype, args.src[2], i);
      if (image < 0 || image >= images) {
        return absl::InvalidArgumentError(
            absl::StrCat("roi align: region ", i, " is of image ", image, ", there are ", images));
      }
    }
    if (NumElements(p.dst.shape) == 0) return absl::OkStatus();
    return WithFloat("roi align", p.src.dtype, [&](auto t) {
      return ForRegions(args, regions,
                        [&](int64_t i) { return AlignRegion<decltype(t)>(p, args, i); });
    });
  });
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateMaxRoiPool(const MaxRoiPoolParams& p,
                                                         const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckShapes("roi pool", p.src, p.regions, p.dst, 5));
  return MakeCheckedKernel("bins", 0, [p](const BindArgs& args) -> absl::Status {
    if (NumElements(p.dst.shape) == 0) return absl::OkStatus();
    return WithFloat("roi pool", p.src.dtype, [&](auto t) {
      return ForRegions(args, p.dst.shape[0],
                        [&](int64_t i) { return PoolRegion<decltype(t)>(p, args, i); });
    });
  });
}

}  // namespace octet::kernels
