// Reverses the first lengths[b] steps of each sequence of a batch and copies the rest.
//
//   dst[b, t, ..] = src[b, t < lengths[b] ? lengths[b] - 1 - t : t, ..]    (and with b and t
//   exchanged)
//
// src[0] = src, src[1] = lengths [batch] (s32 or s64); a length below 0 or above the time axis
// fails the run. Elements of any type of 8 bits and more. Plain. Source: ONNX ReverseSequence-10.
#ifndef OCTET_KERNELS_PLAIN_REVERSE_SEQUENCE_H_
#define OCTET_KERNELS_PLAIN_REVERSE_SEQUENCE_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct ReverseSequenceParams {
  enum class Axes : uint8_t { kTimeFirst, kBatchFirst };
  TensorSpec src, lengths;
  Axes axes = Axes::kTimeFirst;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateReverseSequence(const ReverseSequenceParams& params,
                                                              const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_REVERSE_SEQUENCE_H_
