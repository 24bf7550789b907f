// The IDX format of the MNIST family: big-endian dimensions, then bytes.
// Source: yann.lecun.com/exdb/mnist, "the IDX file format".
#ifndef OCTET_DATA_IDX_H_
#define OCTET_DATA_IDX_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/shape.h"
#include "data/byte_source.h"

namespace octet::data {

// The elements are unsigned bytes: NumElements(shape) of them from data_offset.
struct IdxHeader {
  Shape shape;
  int64_t data_offset = 0;
};

// True for the four bytes that start an IDX file, of whatever element type.
bool HasIdxMagic(absl::Span<const std::byte> head);

// Errors: kInvalidArgument (not IDX, elements other than unsigned bytes, bytes beyond the array),
// kDataLoss (cut off).
absl::StatusOr<IdxHeader> ReadIdxHeader(ByteSource& source);

}  // namespace octet::data

#endif  // OCTET_DATA_IDX_H_
