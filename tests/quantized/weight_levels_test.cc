// Weights of few bits in every stored form: the exported file runs in Octet and in ONNX Runtime, and both agree with
// plain loops over the reals.
//
// Tolerance of products: f32 sums, 1e-5 of sum |w x|. Octet may round a matrix product's source to 8 bits by rows
// (kernels/matmul_nbits): 0.51 steps times sum |w| more. Everything but products is exact.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "graph/test_weights.h"
#include "onnx/export.h"
#include "tests/quantized/peers.h"

namespace octet {
namespace {

using graph::Graph;
using graph::Value;
using graph::ValueId;
using graph::MakeWeights;
using graph::StoredWeights;
using graph::WeightForm;
using graph::WeightForms;

class Net {
 public:
  ValueId Real(const std::string& name, Shape shape, DType dtype = DType::kF32) {
    Value v;
    v.name = name;
    v.dtype = dtype;
    v.shape = std::move(shape);
    return graph.AddValue(std::move(v));
  }
  ValueId Weights(const StoredWeights& weights) {
    Value v = weights.value;
    v.name = "w";
    return graph.AddValue(std::move(v));
  }
  void Add(const std::string& op, std::vector<ValueId> inputs, ValueId output,
           absl::flat_hash_map<std::string, graph::Attribute> attributes = {}) {
    graph.nodes.push_back({op, "", op, std::move(inputs), {output}, std::move(attributes)});
  }
  ValueId Output(const std::string& name, Shape shape, DType dtype = DType::kF32) {
    graph.outputs.push_back(Real(name, std::move(shape), dtype));
    return graph.outputs.back();
  }

  Graph graph;
};

std::vector<float> Uniform(const Shape& shape, uint64_t seed) {
  const CounterRng rng(seed);
  std::vector<float> out(static_cast<size_t>(NumElements(shape)));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(rng.Uniform(i) * 4 - 2);
  return out;
}

// Results of a product, what f32 sums may be off by, and what rounding the source may add.
struct Expected {
  std::vector<double> values, sums, rounding;
};

struct Product {
  Shape shape;  // of the weights: [O, I / groups, kh, kw], [N, K] (row_axis 0) or [K, N] (row_axis 1)
  int row_axis = 0;
  int64_t groups = 1;
};

constexpr int64_t kSide = 5, kBatch = 3;

// Convolution without padding, or the product of two matrices.
Expected Reference(const Product& p, const std::vector<float>& x, const std::vector<float>& w) {
  Expected out;
  const bool conv = p.shape.size() == 4;
  const int64_t rows = p.shape[static_cast<size_t>(p.row_axis)], inputs = p.shape[static_cast<size_t>(1 - p.row_axis)];
  const int64_t kh = conv ? p.shape[2] : 1, kw = conv ? p.shape[3] : 1, side = conv ? kSide : 1;
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const double step = static_cast<double>(std::max(0.0f, *high) - std::min(0.0f, *low)) / 255;
  for (int64_t n = 0; n < kBatch; ++n) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t a = 0; a + kh <= side; ++a) {
        for (int64_t b = 0; b + kw <= side; ++b) {
          double sum = 0, products = 0, weights = 0;
          for (int64_t i = 0; i < inputs; ++i) {
            for (int64_t k = 0; k < kh * kw; ++k) {
              const int64_t channel = r / (rows / p.groups) * inputs + i;
              const int64_t at = ((n * inputs * p.groups + channel) * side + a + k / kw) * side + b + k % kw;
              const int64_t from = p.row_axis == 0 ? (r * inputs + i) * kh * kw + k : i * rows + r;
              const double v = static_cast<double>(w[static_cast<size_t>(from)]);
              const double term = v * static_cast<double>(x[static_cast<size_t>(at)]);
              sum += term;
              products += std::abs(term);
              weights += std::abs(v);
            }
          }
          out.values.push_back(sum);
          out.sums.push_back(1e-5 * products);
          out.rounding.push_back(conv ? 0 : 0.51 * step * weights);
        }
      }
    }
  }
  return out;
}

void ExpectNear(const std::vector<float>& y, const Expected& e, bool rounds) {
  ASSERT_EQ(y.size(), e.values.size());
  for (size_t i = 0; i < y.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(y[i]), e.values[i], e.sums[i] + (rounds ? e.rounding[i] : 0)) << i;
  }
}

