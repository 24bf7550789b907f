// Shared by the tests of Conv: geometries of every kind, operands and results by the reference loops.
#ifndef OCTET_KERNELS_CONV_CONV_TESTING_H_
#define OCTET_KERNELS_CONV_CONV_TESTING_H_

#include <cmath>
#include <utility>
#include <vector>

#include "kernels/conv/conv.h"
#include "kernels/conv/conv_reference.h"
#include "kernels/product_testing.h"

namespace octet::kernels {

struct Geometry {
  const char* name;
  int64_t batch, channels, outputs, groups;
  std::vector<int64_t> src, kernel, strides, dilations, pads_begin, pads_end;
};

inline const std::vector<Geometry>& Geometries() {
  static const auto* const list = new std::vector<Geometry>{
      {"basic3x3", 2, 16, 24, 1, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"one", 1, 1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"stem7x7", 1, 3, 32, 1, {23, 21}, {7, 7}, {2, 2}, {1, 1}, {3, 3}, {3, 3}},
      {"gray", 3, 1, 8, 1, {10, 10}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"pointwise", 2, 33, 17, 1, {5, 6}, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"pointwise_stride", 1, 64, 128, 1, {8, 8}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}},
      {"depthwise", 2, 40, 40, 40, {7, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"depthwise_stride", 1, 32, 32, 32, {9, 9}, {5, 5}, {2, 2}, {1, 1}, {2, 2}, {2, 2}},
      {"depthwise_multiplier", 1, 8, 16, 8, {6, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"grouped", 1, 32, 64, 4, {6, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"grouped_odd", 1, 6, 9, 3, {6, 7}, {3, 2}, {1, 1}, {1, 1}, {0, 1}, {0, 0}},
      {"dilated", 1, 16, 16, 1, {12, 13}, {3, 3}, {1, 1}, {2, 3}, {2, 3}, {2, 3}},
      {"asymmetric", 1, 16, 16, 1, {10, 10}, {3, 3}, {2, 2}, {1, 1}, {0, 0}, {1, 1}},
      {"asymmetric_begin", 1, 5, 7, 1, {8, 9}, {4, 3}, {1, 2}, {1, 1}, {3, 2}, {0, 1}},
      {"whole", 2, 20, 10, 1, {4, 5}, {4, 5}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},
      {"deep", 1, 512, 40, 1, {3, 3}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
      {"one_dimension", 2, 12, 20, 1, {31}, {5}, {1}, {1}, {2}, {2}},
      {"one_dimension_strided", 1, 16, 16, 1, {40}, {3}, {2}, {2}, {1}, {3}},
      {"three_dimensions",
       1,
       16,
       16,
       1,
       {4, 5, 6},
       {3, 3, 3},
       {1, 1, 1},
       {1, 1, 1},
       {1, 1, 1},
       {1, 1, 1}},
      {"three_dimensions_odd",
       1,
       3,
       5,
       1,
       {4, 5, 6},
       {2, 3, 1},
       {1, 2, 1},
       {1, 1, 1},
       {0, 1, 0},
       {1, 1, 0}},
  };
  return *list;
}

enum class Bias : uint8_t { kNone, kF32, kS32 };

struct Case {
  TensorSpec src, dst;  // shapes are filled in
  Bias bias = Bias::kNone;
  std::vector<PostOp> post_ops = {};  // residual shapes are filled in
  bool power_of_two = false;
};

inline ConvParams MakeParams(const Geometry& g, const Case& c, int first_id = 1) {
  ConvParams p;
  p.src = c.src;
  p.dst = c.dst;
  p.src.shape = {g.batch, g.channels};
  p.dst.shape = {g.batch, g.outputs};
  p.weights_shape = {g.outputs, g.channels / g.groups};
  for (size_t i = 0; i < g.src.size(); ++i) {
    p.src.shape.push_back(g.src[i]);
    p.weights_shape.push_back(g.kernel[i]);
    p.dst.shape.push_back(
        (g.src[i] + g.pads_begin[i] + g.pads_end[i] - (g.kernel[i] - 1) * g.dilations[i] - 1) /
            g.strides[i] +
        1);
  }
  p.groups = g.groups;
  p.strides = g.strides;
  p.dilations = g.dilations;
  p.pads_begin = g.pads_begin;
  p.pads_end = g.pads_end;
  p.weights_dtype = c.src.quant ? DType::kS8 : DType::kF32;
  p.weights = {first_id, RandomConstant(p.weights_dtype, p.weights_shape, 11, WeightsLimit()), {}};
  if (c.src.quant) {
    QuantParams q{{}, {}, 0, 0};
    for (int64_t o = 0; o < g.outputs; ++o) {
      q.scale.push_back(c.power_of_two ? std::ldexp(1.0f, static_cast<int>(o % 3) - 6)
                                       : 0.004f + 0.0007f * static_cast<float>(o % 5));
    }
    p.weights.quant = q;
  }
  const Shape bias_shape = {g.outputs};
  if (c.bias == Bias::kF32) {
    p.bias = {first_id + 1, RandomConstant(DType::kF32, bias_shape, 12), {}};
  } else if (c.bias == Bias::kS32) {
    std::vector<int32_t> q;
    QuantParams quant{{}, {}, 0, 0};
    for (int32_t o = 0; o < g.outputs; ++o) {
      q.push_back(977 * (o % 7) - 2000);
      quant.scale.push_back(c.src.quant->scale[0] * p.weights.quant->scale[static_cast<size_t>(o)]);
    }
    p.bias = {first_id + 1, Tensor::FromValues<int32_t>(DType::kS32, bias_shape, q), quant};
  }
  p.post_ops = c.post_ops;
  for (PostOp& op : p.post_ops) {
    op.residual.shape = p.dst.shape;
    op.residual.layout = p.dst.layout;
  }
  return p;
}

inline int64_t Depth(const ConvParams& p) { return NumElements(p.weights_shape) / p.weights_shape[0]; }

// What dst's memory holds before the run: the residual's stored values.
inline Buffer InitialDst(const ConvParams& p) {
  for (const PostOp& op : p.post_ops) {
    if (op.kind == PostOp::Kind::kAdd) return RandomOperand(op.residual, 14);
  }
  return RandomOperand(p.dst, 14);
}

inline Buffer Expected(const ConvParams& p, const Buffer& src) {
  Buffer dst = InitialDst(p);
  std::vector<double> bias;
  if (p.bias.present()) bias = BiasReals(p.bias, p.bias.tensor.ToF64());
  const std::byte* w = p.weights.tensor.data();
  if (p.src.dtype == DType::kF32) {
    ConvReference<double, float>(p, src.data(), reinterpret_cast<const float*>(w), bias,
                                 dst.data());
  } else if (p.src.dtype == DType::kU8) {
    ConvReference<int64_t, uint8_t>(p, src.data(), reinterpret_cast<const int8_t*>(w), bias,
                                    dst.data());
  } else {
    ConvReference<int64_t, int8_t>(p, src.data(), reinterpret_cast<const int8_t*>(w), bias,
                                   dst.data());
  }
  return dst;
}

inline PostOp Act(ActivationKind kind, float alpha = 0, float beta = 0) {
  return {PostOp::Kind::kActivation, {kind, alpha, beta}, {}};
}
inline PostOp Add(TensorSpec residual) { return {PostOp::Kind::kAdd, {}, std::move(residual)}; }

inline constexpr Layout kNhwc = Layout::kChannelsLast;

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CONV_CONV_TESTING_H_
