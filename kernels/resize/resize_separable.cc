// Linear and cubic interpolation of f32, one pass per resized dimension with weights made at
// creation.
#include <algorithm>
#include <cstring>

#include "kernels/resize/resize_reference.h"
#include "kernels/rows.h"

namespace octet::kernels {
namespace {

constexpr int64_t kShortRow = 16;  // elements: below, a vector loop's call costs more than it saves

// dst[o, j, i] = sum over the taps of j of weight * src[o, index, i]
struct Pass {
  int64_t outer = 1, from = 1, to = 1, inner = 1;
  std::vector<Taps> taps;  // [to]

  int64_t dst_elements() const { return outer * to * inner; }

  // Rows [begin, end) of dst seen as [outer * to, inner].
  void Rows(const float* src, float* dst, int64_t begin, int64_t end) const {
    for (int64_t row = begin; row < end; ++row) {
      const Taps& t = taps[static_cast<size_t>(row % to)];
      const float* base = src + row / to * from * inner;
      float* out = dst + row * inner;
      if (inner < kShortRow) {
        for (int64_t i = 0; i < inner; ++i) {
          float sum = 0;
          for (const auto& [index, weight] : t.of) sum += weight * base[index * inner + i];
          out[i] = sum;
        }
        continue;
      }
      std::fill_n(out, inner, 0.0f);
      for (const auto& [index, weight] : t.of) {
        if (weight != 0) AccumulateRow(base + index * inner, inner, weight, out);
      }
    }
  }
};

struct Plan {
  std::vector<Pass> passes;
  int64_t intermediate = 0;  // elements of each of the two scratch buffers

  void Run(const BindArgs& args) const {
    const auto* src = static_cast<const float*>(args.src[0]);
    auto* scratch = static_cast<float*>(args.scratch);
    for (size_t i = 0; i < passes.size(); ++i) {
      const Pass& pass = passes[i];
      float* dst = i + 1 == passes.size() ? static_cast<float*>(args.dst[0])
                                          : scratch + static_cast<int64_t>(i % 2) * intermediate;
      const int64_t cost = pass.inner * static_cast<int64_t>(pass.taps[0].of.size());
      RunParallel(args.parallel, pass.outer * pass.to, kGrainBytes / 8 / cost + 1,
                  [&](int64_t begin, int64_t end) { pass.Rows(src, dst, begin, end); });
      src = dst;
    }
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateResizeSeparable(const ResizeParams& params,
                                                              const KernelEnv&) {
  if (params.mode == ResizeParams::Mode::kNearest) return absl::UnimplementedError("nearest");
  if (!IsPlainF32(params.src)) return absl::UnimplementedError("not f32");
  if (NumElements(params.dst.shape) == 0) return absl::UnimplementedError("empty");
  const auto order = MemoryOrder(params.src);
  Shape now;  // memory order; from source to destination, dimension by dimension
  for (int d : order) now.push_back(params.src.shape[static_cast<size_t>(d)]);
  Plan plan;
  for (size_t i = 0; i < order.size(); ++i) {
    const auto d = static_cast<size_t>(order[i]);
    Pass pass;
    pass.from = now[i];
    pass.to = params.dst.shape[d];
    bool identity = pass.from == pass.to;
    for (int64_t at = 0; at < pass.to; ++at) {
      pass.taps.push_back(TapsOf(params, d, at));
      const Taps& taps = pass.taps.back();
      if (taps.outside) return absl::UnimplementedError("samples outside of the source");
      identity = identity && taps.of.size() == 1 && taps.of[0].first == at;
    }
    if (identity) continue;
    now[i] = pass.to;
    const absl::Span<const int64_t> dims = now;
    pass.outer = NumElements(dims.subspan(0, i));
    pass.inner = NumElements(dims.subspan(i + 1));
    plan.passes.push_back(std::move(pass));
  }
  if (plan.passes.empty()) return absl::UnimplementedError("nothing is resized");
  for (size_t i = 0; i + 1 < plan.passes.size(); ++i) {
    plan.intermediate = std::max(plan.intermediate, plan.passes[i].dst_elements());
  }
  const int64_t scratch_bytes = 2 * plan.intermediate * int64_t{sizeof(float)};
  return MakeFunctionKernel("separable", scratch_bytes,
                            [plan = std::move(plan)](const BindArgs& args) { plan.Run(args); });
}

}  // namespace octet::kernels
