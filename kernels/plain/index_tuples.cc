// Offsets of index tuples.
#include "kernels/plain/index_tuples.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/index_checks.h"

namespace octet::kernels {

absl::StatusOr<IndexTuples> IndexTuples::Create(std::string what, const Shape& shape,
                                                const TensorSpec& indices, int batch_dims) {
  OCTET_RETURN_IF_ERROR(CheckIndexType(what, indices.dtype));
  const absl::Span<const int64_t> all = shape, at = indices.shape;
  const auto batch = static_cast<size_t>(std::max(batch_dims, 0));
  const bool fits =
      !at.empty() && batch < at.size() && batch <= all.size() && at.back() >= 0 &&
      at.back() <= static_cast<int64_t>(all.size() - batch) &&
      std::equal(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(batch), at.begin());
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": index tuples of shape ", ShapeString(at), " for a tensor of shape ",
                     ShapeString(all), " with batch_dims ", batch_dims));
  }
  const auto k = static_cast<size_t>(at.back());
  IndexTuples tuples;
  tuples.what_ = std::move(what);
  tuples.dtype_ = indices.dtype;
  const Shape strides = StridesOf(shape);
  tuples.sizes_.assign(all.begin() + batch, all.begin() + batch + k);
  tuples.strides_.assign(strides.begin() + batch, strides.begin() + batch + k);
  tuples.count_ = NumElements(at.first(at.size() - 1));
  tuples.per_batch_ = std::max<int64_t>(NumElements(at.subspan(batch, at.size() - 1 - batch)), 1);
  tuples.batch_stride_ = NumElements(all.subspan(batch));
  tuples.slice_ = NumElements(all.subspan(batch + k));
  return tuples;
}

int64_t IndexTuples::OffsetOf(const void* indices, int64_t i) const {
  int64_t offset = i / per_batch_ * batch_stride_;
  const size_t k = sizes_.size();
  for (size_t d = 0; d < k; ++d) {
    const int64_t at = ResolveIndex(
        LoadInteger(dtype_, indices, i * static_cast<int64_t>(k) + static_cast<int64_t>(d)),
        sizes_[d]);
    if (at < 0) return -1;
    offset += at * strides_[d];
  }
  return offset;
}

absl::Status IndexTuples::Error(const void* indices, int64_t i) const {
  const auto k = static_cast<int64_t>(sizes_.size());
  for (int64_t d = 0; d < k; ++d) {
    const int64_t index = LoadInteger(dtype_, indices, i * k + d);
    const int64_t size = sizes_[static_cast<size_t>(d)];
    if (ResolveIndex(index, size) < 0) return OutsideError(what_, index, i * k + d, size);
  }
  return absl::InternalError(absl::StrCat(what_, ": tuple ", i, " is inside"));
}

absl::StatusOr<std::vector<IndexRun>> IndexTuples::Runs(const void* indices) const {
  std::vector<IndexRun> runs;
  if (slice_ == 0) {  // nothing moves, but the indices still have to be right
    for (int64_t i = 0; i < count_; ++i) {
      if (OffsetOf(indices, i) < 0) return Error(indices, i);
    }
    return runs;
  }
  for (int64_t i = 0; i < count_; ++i) {
    const int64_t offset = OffsetOf(indices, i);
    if (offset < 0) return Error(indices, i);
    if (!runs.empty() && offset == runs.back().offset + runs.back().count * slice_) {
      ++runs.back().count;
    } else {
      runs.push_back({i, offset, 1});
    }
  }
  return runs;
}

}  // namespace octet::kernels
