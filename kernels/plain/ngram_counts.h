// Counts of n-grams of integers in each row (TfIdfVectorizer).
//
//   dst[row, columns[g]] = weight of how often n-gram g occurs in src[row] with 0 to max_skip
//   elements skipped between its parts; TF: the count, IDF: weights[column] if it occurs, TFIDF:
//   the count times weights[column]
//
// Single elements (n = 1) are counted once, whatever the skips. src[0] is s32 or s64 [rows,
// length]; dst[0] f32 [rows, width]. Source: ONNX TfIdfVectorizer-9.
#ifndef OCTET_KERNELS_PLAIN_NGRAM_COUNTS_H_
#define OCTET_KERNELS_PLAIN_NGRAM_COUNTS_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

struct NgramParams {
  enum class Mode : uint8_t { kTf, kIdf, kTfIdf };
  TensorSpec src, dst;
  int64_t min_length = 1, max_length = 1, max_skip = 0;
  Mode mode = Mode::kTf;
  std::vector<int64_t> starts;   // starts[n - 1]: where in pool the n-grams of length n begin
  std::vector<int64_t> pool;     // all n-grams, one after the other
  std::vector<int64_t> columns;  // of each n-gram, in their order in pool
  // Per column of dst, as ONNX Runtime and ONNX's reference read them (the specification's text
  // says per n-gram, which is the same where columns are 0, 1, 2, ..); empty: 1.
  std::vector<float> weights;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateNgramCounts(const NgramParams& params,
                                                          const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_NGRAM_COUNTS_H_
