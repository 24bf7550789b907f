// Normalization in plain loops and double precision: the oracle, and what f64, 16-bit and 8-bit operands use.
#include <cmath>

#include "kernels/elements.h"
#include "kernels/normalize/normalize.h"

namespace octet::kernels {
namespace {

// What a group is normalized with: y = (x - mean) * inverse.
struct Moments {
  double mean = 0, inverse = 0;
};

Moments MomentsOf(NormalizeKind kind, double epsilon, const std::vector<double>& group) {
  const auto n = static_cast<double>(group.size());
  double sum = 0, absolute = 0, squares = 0;
  for (double x : group) {
    sum += x;
    absolute += std::fabs(x);
    squares += x * x;
  }
  const double mean = sum / n;
  double variance = 0;
  for (double x : group) variance += (x - mean) * (x - mean) / n;
  switch (kind) {
    case NormalizeKind::kDeviation:
      return {mean, 1 / std::sqrt(variance + epsilon)};
    case NormalizeKind::kMvn:
      return {mean, 1 / (std::sqrt(variance) + epsilon)};
    case NormalizeKind::kRms:
      return {0, 1 / std::sqrt(squares / n + epsilon)};
    case NormalizeKind::kL1:
      return {0, absolute == 0 ? 0 : 1 / absolute};
    case NormalizeKind::kL2:
      return {0, squares == 0 ? 0 : 1 / std::sqrt(squares)};
  }
  return {};
}

void Run(const NormalizeParams& p, const BindArgs& args) {
  Shape outer = p.src.shape, inner(p.src.shape.size(), 1);
  for (int axis : p.axes) std::swap(outer[static_cast<size_t>(axis)], inner[static_cast<size_t>(axis)]);
  const Shape src_strides = StridesIn(p.src);
  size_t next_src = 1, next_dst = 1;
  const auto factor = [&](const std::optional<TensorSpec>& spec) {
    const void* data = spec ? args.src[next_src++] : nullptr;
    Shape strides(p.src.shape.size(), 0);
    if (spec) strides = StridesIn(*spec);
    for (size_t d = 0; spec && d < strides.size(); ++d) {
      if (spec->shape[d] == 1) strides[d] = 0;
    }
    return [=](const Index& index, double absent) {
      return spec ? LoadNumber(spec->dtype, data, Offset(strides, index)) : absent;
    };
  };
  const auto scale = factor(p.scale);
  const auto shift = factor(p.shift);
  void* const means = p.mean ? args.dst[next_dst++] : nullptr;
  void* const inverses = p.inverse_deviation ? args.dst[next_dst++] : nullptr;
  int64_t group_number = 0;
  ForEachIndex(outer, [&](const Index& at) {
    std::vector<double> group;
    const auto each = [&](auto&& body) {
      ForEachIndex(inner, [&](const Index& within) {
        Index index = at;
        for (size_t d = 0; d < index.size(); ++d) index[d] += within[d];
        body(index, Offset(src_strides, index));
      });
    };
    each([&](const Index&, int64_t offset) { group.push_back(LoadReal(p.src, args.src[0], offset)); });
    const Moments m = MomentsOf(p.kind, p.epsilon, group);
    if (means != nullptr) StoreNumber(DType::kF32, means, group_number, m.mean);
    if (inverses != nullptr) StoreNumber(DType::kF32, inverses, group_number, m.inverse);
    ++group_number;
    size_t k = 0;
    each([&](const Index& index, int64_t offset) {
      StoreReal(p.dst, args.dst[0], offset, (group[k++] - m.mean) * m.inverse * scale(index, 1) + shift(index, 0));
    });
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateNormalizeReference(const NormalizeParams& params, const KernelEnv&) {
  return MakeFunctionKernel("reference", 0, [params](const BindArgs& args) { Run(params, args); });
}

}  // namespace octet::kernels
