// What a bound recurrent layer reads and writes, by name; internal to kernels/rnn.
#ifndef OCTET_KERNELS_RNN_RNN_OPERANDS_H_
#define OCTET_KERNELS_RNN_RNN_OPERANDS_H_

#include "absl/strings/str_cat.h"
#include "kernels/rnn/rnn.h"

namespace octet::kernels {

// Addresses by role; nullptr where absent.
struct RnnOperands {
  const void* x = nullptr;
  const void* w = nullptr;
  const void* r = nullptr;
  const void* b = nullptr;
  const void* p = nullptr;
  const int32_t* lens = nullptr;
  const void* h0 = nullptr;
  const void* c0 = nullptr;
  void* y = nullptr;
  void* y_h = nullptr;
  void* y_c = nullptr;
};

inline RnnOperands OperandsOf(const RnnParams& p, const BindArgs& args) {
  RnnOperands o;
  size_t src = 0, dst = 0;
  const auto weight = [&](const RnnWeight& w) -> const void* {
    if (!w.spec) return nullptr;
    return p.has_constant_weights() ? w.constant.tensor.data() : args.src[src++];
  };
  o.x = args.src[src++];
  o.w = weight(p.weights);
  o.r = weight(p.recurrence);
  o.b = weight(p.bias);
  o.p = weight(p.peepholes);
  if (p.sequence_lens) o.lens = static_cast<const int32_t*>(args.src[src++]);
  if (p.initial_h) o.h0 = args.src[src++];
  if (p.initial_c) o.c0 = args.src[src++];
  if (p.y) o.y = args.dst[dst++];
  if (p.y_h) o.y_h = args.dst[dst++];
  if (p.y_c) o.y_c = args.dst[dst++];
  return o;
}

// Steps of row b.
inline int64_t LengthOf(const RnnParams& p, const RnnOperands& o, int64_t b) {
  return o.lens == nullptr ? p.time() : o.lens[b];
}

inline absl::Status CheckLengths(const RnnParams& p, const RnnOperands& o) {
  for (int64_t b = 0; o.lens != nullptr && b < p.batch(); ++b) {
    if (o.lens[b] >= 0 && o.lens[b] <= p.time()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("sequence_lens: element ", b, " is ", o.lens[b], ", expected 0 to ", p.time()));
  }
  return absl::OkStatus();
}

// Element offsets of (time, row, direction) vectors.
inline int64_t SrcRow(const RnnParams& p, int64_t t, int64_t b) {
  return (p.layout == RnnParams::Layout::kBatchFirst ? b * p.time() + t : t * p.batch() + b) * p.input();
}
inline int64_t OutputRow(const RnnParams& p, int64_t t, int64_t b, int64_t d) {
  return (p.layout == RnnParams::Layout::kBatchFirst ? (b * p.time() + t) * p.directions() + d
                                                     : (t * p.directions() + d) * p.batch() + b) *
         p.hidden();
}
inline int64_t StateRow(const RnnParams& p, int64_t b, int64_t d) {
  return (p.layout == RnnParams::Layout::kBatchFirst ? b * p.directions() + d : d * p.batch() + b) * p.hidden();
}

// Whether direction d walks from the end to the front.
inline bool IsReverse(const RnnParams& p, int64_t d) {
  return p.direction == RnnParams::Direction::kReverse || (p.direction == RnnParams::Direction::kBidirectional && d == 1);
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_RNN_RNN_OPERANDS_H_
