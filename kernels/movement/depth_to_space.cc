// Space <-> depth as a transposition of six dimensions.
#include <array>

#include "kernels/movement/movement.h"

namespace octet::kernels {

absl::StatusOr<std::unique_ptr<Kernel>> CreateDepthToSpace(const DepthToSpaceParams& params,
                                                           const KernelEnv& env) {
  using Mode = DepthToSpaceParams::Mode;
  const bool to_depth = params.mode == Mode::kSpaceToDepth;
  const Shape& wide = to_depth ? params.src.shape : params.dst.shape;
  const Shape& deep = to_depth ? params.dst.shape : params.src.shape;
  const int64_t b = params.block;
  if (wide.size() != 4 || deep.size() != 4 || b < 1 || params.src.dtype != params.dst.dtype ||
      deep[0] != wide[0] || deep[1] != wide[1] * b * b || wide[2] != deep[2] * b ||
      wide[3] != deep[3] * b) {
    return absl::InvalidArgumentError(
        absl::StrCat("depth to space: ", ShapeString(params.src.shape), " to ",
                     ShapeString(params.dst.shape), " with blocks of ", b));
  }
  // The source seen with six dimensions, and which of them each dimension of the destination is.
  const int64_t n = wide[0], c = wide[1], h = deep[2], w = deep[3];
  Shape split;
  std::array<size_t, 6> order;
  switch (params.mode) {
    case Mode::kDcr:
      split = {n, b, b, c, h, w};
      order = {0, 3, 4, 1, 5, 2};
      break;
    case Mode::kCrd:
      split = {n, c, b, b, h, w};
      order = {0, 1, 4, 2, 5, 3};
      break;
    case Mode::kSpaceToDepth:
      split = {n, c, h, b, w, b};
      order = {0, 3, 5, 1, 2, 4};
      break;
  }
  const Shape strides = StridesOf(split);
  StridedCopyParams copy;
  copy.dtype = params.src.dtype;
  for (size_t d : order) {
    copy.dst_shape.push_back(split[d]);
    copy.src_strides.push_back(strides[d]);
  }
  return CreateStridedCopy(copy, env);
}

}  // namespace octet::kernels
