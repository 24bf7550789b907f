// The k largest or smallest elements along an axis, with their positions.
//
// Equal elements keep the order of their positions; a NaN counts as larger than every number (as
// numpy sorts it). With Order::kSorted results are sorted, best first; with kAny they come in some
// order. Elements of any type of 8 bits and more; stored integers with quant order as the reals
// they stand for. src[0]; dst[0] = values, dst[1] = positions (s64); either may be left out (a null
// pointer). All plain. Source: ONNX TopK-11.
#ifndef OCTET_KERNELS_PLAIN_TOP_K_H_
#define OCTET_KERNELS_PLAIN_TOP_K_H_

#include <memory>

#include "kernels/kernel.h"

namespace octet::kernels {

struct TopKParams {
  enum class Largest : uint8_t { kNo, kYes };
  enum class Order : uint8_t { kSorted, kAny };
  TensorSpec src;
  Shape dst_shape;  // src's with k along axis
  int axis = 0;
  Largest largest = Largest::kYes;
  Order order = Order::kSorted;
};
absl::StatusOr<std::unique_ptr<Kernel>> CreateTopK(const TopKParams& params, const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_TOP_K_H_
