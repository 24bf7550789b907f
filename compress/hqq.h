// Half-quadratic quantization: a scale or zero point that outliers pull less than they pull the squared error.
//
//   minimise sum |w - w'|^p, p = 0.7, by alternating, with beta growing by 1 % each round,
//     e = shrink(w - w', beta) = sign(r) max(|r| - |r|^(p-1) / beta, 0),   r = w - w'
//     scale = sum h q (w - e) / sum h q^2  (symmetric);   zero = mean_h(q - (w - e) / scale)  (affine)
//
// with residuals in units of the first scale, so that beta means the same for every layer.
// Source: Badri and Shaji, "Half-quadratic quantization of large machine learning models", 2023.
#ifndef OCTET_COMPRESS_HQQ_H_
#define OCTET_COMPRESS_HQQ_H_

#include "compress/level_table.h"

namespace octet::compress {

inline constexpr float kHqqNorm = 0.7f;

// sum h |(w - w') / unit|^0.7.
double RobustError(const LevelTable& table, const Segment& segment, const ScaleZero& s, float unit);

// Both start from `s` and return the parameters of smallest RobustError that were met; never worse than s.
ScaleZero HqqScale(const LevelTable& table, const Segment& segment, const ScaleZero& s);
ScaleZero HqqZero(const LevelTable& table, const Segment& segment, const ScaleZero& s);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_HQQ_H_