void CheckProduct(const WeightForm& form, const Product& p) {
  const StoredWeights weights = MakeWeights(form, p.shape, p.row_axis, 11);
  const bool conv = p.shape.size() == 4;
  const int64_t rows = p.shape[static_cast<size_t>(p.row_axis)];
  Shape x_shape = {kBatch, p.shape[static_cast<size_t>(1 - p.row_axis)] * p.groups}, y_shape = {kBatch, rows};
  if (conv) {
    x_shape.insert(x_shape.end(), {kSide, kSide});
    y_shape.insert(y_shape.end(), {kSide - p.shape[2] + 1, kSide - p.shape[3] + 1});
  }
  const auto any_batch = [](Shape shape) {
    shape[0] = kUnknownDim;
    return shape;
  };
  Net net;
  const ValueId x = net.Real("x", any_batch(x_shape)), w = net.Weights(weights), y = net.Output("y", any_batch(y_shape));
  net.graph.inputs = {x};
  if (conv) {
    net.Add("Conv", {x, w}, y, {{"group", p.groups}});
  } else if (p.row_axis == 0) {
    net.Add("Gemm", {x, w}, y, {{"transB", int64_t{1}}});
  } else {
    net.Add("MatMul", {x, w}, y);
  }
  const auto bytes = onnx_io::ExportModel(net.graph);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const std::vector<float> source = Uniform(x_shape, 5);
  const Expected expected = Reference(p, source, weights.reals);
  const std::vector<Tensor> inputs = {Tensor::FromF32(x_shape, source)};
  for (Optimize optimize : {Optimize::kNo, Optimize::kYes}) {
    SCOPED_TRACE(optimize == Optimize::kYes ? "ONNX Runtime, optimized" : "ONNX Runtime");
    const auto outputs = RunOnnxRuntime(*bytes, inputs, optimize);
    ASSERT_TRUE(outputs.ok()) << outputs.status();
    ExpectNear((*outputs)[0].ToVector<float>(), expected, false);
  }
  SCOPED_TRACE("Octet");
  const auto run = RunOctet(*bytes, inputs);
  ASSERT_TRUE(run.ok()) << run.status();
  ExpectNear(run->outputs[0].ToVector<float>(), expected, true);
  EXPECT_TRUE(run->batchable) << run->mixing;
}

TEST(WeightLevels, ProductsAgreeWithPlainLoopsInBothEngines) {
  const Product products[] = {{{6, 44, 3, 2}, 0, 1}, {{6, 36, 3, 3}, 0, 2}, {{10, 64, 1, 1}, 0, 1},
                              {{7, 44}, 0, 1},       {{44, 10}, 1, 1},      {{64, 33}, 1, 1}};
  for (const WeightForm& form : WeightForms()) {
    for (const Product& p : products) {
      SCOPED_TRACE(form.name + " " + ShapeString(p.shape));
      CheckProduct(form, p);
    }
  }
}

// Readers that are no products see the reals, also where they only move them.
TEST(WeightLevels, OtherOperatorsReadTheReals) {
  for (const WeightForm& form : WeightForms()) {
    SCOPED_TRACE(form.name);
    const Shape shape = {6, 36};
    const StoredWeights weights = MakeWeights(form, shape, 0, 3);
    Net net;
    const ValueId x = net.Real("x", shape), w = net.Weights(weights);
    net.graph.inputs = {x};
    const ValueId rows = net.graph.AddConstant("rows", Tensor::FromS64({3}, {4, 0, 4}));
    const ValueId pair = net.graph.AddConstant("pair", Tensor::FromS64({2}, {36, 6}));
    const ValueId scale = net.Real("moved", shape);
    net.Add("Mul", {x, w}, scale);
    net.graph.outputs.push_back(scale);
    net.Add("Transpose", {w}, net.Output("transposed", {36, 6}), {{"perm", std::vector<int64_t>{1, 0}}});
    net.Add("Gather", {w, rows}, net.Output("gathered", {3, 36}), {{"axis", int64_t{0}}});
    net.Add("Reshape", {w, pair}, net.Output("reshaped", {36, 6}));
    net.Add("Concat", {w, w}, net.Output("joined", {12, 36}), {{"axis", int64_t{0}}});
    net.Add("Concat", {x, w}, net.Output("beside", {12, 36}), {{"axis", int64_t{0}}});
    net.Add("ReduceMax", {w}, net.Output("largest", {1, 1}));
    net.Add("Relu", {w}, net.Output("positive", shape));
    net.Add("NonZero", {w}, net.Output("places", {2, kUnknownDim}, DType::kS64));
    net.Add("Shape", {w}, net.Output("extents", {2}, DType::kS64));
    net.Add("Dequantize", {w}, net.Output("reals", shape));
    const auto bytes = onnx_io::ExportModel(net.graph);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    const std::vector<Tensor> inputs = {Tensor::FromF32(shape, Uniform(shape, 9))};
    const auto theirs = RunOnnxRuntime(*bytes, inputs);
    ASSERT_TRUE(theirs.ok()) << theirs.status();
    const auto ours = RunOctet(*bytes, inputs);
    ASSERT_TRUE(ours.ok()) << ours.status();
    EXPECT_EQ(ours->outputs.back().ToVector<float>(), weights.reals);
    ASSERT_EQ(ours->outputs.size(), theirs->size());
    for (size_t i = 0; i < theirs->size(); ++i) {
      SCOPED_TRACE(net.graph.value(net.graph.outputs[i]).name);
      EXPECT_EQ(ours->outputs[i].shape(), (*theirs)[i].shape());
      EXPECT_EQ(ours->outputs[i].ToF64(), (*theirs)[i].ToF64());
    }
  }
}

}  // namespace
}  // namespace octet
