// LayerNorm by vector passes over one row, which stays in the first-level cache: sum, sum of squared differences, result.
#include <cmath>
#include <limits>

#include "kernels/layer_norm/layer_norm_reference.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layer_norm/layer_norm_rows.cc"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"

#ifndef OCTET_KERNELS_LAYER_NORM_ROWS_ONCE_
#define OCTET_KERNELS_LAYER_NORM_ROWS_ONCE_
namespace octet::kernels {

// One form of the result: f32 (scale 0) or integers.
struct LayerNormWriter {
  void* data = nullptr;  // of the row
  DType dtype = DType::kF32;
  float inverse_scale = 0;
  float zero_point = 0;
};

struct LayerNormRow {
  const float* x = nullptr;
  const float* scale = nullptr;
  const float* bias = nullptr;  // may be null
  int64_t n = 0;
  float epsilon = 0;
  bool centered = true;
  LayerNormWriter writers[2];
  float mean = 0, inverse = 0;  // results
};

}  // namespace octet::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace octet::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;

// Sum of step(x) with four accumulators.
template <class Step>
HWY_INLINE float SumOf(const float* HWY_RESTRICT x, int64_t n, const Step& step) {
  const F d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a0 = step(d, a0, hn::LoadU(d, x + i));
    a1 = step(d, a1, hn::LoadU(d, x + i + lanes));
    a2 = step(d, a2, hn::LoadU(d, x + i + 2 * lanes));
    a3 = step(d, a3, hn::LoadU(d, x + i + 3 * lanes));
  }
  for (; i + lanes <= n; i += lanes) a0 = step(d, a0, hn::LoadU(d, x + i));
  float total = hn::ReduceSum(d, hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)));
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) total += hn::GetLane(step(one, hn::Zero(one), hn::LoadU(one, x + i)));
  return total;
}

template <class D, class V>
HWY_INLINE void Write(D d, V y, const LayerNormWriter& w, int64_t i) {
  if (w.data == nullptr) return;
  if (w.dtype == DType::kF32) return hn::StoreU(y, d, static_cast<float*>(w.data) + i);
  const hn::RebindToSigned<D> di;
  const float low = (w.dtype == DType::kU8 ? 0.0f : -128.0f) - w.zero_point;
  const float high = (w.dtype == DType::kU8 ? 255.0f : 127.0f) - w.zero_point;
  auto q = hn::Mul(y, hn::Set(d, w.inverse_scale));
  q = hn::IfThenElse(hn::Ge(q, hn::Set(d, low)), q, hn::Set(d, low));  // NaN becomes low, too
  q = hn::Min(q, hn::Set(d, high));
  const auto integer = hn::Add(hn::NearestInt(q), hn::Set(di, static_cast<int32_t>(w.zero_point)));
  if (w.dtype == DType::kU8) {
    const hn::Rebind<uint8_t, D> du;
    hn::StoreU(hn::DemoteTo(du, integer), du, static_cast<uint8_t*>(w.data) + i);
  } else {
    const hn::Rebind<int8_t, D> ds;
    hn::StoreU(hn::DemoteTo(ds, integer), ds, static_cast<int8_t*>(w.data) + i);
  }
}

