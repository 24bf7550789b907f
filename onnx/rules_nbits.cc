// com.microsoft MatMulNBits: weights of 4 or 8 bits in blocks become a MatMul whose weights value
// is s4 or s8 with blocked quant.
//
//   B [N, ceil(K / block), block * bits / 8]: the codes of column n, low bits first
//   scales [N * ceil(K / block)], zero_points packed alike or in the scales' type; absent: 2^(bits-1)
//
// The graph's weights are [K, N] row-major; codes and zero points are shifted by 2^(bits-1), which
// changes no real.
// Source: ONNX Runtime, docs/ContribOperators.md, com.microsoft.MatMulNBits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "onnx/quant_operands.h"
#include "onnx/rules.h"

namespace octet::onnx_io {
namespace {

using graph::ValueId;

struct Geometry {
  int64_t k = 0, n = 0, bits = 4, block = 0;

  int64_t blocks() const { return (k + block - 1) / block; }
  int64_t block_bytes() const { return block * bits / 8; }
  int64_t zero_point_bytes() const { return (blocks() * bits + 7) / 8; }  // per column
  int32_t middle() const { return 1 << (bits - 1); }
};

absl::StatusOr<Geometry> ReadGeometry(const NodeImporter& node) {
  constexpr int64_t kMost = int64_t{1} << 31;
  Geometry g{node.Int("K", 0), node.Int("N", 0), node.Int("bits", 4), node.Int("block_size", 0)};
  if (g.k < 1 || g.k > kMost || g.n < 1 || g.n > kMost) {
    return absl::InvalidArgumentError(absl::StrCat("K ", g.k, " and N ", g.n, ", expected sizes"));
  }
  if (g.bits != 4 && g.bits != 8) {
    return absl::UnimplementedError(absl::StrCat("bits: expected 4 or 8, found ", g.bits));
  }
  if (g.block < 16 || g.block > kMost || (g.block & (g.block - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("block_size: expected a power of two from 16 on, found ", g.block));
  }
  return g;
}

absl::StatusOr<const Tensor*> ConstantOf(const NodeImporter& node, size_t i, int64_t elements) {
  const Tensor* t = node.ConstantInput(i);
  if (t == nullptr) {
    return absl::UnimplementedError(absl::StrCat("input ", i, " is computed, expected a constant"));
  }
  if (t->num_elements() != elements) {
    return absl::InvalidArgumentError(absl::StrCat("input ", i, " of shape ",
                                                   ShapeString(t->shape()), ", expected ", elements,
                                                   " elements"));
  }
  return t;
}

uint8_t Code(const uint8_t* bytes, int64_t i, int64_t bits) {
  if (bits == 8) return bytes[i];
  return static_cast<uint8_t>(bytes[i / 2] >> (i % 2 * 4) & 15);
}

// The codes as s4 or s8 [K, N], shifted.
absl::StatusOr<Tensor> Weights(NodeImporter& node, const Geometry& g) {
  OCTET_ASSIGN_OR_RETURN(const Tensor* b,
                         ConstantOf(node, 1, g.n * g.blocks() * g.block_bytes()));
  if (b->dtype() != DType::kU8) {
    return absl::InvalidArgumentError(absl::StrCat("B is ", NameOf(b->dtype()), ", expected u8"));
  }
  node.state().folded_bytes_left -= b->size_bytes();
  if (node.state().folded_bytes_left < 0) {
    return absl::ResourceExhaustedError("the file's nodes use more weights than it has bytes");
  }
  const DType dtype = g.bits == 4 ? DType::kS4 : DType::kS8;
  OCTET_ASSIGN_OR_RETURN(Buffer out, Buffer::Allocate(ByteSize(dtype, {g.k, g.n})));
  const auto* codes = reinterpret_cast<const uint8_t*>(b->data());
  auto* to = reinterpret_cast<uint8_t*>(out.data());
  const int64_t column_bytes = g.blocks() * g.block_bytes();
  constexpr int64_t kTile = 64;  // columns whose lines of the file stay in the cache together
  for (int64_t tile = 0; tile < g.n; tile += kTile) {
    for (int64_t k = 0; k < g.k; ++k) {
      for (int64_t n = tile; n < std::min(tile + kTile, g.n); ++n) {
        const int shifted = Code(codes + n * column_bytes, k, g.bits) - g.middle();
        const int64_t at = k * g.n + n;
        if (g.bits == 8) {
          to[at] = static_cast<uint8_t>(shifted);
        } else {
          to[at / 2] = static_cast<uint8_t>(to[at / 2] | (shifted & 15) << (at % 2 * 4));
        }
      }
    }
  }
  return Tensor::FromBuffer(dtype, {g.k, g.n}, std::move(out));
}

// Zero point of block `kb` of column n, as the file counts. Errors: kUnimplemented when it is a
// fraction.
absl::StatusOr<std::vector<int32_t>> ZeroPoints(const NodeImporter& node, const Geometry& g) {
  std::vector<int32_t> out(static_cast<size_t>(g.n * g.blocks()), g.middle());
  if (!node.has_input(3)) return out;
  const bool packed = node.value(node.inputs[3]).dtype == DType::kU8;
  OCTET_ASSIGN_OR_RETURN(
      const Tensor* t,
      ConstantOf(node, 3, packed ? g.n * g.zero_point_bytes() : g.n * g.blocks()));
  if (packed) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(t->data());
    for (int64_t n = 0; n < g.n; ++n) {
      for (int64_t kb = 0; kb < g.blocks(); ++kb) {
        out[static_cast<size_t>(n * g.blocks() + kb)] =
            Code(bytes + n * g.zero_point_bytes(), kb, g.bits);
      }
    }
    return out;
  }
  if (!IsFloat(t->dtype())) {
    return absl::InvalidArgumentError(
        absl::StrCat("zero points are ", NameOf(t->dtype()), ", expected u8 or a float type"));
  }
  const std::vector<float> reals = t->ToF32();
  for (size_t i = 0; i < reals.size(); ++i) {
    out[i] = static_cast<int32_t>(std::lround(reals[i]));
    if (static_cast<float>(out[i]) != reals[i] || std::abs(reals[i]) > 1024) {
      return absl::UnimplementedError(
          absl::StrCat("zero point ", reals[i], ": expected whole numbers"));
    }
  }
  return out;
}

// Scales and zero points in the order of blocks of [K, N] along axis 0.
absl::StatusOr<QuantParams> Params(NodeImporter& node, const Geometry& g) {
  OCTET_ASSIGN_OR_RETURN(const Tensor* scales, ConstantOf(node, 2, g.n * g.blocks()));
  if (!IsFloat(scales->dtype())) {
    return absl::InvalidArgumentError(
        absl::StrCat("scales are ", NameOf(scales->dtype()), ", expected a float type"));
  }
  node.state().scales_left -= scales->num_elements();
  if (node.state().scales_left < 0) {
    return absl::ResourceExhaustedError("the file's nodes use more scales than it has bytes");
  }
  const std::vector<float> by_column = scales->ToF32();
  OCTET_ASSIGN_OR_RETURN(const std::vector<int32_t> zeros, ZeroPoints(node, g));
  QuantParams quant;
  quant.axis = 0;
  quant.block = g.block;
  bool all_zero = true;
  for (int64_t kb = 0; kb < g.blocks(); ++kb) {
    for (int64_t n = 0; n < g.n; ++n) {
      const size_t i = static_cast<size_t>(n * g.blocks() + kb);
      // A block of equal weights may have scale 0, and some quantizers write negative ones.
      if (!std::isfinite(by_column[i])) {
        return absl::InvalidArgumentError(absl::StrCat("scale ", by_column[i]));
      }
      quant.scale.push_back(by_column[i]);
      quant.zero_point.push_back(zeros[i] - g.middle());
      all_zero = all_zero && quant.zero_point.back() == 0;
    }
  }
  if (all_zero) quant.zero_point.clear();
  return quant;
}

}  // namespace

absl::Status TranslateMatMulNBits(NodeImporter& node) {
  OCTET_ASSIGN_OR_RETURN(const Geometry g, ReadGeometry(node));
  if (node.has_input(4)) {
    return absl::UnimplementedError("g_idx (rows of B in an order of their own) is not supported");
  }
  OCTET_ASSIGN_OR_RETURN(Tensor weights, Weights(node, g));
  OCTET_ASSIGN_OR_RETURN(const QuantParams quant, Params(node, g));
  const ValueId w = node.AddConstant("weights", std::move(weights));
  node.SetQuant(w, node.value(w).dtype, quant);
  ValueId a = node.inputs[0];
  const DType real = node.value(a).dtype;
  const bool narrow = real != DType::kF32;
  if (narrow) {
    OCTET_ASSIGN_OR_RETURN(a, node.Emit1("Cast", {a}, node.Fresh("f32"), CastTo(DType::kF32)));
  }
  const bool biased = node.has_input(5);
  node.reads_reals = true;
  OCTET_ASSIGN_OR_RETURN(
      ValueId y, node.Emit1("MatMul", {a, w}, narrow || biased ? node.Fresh("sum") : node.Output(0)));
  node.reads_reals = false;
  if (biased) {
    ValueId bias = node.inputs[5];
    if (node.value(bias).dtype != DType::kF32) {
      OCTET_ASSIGN_OR_RETURN(bias,
                             node.Emit1("Cast", {bias}, node.Fresh("bias"), CastTo(DType::kF32)));
    }
    OCTET_ASSIGN_OR_RETURN(
        y, node.Emit1("Add", {y, bias}, narrow ? node.Fresh("biased") : node.Output(0)));
  }
  if (!narrow) return absl::OkStatus();
  return node.Emit1("Cast", {y}, node.Output(0), CastTo(real)).status();
}

}  // namespace octet::onnx_io
