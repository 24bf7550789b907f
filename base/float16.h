// Conversions between f32 and the 16-bit floats, round to nearest even.
#ifndef OCTET_BASE_FLOAT16_H_
#define OCTET_BASE_FLOAT16_H_

#include <cstdint>

namespace octet {

// IEEE 754 binary16, given as its bits; subnormals, infinities and NaN included.
float F32FromF16(uint16_t bits);
uint16_t F16FromF32(float value);

// bfloat16: the upper half of an f32.
float F32FromBF16(uint16_t bits);
uint16_t BF16FromF32(float value);

}  // namespace octet

#endif  // OCTET_BASE_FLOAT16_H_
