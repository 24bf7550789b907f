// Vector loops over contiguous elements, compiled for every instruction set and chosen at run time
// (Highway).
//
// Building blocks of our own kernels: each equals the scalar formula of kernels/elements.h bit by
// bit.
#ifndef OCTET_KERNELS_ROWS_H_
#define OCTET_KERNELS_ROWS_H_

#include <cstdint>

namespace octet::kernels {

// dst[i] = saturate(round_half_even(src[i] / scale) + zero_point); NaN gives the smallest value.
void QuantizeRow(const float* src, int64_t n, float scale, int32_t zero_point, uint8_t* dst);
void QuantizeRow(const float* src, int64_t n, float scale, int32_t zero_point, int8_t* dst);

// The same for three rows at once, interleaved: dst[3 i + c] from src[c * stride + i]. What an RGB image in planes is to
// become.
void QuantizeInterleave3(const float* src, int64_t stride, int64_t n, float scale,
                         int32_t zero_point, uint8_t* dst);
void QuantizeInterleave3(const float* src, int64_t stride, int64_t n, float scale,
                         int32_t zero_point, int8_t* dst);

// dst[i] = scale * (src[i] - zero_point)
void DequantizeRow(const uint8_t* src, int64_t n, float scale, int32_t zero_point, float* dst);
void DequantizeRow(const int8_t* src, int64_t n, float scale, int32_t zero_point, float* dst);

enum class RowOp : uint8_t { kAdd, kSub, kMul, kDiv, kMax, kMin, kPrelu /* a < 0 ? a * b : a */ };

// dst[i] = op(a[i], b[i]); dst may be a or b.
void BinaryRow(RowOp op, const float* a, const float* b, int64_t n, float* dst);

// dst[i] = min(max(src[i], low), high); dst may be src.
void ClampRow(const float* src, int64_t n, float low, float high, float* dst);

// Sum and extremes of n elements; lanes are added in an order that depends on the instruction set.
// n = 0 gives 0 or +-inf.
float SumRow(const float* src, int64_t n);
float SumSquaresRow(const float* src, int64_t n);
float MaxRow(const float* src, int64_t n);
float MinRow(const float* src, int64_t n);

// dst[i] += weight * src[i], rounded twice (no fused multiply-add, so that every instruction set
// agrees).
void AccumulateRow(const float* src, int64_t n, float weight, float* dst);

// dst[i] = table[src[i]]
void LookupRow(const uint8_t* src, int64_t n, const uint8_t* table, uint8_t* dst);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_ROWS_H_
