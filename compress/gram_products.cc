// oneDNN's f32 product.
#include "compress/gram_products.h"

#include "absl/strings/str_cat.h"
#include "oneapi/dnnl/dnnl.h"

namespace octet::compress {

absl::Status Multiply(const ProductShape& s, const float* a, const float* b, float* dst) {
  const char right = s.right == ProductShape::Right::kTransposed ? 'T' : 'N';
  const dnnl_status_t status =
      dnnl_sgemm('N', right, s.m, s.n, s.k, 1.0f, a, s.a_stride, b, s.b_stride, s.beta, dst, s.dst_stride);
  if (status == dnnl_success) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("product of ", s.m, " x ", s.k, " and ", s.k, " x ", s.n, ": oneDNN status ", static_cast<int>(status)));
}

}  // namespace octet::compress
