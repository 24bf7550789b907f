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
#include "graph/test_weights.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "onnx/onnx_pb.h"

namespace octet::onnx_io {
namespace {

using graph::Graph;
using graph::Node;
using graph::Value;
using graph::ValueId;
using graph::MakeWeights;
using graph::WeightForm;
using graph::WeightForms;

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

// ONNX Runtime computes the weights once, when it loads the file: nothing of the function is left.
TEST(ExportInOnnxRuntime, FoldsDecodeWeights) {
  for (const WeightForm& form : WeightForms()) {
    if (form.levels == 0) continue;
    for (const bool drawn : {false, true}) {
      SCOPED_TRACE(form.name);
      if (drawn && form.vector > 1) continue;
      const Shape shape = {8, 36, 3, 3};
      Graph g;
      Value x;
      x.name = "x";
      x.dtype = DType::kF32;
      x.shape = Shape{1, 36, 3, 3};
      Value w = MakeWeights(form, shape, 0, 1).value, y = x;
      w.name = "w";
      if (drawn) {  // a distribution of decided weights: the node and its function are there
        const std::vector<int8_t> decided(static_cast<size_t>(NumElements(shape)), 0);
        w.alternatives = graph::Alternatives{Tensor::FromValues<int8_t>(DType::kS8, shape, decided), 1};
      }
      y.name = "y";
      y.shape = Shape{1, 8, 1, 1};
      const ValueId in = g.AddValue(x), weights = g.AddValue(w), out = g.AddValue(y);
      g.inputs = {in};
      g.outputs = {out};
      g.nodes.push_back({"Conv", "", "conv", {in, weights}, {out}, {}});
      const auto bytes = ExportModel(g);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      const std::string optimized =
          (std::filesystem::temp_directory_path() / ("octet_ort_levels_" + std::to_string(getpid()))).string();
      try {
        Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "octet");
        Ort::SessionOptions options;
        options.SetGraphOptimizationLevel(ORT_ENABLE_EXTENDED);
        options.SetOptimizedModelFilePath(optimized.c_str());
        Ort::Session session(env, bytes->data(), bytes->size(), options);
      } catch (const Ort::Exception& e) {
        FAIL() << e.what();
      }
      const auto ops = OperatorsOf(optimized);
      std::filesystem::remove(optimized);
      EXPECT_EQ(ops, (std::map<std::string, int>{{"Conv", 1}}));
    }
  }
}

// Runs a model on inputs drawn from a seed; free dimensions are 1.
enum class Qdq { kAsWritten, kFused };

std::vector<std::vector<float>> RunModel(const Ort::Env& env, const std::string& bytes, Qdq qdq) {
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  if (qdq == Qdq::kAsWritten) options.AddConfigEntry("session.disable_quant_qdq", "1");
  Ort::Session session(env, bytes.data(), bytes.size(), options);
  Ort::AllocatorWithDefaultOptions allocator;
  std::vector<std::string> names;
  std::vector<std::vector<float>> content;
  std::vector<Ort::Value> inputs;
  const CounterRng rng(5);
  uint64_t draw = 0;
  for (size_t i = 0; i < session.GetInputCount(); ++i) {
    names.push_back(session.GetInputNameAllocated(i, allocator).get());
    const Ort::TypeInfo type = session.GetInputTypeInfo(i);
    std::vector<int64_t> dims = type.GetTensorTypeAndShapeInfo().GetShape();
    size_t n = 1;
    for (int64_t& d : dims) {
      d = std::max<int64_t>(d, 1);
      n *= static_cast<size_t>(d);
    }
    content.emplace_back(n);
    for (float& v : content.back()) v = static_cast<float>(rng.Uniform(draw++) * 2 - 1);
    inputs.push_back(Ort::Value::CreateTensor<float>(
        Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault), content.back().data(), n,
        dims.data(), dims.size()));
  }
  std::vector<std::string> output_names;
  for (size_t i = 0; i < session.GetOutputCount(); ++i) {
    output_names.push_back(session.GetOutputNameAllocated(i, allocator).get());
  }
  std::vector<const char*> in, out;
  for (const std::string& name : names) in.push_back(name.c_str());
  for (const std::string& name : output_names) out.push_back(name.c_str());
  const auto results =
      session.Run(Ort::RunOptions(), in.data(), inputs.data(), in.size(), out.data(), out.size());
  std::vector<std::vector<float>> values;
  for (const Ort::Value& result : results) {
    const size_t n = result.GetTensorTypeAndShapeInfo().GetElementCount();
    const float* data = result.GetTensorData<float>();
    values.emplace_back(data, data + n);
  }
  return values;
}

// ||a - b|| / ||b||
double RelativeDistance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

class RealModelInOnnxRuntime : public ::testing::TestWithParam<const char*> {};

// Import rewrites older forms and export says them anew: ONNX Runtime must see the same function
// before and after.
TEST_P(RealModelInOnnxRuntime, MeansTheSameAfterImportAndExport) {
  const std::string path = std::string(OCTET_SHARED) + "/models/" + GetParam() + "/model.onnx";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const auto file = ReadFile(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const std::string original(reinterpret_cast<const char*>((*file)->data()),
                             static_cast<size_t>((*file)->size_bytes()));
  const auto graph = ImportFile(path);
  ASSERT_TRUE(graph.ok()) << graph.status();
  const auto exported = ExportModel(*graph);
  ASSERT_TRUE(exported.ok()) << exported.status();
  try {
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "octet");
    // QOperator files compute in integers: the exported pairs must fuse back into the same kernels.
    // QDQ files are compared as they are written.
    const std::string name = GetParam();
    const bool integer =
        name.find("int8") != std::string::npos || name.find("qoperator") != std::string::npos;
    const Qdq qdq = integer ? Qdq::kFused : Qdq::kAsWritten;
    const auto before = RunModel(env, original, qdq);
    const auto after = RunModel(env, *exported, qdq);
    ASSERT_EQ(before.size(), after.size());
    for (size_t i = 0; i < before.size(); ++i) {
      ASSERT_EQ(before[i].size(), after[i].size());
      EXPECT_LT(RelativeDistance(after[i], before[i]), 1e-4) << "output " << i;
    }
  } catch (const Ort::Exception& e) {
    FAIL() << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, RealModelInOnnxRuntime,
    ::testing::Values("mnist-12", "mnist-burn", "resnet20-cifar10", "squeezenet-fp32",
                      "mobilenetv2-torch-dq32", "mobilenetv2-qdq-torch", "ultraface-rfb-320",
                      "super-resolution-10", "micro-kws-qdq", "micro-kws-qoperator",
                      "mobilenetv2-12-int8", "mlperf-tiny-ic-int8", "mlperf-tiny-kws-int8",
                      "deeplab-mbv2-dm05", "vit-pgd-cifar10", "yolox-nano", "ppocr-mobile-v2-cls",
                      "fastestdet", "osnet-x0-25", "sinet-portrait", "basic-pitch", "dnsmos-p835",
                      "oww-embedding", "yunet-n-dynamic", "ppocr-v3-det"),
    [](const auto& param) {
      std::string name = param.param;
      for (char& c : name) c = c == '-' ? '_' : c;
      return name;
    });

}  // namespace
}  // namespace octet::onnx_io
