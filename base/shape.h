// Shapes and their arithmetic, checked against overflow: sizes come from hostile files and requests.
#ifndef OCTET_BASE_SHAPE_H_
#define OCTET_BASE_SHAPE_H_

#include <cstdint>
#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/dtype.h"

namespace octet {

// Dimensions in ONNX order (row-major, outermost first); rank 0 is a scalar. Concrete shapes hold values >= 0;
// symbolic shapes (graph values, signatures) use kUnknownDim where the size is free.
using Shape = absl::InlinedVector<int64_t, 6>;

inline constexpr int64_t kUnknownDim = -1;
inline constexpr int kMaxRank = 12;  // more is refused at import: oneDNN's limit

// Product of the dimensions. Errors: kInvalidArgument for a negative dimension or a product above 2^62.
absl::StatusOr<int64_t> CheckedNumElements(absl::Span<const int64_t> shape);

// Product of the dimensions of a validated shape.
int64_t NumElements(absl::Span<const int64_t> shape);

// Bytes of a dense tensor (4-bit types round up). Errors as CheckedNumElements.
absl::StatusOr<int64_t> CheckedByteSize(DType dtype, absl::Span<const int64_t> shape);
int64_t ByteSize(DType dtype, absl::Span<const int64_t> shape);

// True when no dimension is kUnknownDim.
bool IsConcrete(absl::Span<const int64_t> shape);

// Row-major strides in elements.
Shape StridesOf(absl::Span<const int64_t> shape);

// Multidirectional (numpy) broadcast; unknown dimensions stay unknown unless the other side decides them.
// Errors: kInvalidArgument naming both shapes.
absl::StatusOr<Shape> BroadcastShapes(absl::Span<const int64_t> a, absl::Span<const int64_t> b);

// "[1, 3, ?, 224]".
std::string ShapeString(absl::Span<const int64_t> shape);

}  // namespace octet

#endif  // OCTET_BASE_SHAPE_H_
