// The .npy header: versions 1 to 3, little-endian numeric types, C order.
// Source: numpy.lib.format (NEP 1).
#ifndef OCTET_DATA_NPY_H_
#define OCTET_DATA_NPY_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/tensor.h"
#include "data/byte_source.h"

namespace octet::data {

inline constexpr absl::string_view kNpyMagic("\x93NUMPY", 6);

// Where the elements lie: ByteSize(dtype, shape) bytes from data_offset.
struct NpyHeader {
  DType dtype = DType::kInvalid;
  Shape shape;
  int64_t data_offset = 0;
};

// Reads and checks a header, and the size of the content where it is known.
// Errors: kInvalidArgument (not .npy, a type we do not hold, Fortran order, bytes beyond the
// array), kDataLoss (cut off).
absl::StatusOr<NpyHeader> ReadNpyHeader(ByteSource& source);

// Elements [first, first + shape's count) of the array as a tensor of `shape`; bools become 0 or 1.
// Requires: the range lies within the array.
absl::StatusOr<Tensor> ReadNpyElements(ByteSource& source, const NpyHeader& header, int64_t first,
                                       Shape shape);

// A version 1.0 header for this type and shape, padded to 64 bytes. Requires: numpy has the type
// (f32, u8, ...).
std::string NpyHeaderBytes(DType dtype, const Shape& shape);

}  // namespace octet::data

#endif  // OCTET_DATA_NPY_H_
