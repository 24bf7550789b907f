// Scales of one row's groups as small multiples of one number, so that a kernel can apply them in integers.
//
//   scale[g] = m[g] * base,   m[g] in 1..floor(127 / largest |level|)
//
// base has so few significant bits, at most 6, that m * base has at most 11: scale is exact in f16 while base >= 2^-19
// and m * base <= 65504 (outside it stays such a multiple, exact in f32 only). m * level is exact in s8. Tables with
// levels near 127 (nf4, log4) leave m = 1, one scale per row; fitted tables are made with smaller levels for this form.
// Source: the progressive group quantization of Lin et al., "QServe", arXiv:2405.04532.
#ifndef OCTET_COMPRESS_SCALE_MULTIPLES_H_
#define OCTET_COMPRESS_SCALE_MULTIPLES_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/types/span.h"

namespace octet::compress {

// floor(127 / largest_level), at least 1.
int LargestMultiple(int largest_level);

enum class MultipleKind : uint8_t {
  kAny,
  kPowersOfTwo,  // base and m are powers of two
};

// Replaces the scales of a row's groups (0: a dead group, which gets m = 1) by multiples of one base: of a few bases
// from the largest scale / LargestMultiple downwards the one with the smallest sum of errors, each group with its
// best m near the ideal. error(g, scale): the squared error of group g. Dead rows keep their zeros. Returns the base, 0 of
// dead rows.
float MakeMultiples(int largest_level, MultipleKind kind, const std::function<double(size_t g, float scale)>& error,
                    absl::Span<float> scales);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_SCALE_MULTIPLES_H_
