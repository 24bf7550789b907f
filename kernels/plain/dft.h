// Discrete Fourier transform along an axis, and of windowed frames of a signal.
//
//   DFT   dst[o, k, i] = sum over j < length of x[o, j, i] exp(-+ 2 pi i j k / length)   (inverse:
//   +, over length) STFT  dst[b, f, k] = sum over j < length of window[j] x[b, f * step + j] exp(-2
//   pi i j k / length)
//
// Numbers are real or complex (a last dimension of 1 or 2; dst always 2). What a source lacks up to
// `length` counts as 0. dst holds the first of the `length` results that its shape has room for
// (one-sided results). Any float type, computed in f64. DFT: src[0] = x. STFT: src[0] = signal,
// src[1] = window [length] where there is one. Plain. Source: ONNX DFT-20, STFT-17.
#ifndef OCTET_KERNELS_PLAIN_DFT_H_
#define OCTET_KERNELS_PLAIN_DFT_H_

#include <memory>
#include <optional>

#include "kernels/kernel.h"

namespace octet::kernels {

struct DftParams {
  enum class Direction : uint8_t { kForward, kInverse };
  TensorSpec src, dst;  // one shape but for `axis` and the last dimension
  int axis = 0;
  int64_t length = 0;
  Direction direction = Direction::kForward;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateDft(const DftParams& params, const KernelEnv& env);

struct StftParams {
  TensorSpec signal;                 // [batch, samples] or [batch, samples, 1 or 2]
  std::optional<TensorSpec> window;  // [length]
  TensorSpec dst;                    // [batch, frames, bins, 2]
  int64_t length = 0, step = 1;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateStft(const StftParams& params, const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_DFT_H_
