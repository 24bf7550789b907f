// Tuples of indices [..., K] that each name a slice of a tensor: what GatherND and ScatterND share.
// Internal to kernels/plain.
#ifndef OCTET_KERNELS_PLAIN_INDEX_TUPLES_H_
#define OCTET_KERNELS_PLAIN_INDEX_TUPLES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/kernel.h"

namespace octet::kernels {

// `count` tuples from `tuple` on whose slices lie one after the other from element `offset` on.
struct IndexRun {
  int64_t tuple = 0, offset = 0, count = 0;
};

// Immutable.
class IndexTuples {
 public:
  // The first batch_dims axes of `shape` and of the indices are walked together. Errors:
  // kInvalidArgument when shapes do not fit.
  static absl::StatusOr<IndexTuples> Create(std::string what, const Shape& shape,
                                            const TensorSpec& indices, int batch_dims);

  int64_t count() const { return count_; }
  int64_t slice_elements() const { return slice_; }

  // First element of tuple i's slice; -1 when an index is outside of its axis.
  int64_t OffsetOf(const void* indices, int64_t i) const;
  // Of a tuple for which OffsetOf is -1: kInvalidArgument naming index, element and bound.
  absl::Status Error(const void* indices, int64_t i) const;
  // All tuples, neighbours joined. Errors: as Error.
  absl::StatusOr<std::vector<IndexRun>> Runs(const void* indices) const;

 private:
  std::string what_;
  DType dtype_ = DType::kS64;
  Shape sizes_, strides_;  // of the axes that a tuple indexes
  int64_t count_ = 0, per_batch_ = 1, batch_stride_ = 0, slice_ = 1;
};

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_INDEX_TUPLES_H_