void NormalizeRow(LayerNormRow& row) {
  const int64_t n = row.n;
  const float count = static_cast<float>(n);
  const float mean = row.centered ? SumOf(row.x, n, [](auto, auto a, auto v) HWY_ATTR { return hn::Add(a, v); }) / count
                                  : 0.0f;
  const float squares = SumOf(row.x, n, [mean](auto d, auto a, auto v) HWY_ATTR {
    const auto difference = hn::Sub(v, hn::Set(d, mean));
    return hn::MulAdd(difference, difference, a);
  });
  const float inverse = 1.0f / std::sqrt(squares / count + row.epsilon);
  row.mean = mean;
  row.inverse = inverse;
  const auto body = [&](auto d, int64_t i) HWY_ATTR {
    const auto normalized = hn::Mul(hn::Sub(hn::LoadU(d, row.x + i), hn::Set(d, mean)), hn::Set(d, inverse));
    const auto scale = hn::LoadU(d, row.scale + i);
    const auto y = row.bias == nullptr ? hn::Mul(normalized, scale)
                                       : hn::MulAdd(normalized, scale, hn::LoadU(d, row.bias + i));
    Write(d, y, row.writers[0], i);
    Write(d, y, row.writers[1], i);
  };
  const auto lanes = static_cast<int64_t>(hn::Lanes(F()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(F(), i);
  for (; i < n; ++i) body(hn::CappedTag<float, 1>(), i);
}

}  // namespace HWY_NAMESPACE
}  // namespace octet::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "absl/strings/str_cat.h"
#include "kernels/rows.h"

namespace octet::kernels {

HWY_EXPORT(NormalizeRow);

namespace {

LayerNormWriter WriterOf(const TensorSpec& spec, void* data, int64_t first) {
  LayerNormWriter w;
  w.dtype = spec.dtype;
  w.data = static_cast<std::byte*>(data) + first * BytesOf(spec.dtype);
  if (spec.quant.has_value()) {
    w.inverse_scale = 1.0f / spec.quant->scale[0];
    w.zero_point = static_cast<float>(spec.quant->zero_point_at(0));
  }
  return w;
}

void RunRows(const LayerNormParams& p, const LayerNormMemory& m, int64_t begin, int64_t end, float* buffer) {
  for (int64_t r = begin; r < end; ++r) {
    const int64_t first = r * p.row;
    LayerNormRow row;
    row.x = buffer;
    if (p.src.dtype == DType::kF32) {
      row.x = static_cast<const float*>(m.src) + first;
    } else if (p.src.dtype == DType::kU8) {
      DequantizeRow(static_cast<const uint8_t*>(m.src) + first, p.row, p.src.quant->scale[0],
                    p.src.quant->zero_point_at(0), buffer);
    } else {
      DequantizeRow(static_cast<const int8_t*>(m.src) + first, p.row, p.src.quant->scale[0],
                    p.src.quant->zero_point_at(0), buffer);
    }
    row.scale = m.scale;
    row.bias = m.bias;
    row.n = p.row;
    row.epsilon = p.epsilon;
    row.centered = p.form == LayerNormParams::Form::kLayer;
    row.writers[0] = WriterOf(p.dst, m.dst, first);
    if (m.copy != nullptr) row.writers[1] = WriterOf(*p.copy, m.copy, first);
    HWY_DYNAMIC_DISPATCH(NormalizeRow)(row);
    if (m.mean != nullptr) m.mean[r] = row.mean;
    if (m.inverse != nullptr) m.inverse[r] = row.inverse;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateLayerNormRows(const LayerNormParams& params, const KernelEnv& env) {
  if (params.row == 0) return absl::UnimplementedError("empty rows");
  const int64_t rows = NumElements(params.src.shape) / params.row;
  const int64_t slots = std::max(1, env.threads);
  const bool integers = params.src.dtype != DType::kF32;
  const int64_t stride = integers ? (params.row + 15) / 16 * 16 : 0;
  return MakeFunctionKernel("rows", slots * stride * int64_t{sizeof(float)},
                            [params, rows, slots, stride](const BindArgs& args) {
    const LayerNormMemory memory = MemoryOf(params, args);
    auto* buffers = static_cast<float*>(args.scratch);
    const int64_t wanted = std::max<int64_t>(1, std::min<int64_t>(slots, rows * params.row / (kGrainBytes / 8)));
    // One piece per thread, so that a piece knows its buffer.
    RunParallel(args.parallel, wanted, 1, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        RunRows(params, memory, rows * s / wanted, rows * (s + 1) / wanted, buffers + s * stride);
      }
    });
  });
}

}  // namespace octet::kernels
#endif  // HWY_ONCE
