// One head of attention as the fast implementations see it, and the loop over heads.
#ifndef OCTET_KERNELS_ATTENTION_ATTENTION_HEAD_H_
#define OCTET_KERNELS_ATTENTION_ATTENTION_HEAD_H_

#include <algorithm>
#include <utility>

#include "kernels/attention/attention.h"
#include "kernels/elements.h"

namespace octet::kernels {

constexpr int64_t kMaxPanel = 32;   // 32-bit elements: two vectors of 64 bytes
constexpr int64_t kMaxRows = 12;    // rows of a block

inline int64_t RoundUpTo(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

// A matrix in memory with its number format.
struct AttentionMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  float scale = 1;
  int32_t zero_point = 0;
  int64_t row = 0, column = 0;  // strides in elements
};

// Rows [begin, end) of one head.
struct AttentionHead {
  AttentionMatrix q, k, v, mask, y;  // mask.data may be null; y is written
  int64_t begin = 0, end = 0, keys = 0, depth = 0, values = 0;
  float scale = 1;
  const AttentionParams::Rounding* probabilities = nullptr;
  float* scratch = nullptr;  // of the thread
};

inline AttentionMatrix MatrixOf(const AttentionOperand& o, const void* data, int64_t b, int64_t h) {
  AttentionMatrix m;
  m.dtype = o.spec.dtype;
  const int64_t offset = b * o.strides[0] + h * o.strides[1];
  m.data = static_cast<const std::byte*>(data) + offset * BytesOf(o.spec.dtype);
  if (o.spec.quant.has_value()) {
    m.scale = o.spec.quant->scale[0];
    m.zero_point = o.spec.quant->zero_point_at(0);
  }
  m.row = o.strides[2];
  m.column = o.strides[3];
  return m;
}

inline AttentionHead HeadOf(const AttentionParams& p, const BindArgs& args, int64_t b, int64_t h) {
  AttentionHead head;
  head.q = MatrixOf(p.q, args.src[0], b, h);
  head.k = MatrixOf(p.k, args.src[1], b, h);
  head.v = MatrixOf(p.v, args.src[2], b, h);
  if (p.mask.has_value()) head.mask = MatrixOf(*p.mask, args.src[3], b, h);
  head.y = MatrixOf(p.y, args.dst[0], b, h);
  head.keys = p.keys;
  head.depth = p.depth;
  head.values = p.values;
  head.scale = p.scale;
  if (p.probabilities.has_value()) head.probabilities = &*p.probabilities;
  return head;
}

// A kernel that calls run(head) for every head, split over the team; `scratch_floats` per thread.
template <typename RunHeadFn>
std::unique_ptr<Kernel> MakeHeadsKernel(std::string name, const AttentionParams& p, int64_t scratch_floats, int threads,
                                        RunHeadFn run) {
  const int64_t slots = std::max(1, threads), heads = p.batch * p.heads;
  // Heads are split between threads; where there are too few, so are the queries of a head (each part packs anew).
  int64_t parts = 1;
  while (heads * parts % slots != 0 && heads * parts < 4 * slots && p.queries / (parts + 1) >= 4 * kMaxRows) ++parts;
  const int64_t stride = RoundUpTo(scratch_floats, 16);
  const int64_t units = heads * parts;
  return MakeFunctionKernel(
      std::move(name), slots * stride * int64_t{sizeof(float)}, [p, slots, parts, stride, units, run](const BindArgs& args) {
        auto* scratch = static_cast<float*>(args.scratch);
        const int64_t work = p.queries * p.keys * (p.depth + p.values) * p.batch * p.heads;
        const int64_t wanted = work < 50000 ? 1 : std::min(slots, units);
        // One piece per thread, so that a piece knows its scratch memory.
        RunParallel(args.parallel, wanted, 1, [&](int64_t begin, int64_t end) {
          for (int64_t s = begin; s < end; ++s) {
            for (int64_t u = units * s / wanted; u < units * (s + 1) / wanted; ++u) {
              AttentionHead head = HeadOf(p, args, u / parts / p.heads, u / parts % p.heads);
              head.begin = p.queries * (u % parts) / parts;
              head.end = p.queries * (u % parts + 1) / parts;
              head.scratch = scratch + s * stride;
              run(head);
            }
          }
        });
      });
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_ATTENTION_ATTENTION_HEAD_H_
