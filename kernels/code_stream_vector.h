// The decoding loops of code streams, compiled for every instruction set and chosen at run time (Highway). Internal.
#ifndef OCTET_KERNELS_CODE_STREAM_VECTOR_H_
#define OCTET_KERNELS_CODE_STREAM_VECTOR_H_

#include <cstdint>

#include "kernels/code_stream.h"

namespace octet::kernels {

// Decodes blocks [begin, end), their chunks `step` bytes apart from `out` on; without the tail.
using CodeStreamDecodeFn = void (*)(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end,
                                    int8_t* out, int64_t step);
CodeStreamDecodeFn ChooseCodeStreamDecode();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CODE_STREAM_VECTOR_H_
