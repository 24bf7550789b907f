// Single-threaded f32 matrix products whose results do not depend on how many threads share the work around them;
// internal to compress/.
#ifndef OCTET_COMPRESS_GRAM_PRODUCTS_H_
#define OCTET_COMPRESS_GRAM_PRODUCTS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "base/parallel_for.h"

namespace octet::compress {

// While it lives, products on this thread use one thread: oneDNN would split sums among a team.
class OneThreadScope {
 public:
  OneThreadScope() : before_(CurrentTeamSize()) { SetTeamSize(1); }
  ~OneThreadScope() { SetTeamSize(before_); }
  OneThreadScope(const OneThreadScope&) = delete;
  OneThreadScope& operator=(const OneThreadScope&) = delete;

 private:
  int before_;
};

// dst[m,n] = beta dst[m,n] + sum_k a[m,k] b[n,k]   (kTransposed)   or   ... b[k,n]   (kPlain)
// All row-major; leading dimensions in elements. Errors: kResourceExhausted when oneDNN finds no memory.
struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
  int64_t a_stride = 0, b_stride = 0, dst_stride = 0;
  enum class Right : uint8_t { kPlain, kTransposed } right = Right::kPlain;
  float beta = 0;
};
absl::Status Multiply(const ProductShape& shape, const float* a, const float* b, float* dst);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_GRAM_PRODUCTS_H_
