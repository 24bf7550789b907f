// DFT and STFT: lines gathered into complex numbers, transformed, scattered.
#include "kernels/plain/dft.h"

#include <algorithm>
#include <vector>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/fft.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

using Complex = Fft::Complex;

// Work memory of one thread.
struct Line {
  std::vector<Complex> in, out, work;
  explicit Line(const Fft& fft)
      : in(static_cast<size_t>(fft.size())),
        out(in.size()),
        work(static_cast<size_t>(fft.work_elements())) {}
};

// `count` numbers from `from` on, `step` numbers apart, each of `parts` elements.
template <typename T>
void Load(const T* from, int64_t count, int64_t step, int64_t parts, std::vector<Complex>* in) {
  for (int64_t j = 0; j < count; ++j) {
    const T* x = from + j * step * parts;
    (*in)[static_cast<size_t>(j)] = {static_cast<double>(x[0]),
                                     parts == 2 ? static_cast<double>(x[1]) : 0.0};
  }
  std::fill(in->begin() + count, in->end(), Complex());
}

template <typename T>
void Store(const std::vector<Complex>& out, int64_t count, int64_t step, T* to) {
  for (int64_t k = 0; k < count; ++k) {
    to[k * step * 2] =
        static_cast<T>(static_cast<ComputeType<T>>(out[static_cast<size_t>(k)].real()));
    to[k * step * 2 + 1] =
        static_cast<T>(static_cast<ComputeType<T>>(out[static_cast<size_t>(k)].imag()));
  }
}

// The inverse by the forward transform: conjugate before and after, over the length.
void Invert(const Fft& fft, Line* line) {
  for (Complex& x : line->in) x = std::conj(x);
  fft.Transform(line->in.data(), line->out.data(), line->work.data());
  for (Complex& x : line->out) x = std::conj(x) / static_cast<double>(fft.size());
}

constexpr int64_t kMaxLength = int64_t{1} << 21;  // at most 400 MB of tables and work memory

absl::Status CheckLength(int64_t length) {
  if (length >= 1 && length <= kMaxLength) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("dft: length ", length, ", expected 1 to 2^21"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateDft(const DftParams& p, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckLength(p.length));
  OCTET_RETURN_IF_ERROR(WithFloat("dft", p.src.dtype, [](auto) { return absl::OkStatus(); }));
  const absl::Span<const int64_t> src = p.src.shape, dst = p.dst.shape;
  const auto axis = static_cast<size_t>(p.axis);
  bool fits = src.size() >= 2 && src.size() == dst.size() && p.axis >= 0 && axis + 1 < src.size() &&
              (src.back() == 1 || src.back() == 2) && dst.back() == 2 && dst[axis] <= p.length &&
              p.src.dtype == p.dst.dtype;
  for (size_t d = 0; fits && d + 1 < src.size(); ++d) fits = d == axis || src[d] == dst[d];
  if (!fits) {
    return absl::InvalidArgumentError(absl::StrCat("dft: ", ShapeString(src), " to ",
                                                   ShapeString(dst), " along ", p.axis,
                                                   " with length ", p.length));
  }
  const int64_t inner = NumElements(src.subspan(axis + 1, src.size() - axis - 2)),
                outer = NumElements(src.first(axis));
  auto fft = std::make_shared<const Fft>(p.length);
  return MakeCheckedKernel(
      "fft", 0,
      [=, from = src[axis], to = dst[axis],
       parts = src.back()](const BindArgs& args) -> absl::Status {
        return WithFloat("dft", p.src.dtype, [&](auto t) {
          using T = decltype(t);
          RunParallel(args.parallel, outer * inner, 2048 / p.length + 1,
                      [&](int64_t begin, int64_t end) {
                        Line line(*fft);
                        for (int64_t i = begin; i < end; ++i) {
                          const int64_t o = i / inner, at = i % inner;
                          Load(static_cast<const T*>(args.src[0]) + (o * from * inner + at) * parts,
                               std::min(from, p.length), inner, parts, &line.in);
                          if (p.direction == DftParams::Direction::kInverse) {
                            Invert(*fft, &line);
                          } else {
                            fft->Transform(line.in.data(), line.out.data(), line.work.data());
                          }
                          Store(line.out, to, inner,
                                static_cast<T*>(args.dst[0]) + (o * to * inner + at) * 2);
                        }
                      });
          return absl::OkStatus();
        });
      });
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateStft(const StftParams& p, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckLength(p.length));
  OCTET_RETURN_IF_ERROR(WithFloat("stft", p.signal.dtype, [](auto) { return absl::OkStatus(); }));
  const absl::Span<const int64_t> signal = p.signal.shape, dst = p.dst.shape;
  const int64_t parts = signal.size() == 3 ? signal[2] : 1;
  const bool fits = (signal.size() == 2 || signal.size() == 3) && (parts == 1 || parts == 2) &&
                    dst.size() == 4 && dst[0] == signal[0] && dst[2] <= p.length && dst[3] == 2 &&
                    p.step >= 1 && p.dst.dtype == p.signal.dtype &&
                    (dst[1] == 0 || (dst[1] - 1) <= (signal[1] - p.length) / p.step) &&
                    signal[1] >= p.length;
  if (!fits || (p.window.has_value() &&
                (p.window->shape != Shape{p.length} || p.window->dtype != p.signal.dtype))) {
    return absl::InvalidArgumentError(absl::StrCat("stft: ", ShapeString(signal), " to ",
                                                   ShapeString(dst), " in frames of ", p.length,
                                                   " every ", p.step));
  }
  auto fft = std::make_shared<const Fft>(p.length);
  return MakeCheckedKernel(
      "fft", 0,
      [=, frames = dst[1], bins = dst[2], batch = dst[0],
       samples = signal[1]](const BindArgs& args) -> absl::Status {
        return WithFloat("stft", p.signal.dtype, [&](auto t) {
          using T = decltype(t);
          const T* window = p.window.has_value() ? static_cast<const T*>(args.src[1]) : nullptr;
          RunParallel(args.parallel, batch * frames, 2048 / p.length + 1,
                      [&](int64_t begin, int64_t end) {
                        Line line(*fft);
                        for (int64_t i = begin; i < end; ++i) {
                          const int64_t at = i / frames * samples + i % frames * p.step;
                          Load(static_cast<const T*>(args.src[0]) + at * parts, p.length, 1, parts,
                               &line.in);
                          for (int64_t j = 0; window != nullptr && j < p.length; ++j) {
                            line.in[static_cast<size_t>(j)] *= static_cast<double>(window[j]);
                          }
                          fft->Transform(line.in.data(), line.out.data(), line.work.data());
                          Store(line.out, bins, 1, static_cast<T*>(args.dst[0]) + i * bins * 2);
                        }
                      });
          return absl::OkStatus();
        });
      });
}

}  // namespace octet::kernels
