// What ONNX Runtime, the reader that users have, makes of an exported quantized graph: its answers
// and its fusions.
#include <gtest/gtest.h>
#include <onnxruntime_cxx_api.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/rng.h"
#include "onnx/export.h"
#include "onnx/onnx_pb.h"

namespace octet::onnx_io {
namespace {

using graph::Graph;
using graph::Node;
using graph::Value;
using graph::ValueId;

constexpr int64_t kChannels = 4, kSide = 5;
constexpr float kXScale = 0.5f, kCScale = 0.75f, kSScale = 1.25f;
constexpr int kXZero = 10, kCZero = 4;

struct Net {
  Graph graph;
  std::vector<int8_t> weights;  // [4, 4, 1, 1]
  std::vector<int32_t> bias;
  std::vector<float> weight_scales;
};

// x -> Quantize -> Conv 1x1 (+ bias) -> Add with x -> Dequantize, as the compressor builds it.
Net QuantizedResidual() {
  Net net;
  const CounterRng rng(7);
  for (uint64_t i = 0; i < 16; ++i) {
    net.weights.push_back(static_cast<int8_t>(static_cast<int>(rng.Bits(i) % 255) - 127));
  }
  net.bias = {1000, -1000, 0, 77};
  net.weight_scales = {0.01f, 0.02f, 0.03f, 0.005f};
  Graph& g = net.graph;
  const Shape shape = {1, kChannels, kSide, kSide};
  const auto value = [&](const char* name, DType dtype) {
    Value v;
    v.name = name;
    v.dtype = dtype;
    v.shape = shape;
    return g.AddValue(std::move(v));
  };
  const ValueId x = value("x", DType::kF32), xq = value("xq", DType::kU8);
  const ValueId c = value("c", DType::kU8), s = value("s", DType::kU8), y = value("y", DType::kF32);
  g.value(xq).quant = QuantParams::PerTensor(kXScale, kXZero);
  g.value(c).quant = QuantParams::PerTensor(kCScale, kCZero);
  g.value(s).quant = QuantParams::PerTensor(kSScale, 0);
  const ValueId w =
      g.AddConstant("w", Tensor::FromValues<int8_t>(DType::kS8, {4, 4, 1, 1}, net.weights));
  g.value(w).quant = QuantParams{net.weight_scales, {}, 0, 0};
  const ValueId b = g.AddConstant("b", Tensor::FromValues<int32_t>(DType::kS32, {4}, net.bias));
  QuantParams bias_quant{{}, {}, 0, 0};
  for (float scale : net.weight_scales) bias_quant.scale.push_back(scale * kXScale);
  g.value(b).quant = bias_quant;
  g.inputs = {x};
  g.outputs = {y};
  g.nodes.push_back({"Quantize", "", "", {x}, {xq}, {}});
  g.nodes.push_back({"Conv", "", "conv", {xq, w, b}, {c}, {}});
  g.nodes.push_back({"Add", "", "add", {c, xq}, {s}, {}});
  g.nodes.push_back({"Dequantize", "", "", {s}, {y}, {}});
  return net;
}

double Round(double real, double scale, int zero) {
  return std::clamp(std::nearbyint(real / scale) + zero, 0.0, 255.0);
}

// The definition in graph/graph.h, in doubles.
std::vector<double> Expected(const Net& net, const std::vector<float>& x) {
  const size_t area = kSide * kSide;
  std::vector<double> xr(x.size()), y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    xr[i] = kXScale * (Round(static_cast<double>(x[i]), kXScale, kXZero) - kXZero);
  }
  for (size_t o = 0; o < kChannels; ++o) {
    for (size_t p = 0; p < area; ++p) {
      const double scale = static_cast<double>(net.weight_scales[o]);
      double acc = net.bias[o] * scale * kXScale;
      for (size_t i = 0; i < kChannels; ++i) {
        acc += xr[i * area + p] * net.weights[o * kChannels + i] * scale;
      }
      const double c = kCScale * (Round(acc, kCScale, kCZero) - kCZero);
      y[o * area + p] = kSScale * Round(c + xr[o * area + p], kSScale, 0);
    }
  }
  return y;
}

std::map<std::string, int> OperatorsOf(const std::string& path) {
  std::map<std::string, int> ops;
  const auto bytes = ReadFile(path);
  ::onnx::ModelProto model;
  if (!bytes.ok()) return ops;
  if (!model.ParseFromArray((*bytes)->data(), static_cast<int>((*bytes)->size_bytes()))) return ops;
  for (const auto& node : model.graph().node()) ++ops[node.op_type()];
  return ops;
}

TEST(ExportInOnnxRuntime, RunsFusedAndAgreesWithTheDefinition) {
  const Net net = QuantizedResidual();
  const auto bytes = ExportModel(net.graph);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const std::string optimized =
      (std::filesystem::temp_directory_path() / ("octet_ort_" + std::to_string(getpid()))).string();
  std::vector<float> x(kChannels * kSide * kSide);
  const CounterRng rng(11);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.Uniform(i) * 120 - 5);
  std::vector<float> y;
  try {
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "octet");
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);
    options.SetGraphOptimizationLevel(ORT_ENABLE_EXTENDED);
    options.SetOptimizedModelFilePath(optimized.c_str());
    Ort::Session session(env, bytes->data(), bytes->size(), options);
    const std::vector<int64_t> dims = {1, kChannels, kSide, kSide};
    Ort::Value input = Ort::Value::CreateTensor<float>(
        Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault), x.data(), x.size(),
        dims.data(), dims.size());
    const char* const inputs[] = {"x"};
    const char* const outputs[] = {"y"};
    auto result = session.Run(Ort::RunOptions(), inputs, &input, 1, outputs, 1);
    const float* data = result[0].GetTensorData<float>();
    y.assign(data, data + x.size());
  } catch (const Ort::Exception& e) {
    FAIL() << e.what();
  }
  const auto ops = OperatorsOf(optimized);
  std::filesystem::remove(optimized);
  EXPECT_EQ(ops.count("QLinearConv"), 1u);
  EXPECT_EQ(ops.count("QLinearAdd"), 1u);
  EXPECT_EQ(ops.count("Conv"), 0u);
  // ONNX Runtime multiplies by float reciprocals: a tie may fall to the other side, by one step of
  // s.
  const std::vector<double> expected = Expected(net, x);
  int differ = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_NEAR(y[i], expected[i], kSScale * 1.001) << i;
    differ += std::abs(static_cast<double>(y[i]) - expected[i]) > 1e-4;
  }
  EXPECT_LE(differ, 3);
  EXPECT_GT(*std::max_element(y.begin(), y.end()), 0);
}

}  // namespace
}  // namespace octet::onnx_io
