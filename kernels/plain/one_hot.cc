// OneHot: fill, then one write per index.
#include "kernels/plain/one_hot.h"

#include <algorithm>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/movement/sized.h"

namespace octet::kernels {
namespace {

// An index as an integer; a number that no s64 holds is one that no depth reaches.
int64_t IndexAt(DType dtype, const void* data, int64_t i) {
  if (!IsFloat(dtype)) return LoadInteger(dtype, data, i);
  const double x = LoadNumber(dtype, data, i);
  return x > -0x1p62 && x < 0x1p62 ? static_cast<int64_t>(x) : std::numeric_limits<int64_t>::max();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateOneHot(const OneHotParams& p, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckSized("one hot", p.dst.dtype));
  OCTET_RETURN_IF_ERROR(CheckSized("one hot", p.indices.dtype));
  Shape want = p.indices.shape;
  const bool fits = p.axis >= 0 && p.axis <= static_cast<int>(want.size()) &&
                    p.dst.shape.size() == want.size() + 1 && NumElements(p.values.shape) == 2 &&
                    p.values.dtype == p.dst.dtype;
  if (fits) want.insert(want.begin() + p.axis, p.dst.shape[static_cast<size_t>(p.axis)]);
  if (!fits || want != p.dst.shape) {
    return absl::InvalidArgumentError(absl::StrCat(
        "one hot: ", ShapeString(p.dst.shape), " of indices ", ShapeString(p.indices.shape),
        " and values ", ShapeString(p.values.shape), ", expected off and on"));
  }
  const absl::Span<const int64_t> shape = p.dst.shape;
  const auto axis = static_cast<size_t>(p.axis);
  const int64_t depth = shape[axis], inner = NumElements(shape.subspan(axis + 1)),
                outer = NumElements(shape.first(axis));
  return MakeFunctionKernel("fill", 0, [=](const BindArgs& args) {
    WithSize(p.dst.dtype, [&](auto t) {
      using T = decltype(t);
      const T off = static_cast<const T*>(args.src[1])[0],
              on = static_cast<const T*>(args.src[1])[1];
      T* dst = static_cast<T*>(args.dst[0]);
      RunParallel(args.parallel, outer, kGrainBytes / (depth * inner + 1) + 1,
                  [&](int64_t begin, int64_t end) {
                    std::fill(dst + begin * depth * inner, dst + end * depth * inner, off);
                    for (int64_t i = begin * inner; i < end * inner; ++i) {
                      int64_t at = IndexAt(p.indices.dtype, args.src[0], i);
                      if (at < 0) at += depth;
                      if (at >= 0 && at < depth)
                        dst[(i / inner * depth + at) * inner + i % inner] = on;
                    }
                  });
    });
  });
}

}  // namespace octet::kernels
