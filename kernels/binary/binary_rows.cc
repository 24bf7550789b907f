// Reals (f32, u8/s8 with quant, mixed) with any broadcast: blocks of the destination are staged as
// f32 in the first-level cache, computed by vector rows and rounded once into dst. Bit-equal to the
// reference for + - * / max min.
#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "kernels/binary/binary_reference.h"
#include "kernels/rows.h"

namespace octet::kernels {
namespace {

constexpr int64_t kBlock = 1024;  // elements: three f32 buffers stay in the first-level cache

std::optional<RowOp> RowOpOf(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kAdd:
      return RowOp::kAdd;
    case BinaryKind::kSub:
      return RowOp::kSub;
    case BinaryKind::kMul:
      return RowOp::kMul;
    case BinaryKind::kDiv:
      return RowOp::kDiv;
    case BinaryKind::kMax:
      return RowOp::kMax;
    case BinaryKind::kMin:
      return RowOp::kMin;
    case BinaryKind::kPrelu:
      return RowOp::kPrelu;
    default:
      return std::nullopt;
  }
}

// One operand as the block loop reads it.
struct Source {
  DType dtype;
  float scale = 1;
  int32_t zero_point = 0;
  LoopNest nest;  // of this operand alone: its runs are as long as they can be

  Source(const TensorSpec& spec, const TensorSpec& dst)
      : dtype(spec.dtype), nest(BroadcastNest({&spec}, dst)) {
    if (!spec.quant) return;
    scale = spec.quant->scale[0];
    zero_point = spec.quant->zero_point_at(0);
  }

  bool dense() const { return nest.dims.size() == 1 && nest.strides[0][0] == 1; }
  bool single() const { return nest.dims.size() == 1 && nest.strides[0][0] == 0; }

  // Fills the whole buffer of an operand that is one value: no block has to do it again.
  void Prepare(const void* data, float* buffer) const {
    if (single()) std::fill_n(buffer, kBlock, *Stage(data, 0, 1, buffer));
  }

  // Destination elements [begin, begin + n) of the operand as f32: in `buffer`, or where they lie.
  const float* Stage(const void* data, int64_t begin, int64_t n, float* buffer) const {
    switch (dtype) {
      case DType::kF32:
        if (dense()) return static_cast<const float*>(data) + begin;
        Walk(static_cast<const float*>(data), begin, n, buffer, [](float x) { return x; });
        return buffer;
      case DType::kU8:
        return StageQuantized(static_cast<const uint8_t*>(data), begin, n, buffer);
      default:
        return StageQuantized(static_cast<const int8_t*>(data), begin, n, buffer);
    }
  }

 private:
  template <typename Q>
  const float* StageQuantized(const Q* data, int64_t begin, int64_t n, float* buffer) const {
    if (dense()) {
      DequantizeRow(data + begin, n, scale, zero_point, buffer);
    } else {
      Walk(data, begin, n, buffer, [this](Q q) { return Dequantize(q, scale, zero_point); });
    }
    return buffer;
  }

  void CopyDense(const float* at, int64_t count, float* buffer) const {
    std::memcpy(buffer, at, static_cast<size_t>(count) * sizeof(float));
  }
  template <typename Q>
  void CopyDense(const Q* at, int64_t count, float* buffer) const {
    DequantizeRow(at, count, scale, zero_point, buffer);
  }

  template <typename T, typename Decode>
  void Walk(const T* data, int64_t begin, int64_t n, float* buffer, const Decode& decode) const {
    const int64_t step = nest.strides[0].back();
    ForEachRun(nest, begin, begin + n, [&](const int64_t* offsets, int64_t count) {
      const T* at = data + offsets[0];
      if (step == 0) {
        std::fill_n(buffer, count, decode(*at));
      } else if (step == 1) {
        CopyDense(at, count, buffer);
      } else {
        for (int64_t i = 0; i < count; ++i) buffer[i] = decode(at[i * step]);
      }
      buffer += count;
    });
  }
};

// Activations that vectors know; any other is applied element by element.
void ApplyRow(const Activation& f, float* x, int64_t n) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  switch (f.kind) {
    case ActivationKind::kRelu:
      return ClampRow(x, n, 0, kInfinity, x);
    case ActivationKind::kClip:
      return ClampRow(x, n, f.alpha, f.beta, x);
    case ActivationKind::kLeakyRelu:
      for (int64_t i = 0; i < n; ++i) x[i] = x[i] < 0 ? f.alpha * x[i] : x[i];
      return;
    default:
      for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(Apply(f, x[i]));
  }
}

struct Plan {
  BinaryKind kind;
  Source a, b;
  TensorSpec dst;
  std::vector<PostOp> post_ops;

  void Block(const BindArgs& args, int64_t begin, int64_t n, float* buffers) const {
    const float* x = a.single() ? buffers : a.Stage(args.src[0], begin, n, buffers);
    const float* y =
        b.single() ? buffers + kBlock : b.Stage(args.src[1], begin, n, buffers + kBlock);
    float* out = dst.quant ? buffers + 2 * kBlock : static_cast<float*>(args.dst[0]) + begin;
    if (kind == BinaryKind::kPow) {
      Power(x, y, n, out);
    } else {
      BinaryRow(*RowOpOf(kind), x, y, n, out);
    }
    for (const PostOp& op : post_ops) ApplyRow(op.activation, out, n);
    if (!dst.quant) return;
    const float scale = dst.quant->scale[0];
    const int32_t zero_point = dst.quant->zero_point_at(0);
    if (dst.dtype == DType::kU8) {
      QuantizeRow(out, n, scale, zero_point, static_cast<uint8_t*>(args.dst[0]) + begin);
    } else {
      QuantizeRow(out, n, scale, zero_point, static_cast<int8_t*>(args.dst[0]) + begin);
    }
  }

  void Power(const float* x, const float* y, int64_t n, float* out) const {
    if (b.single() && y[0] == 2) return BinaryRow(RowOp::kMul, x, x, n, out);
    for (int64_t i = 0; i < n; ++i) out[i] = std::pow(x[i], y[i]);
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateBinaryRows(const BinaryParams& params,
                                                         const KernelEnv&) {
  if (!RowOpOf(params.kind) && params.kind != BinaryKind::kPow) {
    return absl::UnimplementedError(absl::StrCat(NameOf(params.kind), " has no vector loop"));
  }
  for (const TensorSpec* spec : {&params.a, &params.b, &params.dst}) {
    if (!IsPlainF32(*spec) && !IsQuantized8(*spec)) {
      return absl::UnimplementedError(
          absl::StrCat(NameOf(spec->dtype), " is neither f32 nor 8 bits with a scale"));
    }
  }
  Plan plan{params.kind, Source(params.a, params.dst), Source(params.b, params.dst), params.dst,
            params.post_ops};
  const int64_t n = NumElements(params.dst.shape);
  return MakeFunctionKernel("rows", 0, [plan = std::move(plan), n](const BindArgs& args) {
    RunParallel(args.parallel, (n + kBlock - 1) / kBlock, kGrainBytes / 4 / kBlock,
                [&](int64_t begin, int64_t end) {
                  alignas(64) float buffers[3 * kBlock];
                  plan.a.Prepare(args.src[0], buffers);
                  plan.b.Prepare(args.src[1], buffers + kBlock);
                  for (int64_t block = begin; block < end; ++block) {
                    const int64_t at = block * kBlock;
                    plan.Block(args, at, std::min(kBlock, n - at), buffers);
                  }
                });
  });
}

}  // namespace octet::kernels
