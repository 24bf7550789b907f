// Tables of signal processing: window functions and the mel filter bank; and the kernel that writes
// a table.
//
// With N = size (periodic) or size - 1 (symmetric):
//   Hann      sin^2(pi n / N)
//   Hamming   25/46 - 21/46 cos(2 pi n / N)
//   Blackman  0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)
// Source: ONNX HannWindow-17, HammingWindow-17, BlackmanWindow-17, MelWeightMatrix-17.
#ifndef OCTET_KERNELS_PLAIN_SIGNAL_TABLES_H_
#define OCTET_KERNELS_PLAIN_SIGNAL_TABLES_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

enum class WindowKind : uint8_t { kHann, kHamming, kBlackman };
enum class WindowPeriod : uint8_t { kSymmetric, kPeriodic };
std::vector<double> WindowTable(WindowKind kind, WindowPeriod period, int64_t size);

// [dft_length / 2 + 1, mel_bins] row-major: triangles whose corners are equally spaced on the mel
// scale 2595 log10(1 + hertz / 700). Errors: kInvalidArgument when a corner lies outside of the
// spectrum.
struct MelParams {
  int64_t mel_bins = 0, dft_length = 0, sample_rate = 0;
  double lower_hertz = 0, upper_hertz = 0;
};
absl::StatusOr<std::vector<double>> MelTable(const MelParams& params);

// dst[0] = values, converted to its type.
absl::StatusOr<std::unique_ptr<Kernel>> CreateTable(const TensorSpec& dst,
                                                    std::vector<double> values);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_SIGNAL_TABLES_H_
