// Sliding windows that the pooling kernels do not have: power norms, maxima with their positions,
// and the reverse ways back (MaxUnpool, Col2Im).
//
//   LpPool        dst = (sum over the window of |x|^p)^(1/p); padding counts as 0
//   MaxPoolIndex  dst[0] = the largest element, dst[1] = where it is: its place in src counted over
//   all dimensions
//                 (kRowMajor) or with the spatial dimensions in reverse order (kColumnMajor); the
//                 first of equal ones
//   MaxUnpool     zeros but for src's elements at their places, which count over `inferred`; dst
//   may be larger: the
//                 elements then lie in its corner. A place outside of `inferred` fails the run.
//   Col2Im        dst[n, c, ..] = sum of src[n, (c, window position), block] over the blocks that
//   cover an element
//
// src and dst are [N, C, spatial..] (Col2Im: src [N, C x block, blocks]). LpPool: any float type,
// computed in f64. MaxPoolIndex and MaxUnpool: any type of 8 bits and more, quant unchanged.
// Col2Im: any type. Plain. Source: ONNX LpPool-22, GlobalLpPool-22, MaxPool-22, MaxUnpool-22,
// Col2Im-18.
#ifndef OCTET_KERNELS_PLAIN_WINDOWS_H_
#define OCTET_KERNELS_PLAIN_WINDOWS_H_

#include <memory>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

// One entry per spatial dimension.
struct SlidingWindow {
  std::vector<int64_t> kernel, strides, dilations, pads_begin;
};

struct LpPoolParams {
  TensorSpec src, dst;
  SlidingWindow window;
  int64_t p = 2;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateLpPool(const LpPoolParams& params,
                                                     const KernelEnv& env);

struct MaxPoolIndexParams {
  enum class Order : uint8_t { kRowMajor, kColumnMajor };
  TensorSpec src, dst;
  SlidingWindow window;
  Order order = Order::kRowMajor;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateMaxPoolIndex(const MaxPoolIndexParams& params,
                                                           const KernelEnv& env);

// src[0] = src, src[1] = places (s64), of one shape.
struct MaxUnpoolParams {
  TensorSpec src, places, dst;
  Shape inferred;  // each dimension at most dst's
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateMaxUnpool(const MaxUnpoolParams& params,
                                                        const KernelEnv& env);

struct Col2ImParams {
  TensorSpec src, dst;
  SlidingWindow window;
  std::vector<int64_t> pads_end;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateCol2Im(const Col2ImParams& params,
                                                     const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_WINDOWS_H_
