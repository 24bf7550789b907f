// Checked shape arithmetic.
#include "base/shape.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace octet {
namespace {
constexpr int64_t kMaxElements = int64_t{1} << 62;
}  // namespace

absl::StatusOr<int64_t> CheckedNumElements(absl::Span<const int64_t> shape) {
  int64_t product = 1;
  bool empty = false;
  for (int64_t dim : shape) {
    if (dim < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape ", ShapeString(shape), " has a negative or unknown dimension"));
    }
    if (dim == 0) {
      empty = true;
      continue;
    }
    if (product > kMaxElements / dim) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape ", ShapeString(shape), " has more than 2^62 elements"));
    }
    product *= dim;
  }
  return empty ? 0 : product;
}

int64_t NumElements(absl::Span<const int64_t> shape) {
  int64_t product = 1;
  for (int64_t dim : shape) product *= dim;
  return product;
}

absl::StatusOr<int64_t> CheckedByteSize(DType dtype, absl::Span<const int64_t> shape) {
  absl::StatusOr<int64_t> elements = CheckedNumElements(shape);
  if (!elements.ok()) return elements.status();
  if (*elements > kMaxElements / 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("shape ", ShapeString(shape), " is larger than 2^62 bits"));
  }
  return (*elements * BitsOf(dtype) + 7) / 8;
}

int64_t ByteSize(DType dtype, absl::Span<const int64_t> shape) {
  return (NumElements(shape) * BitsOf(dtype) + 7) / 8;
}

bool IsConcrete(absl::Span<const int64_t> shape) {
  return std::all_of(shape.begin(), shape.end(), [](int64_t d) { return d >= 0; });
}

Shape StridesOf(absl::Span<const int64_t> shape) {
  Shape strides(shape.size(), 1);
  for (int i = static_cast<int>(shape.size()) - 2; i >= 0; --i) {
    strides[i] = strides[i + 1] * shape[i + 1];
  }
  return strides;
}

absl::StatusOr<Shape> BroadcastShapes(absl::Span<const int64_t> a, absl::Span<const int64_t> b) {
  Shape out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t db = i < b.size() ? b[b.size() - 1 - i] : 1;
    int64_t& d = out[out.size() - 1 - i];
    if (da == db) {
      d = da;
    } else if (da == 1) {
      d = db;
    } else if (db == 1) {
      d = da;
    } else if (da == kUnknownDim) {
      d = db;
    } else if (db == kUnknownDim) {
      d = da;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("shapes ", ShapeString(a), " and ", ShapeString(b), " do not broadcast"));
    }
  }
  return out;
}

std::string ShapeString(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", ", [](std::string* out, int64_t d) {
    if (d == kUnknownDim) {
      out->append("?");
    } else {
      absl::StrAppend(out, d);
    }
  }), "]");
}

}  // namespace octet
