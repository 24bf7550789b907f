// Real files of ../shared/models: what must import does, what must be refused is refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "graph/graph.h"
#include "onnx/import.h"

namespace octet::onnx_io {
namespace {

using ::testing::HasSubstr;

std::string ModelPath(const std::string& name) {
  return std::string(OCTET_SHARED) + "/models/" + name + "/model.onnx";
}

struct Expectation {
  const char* model;
  size_t inputs;
  std::vector<Shape> outputs;
};

class RealModel : public ::testing::TestWithParam<Expectation> {};

TEST_P(RealModel, Imports) {
  const std::string path = ModelPath(GetParam().model);
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  auto g = ImportFile(path);
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(g->inputs.size(), GetParam().inputs);
  ASSERT_EQ(g->outputs.size(), GetParam().outputs.size());
  for (size_t i = 0; i < g->outputs.size(); ++i) {
    ASSERT_TRUE(g->value(g->outputs[i]).shape.has_value());
    EXPECT_EQ(*g->value(g->outputs[i]).shape, GetParam().outputs[i]);
  }
  for (const graph::Node& node : g->nodes) {
    EXPECT_NE(node.op, "Identity");
    EXPECT_NE(node.op, "Dropout");
    EXPECT_NE(node.op, "Constant");
  }
}

constexpr int64_t kAny = kUnknownDim;
INSTANTIATE_TEST_SUITE_P(
    Models, RealModel,
    ::testing::Values(Expectation{"mnist-12", 1, {{1, 10}}},
                      Expectation{"mnist-burn", 1, {{1, 10}}},
                      Expectation{"resnet20-cifar10", 1, {{1, 10}}},
                      Expectation{"squeezenet-fp32", 1, {{1, 1000, 1, 1}}},
                      Expectation{"mobilenetv2-torch-dq32", 1, {{kAny, 1000}}},
                      Expectation{"mobilenetv2-qdq-torch", 1, {{kAny, 1000}}},
                      Expectation{"ultraface-rfb-320", 1, {{1, 4420, 2}, {1, 4420, 4}}},
                      Expectation{"super-resolution-10", 1, {{kAny, 1, 672, 672}}}),
    [](const auto& param) {
      std::string name = param.param.model;
      for (char& c : name) c = c == '-' ? '_' : c;
      return name;
    });

TEST(RealModels, QdqFileHasNoFloatBetweenItsConvolutions) {
  const std::string path = ModelPath("mobilenetv2-qdq-torch");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  auto g = ImportFile(path);
  ASSERT_TRUE(g.ok()) << g.status();
  int quantized = 0, conversions = 0;
  for (const graph::Node& node : g->nodes) {
    conversions += node.op == "Quantize" || node.op == "Dequantize";
    if (node.op != "Conv") continue;
    ++quantized;
    EXPECT_TRUE(g->value(node.inputs[0]).quant.has_value()) << node.name;
    EXPECT_EQ(g->value(node.inputs[1]).dtype, DType::kS8) << node.name;
    EXPECT_EQ(g->value(node.inputs[2]).dtype, DType::kS32) << node.name;
  }
  EXPECT_EQ(quantized, 52);
  EXPECT_EQ(conversions, 2);  // at the graph's input and output
}

TEST(RealModels, OperatorsThatLeftOnnxAreNamed) {
  const std::string path = ModelPath("fns-candy");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  auto g = ImportFile(path);
  EXPECT_EQ(g.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(g.status().message(), HasSubstr(path));
  EXPECT_THAT(g.status().message(), HasSubstr("node "));
  EXPECT_THAT(g.status().message(), HasSubstr("(ImageScaler): operator 'ImageScaler'"));
}

// Every file either imports or names the node and the operator that we lack.
TEST(RealModels, EveryRefusalNamesNodeAndOperator) {
  const std::string folder = std::string(OCTET_SHARED) + "/models";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string path = (entry.path() / "model.onnx").string();
    if (!std::filesystem::exists(path)) continue;
    auto g = ImportFile(path);
    if (g.ok()) continue;
    EXPECT_EQ(g.status().code(), absl::StatusCode::kUnimplemented) << g.status();
    EXPECT_THAT(g.status().message(), HasSubstr("node ")) << g.status();
  }
}

}  // namespace
}  // namespace octet::onnx_io
