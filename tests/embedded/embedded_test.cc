// The embedded classifier: float accuracy, what int8 costs, integers from end to end, one packed copy for all buckets,
// a row's answer independent of its batch.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "compress/compress.h"
#include "data/sample_reader.h"
#include "engine/program.h"
#include "engine/test_util.h"
#include "onnx/export.h"
#include "onnx/import.h"

namespace octet {
namespace {

const char kModel[] = OCTET_SOURCE_DIR "/models/fashion-mnist/model.onnx";
const char kData[] = "/usr/share/datasets/fashion-mnist/";
constexpr int64_t kImages = 1000;

class EmbeddedTest : public ::testing::Test {
 protected:
  // Compressed once for all tests: exported and imported again, as the server sees it.
  static void SetUpTestSuite() {
    if (!std::filesystem::exists(kData)) return;
    auto graph = onnx_io::ImportFile(kModel);
    ASSERT_TRUE(graph.ok()) << graph.status();
    auto samples = data::OpenSamples(std::string(kData) + "train-images-idx3-ubyte.gz", {}, {"image"});
    ASSERT_TRUE(samples.ok()) << samples.status();
    const compress::CompressOptions options;
    compress::Recipe recipe = *compress::MakeRecipe("int8");
    recipe.mutable_calibration()->set_samples(250);
    auto compressed = compress::Compress(*graph, **samples, recipe, options);
    ASSERT_TRUE(compressed.ok()) << compressed.status();
    auto bytes = onnx_io::ExportModel(compressed->graph);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    auto buffer = Buffer::Allocate(static_cast<int64_t>(bytes->size()));
    std::memcpy(buffer->data(), bytes->data(), bytes->size());
    auto again = onnx_io::ImportBytes(std::make_shared<const Buffer>(*std::move(buffer)), "model.int8.onnx");
    ASSERT_TRUE(again.ok()) << again.status();
    float_program_ = *engine::Program::Compile(*std::move(graph));
    int8_program_ = *engine::Program::Compile(*std::move(again));
  }
  static void TearDownTestSuite() {
    float_program_.reset();
    int8_program_.reset();
  }
  void SetUp() override {
    if (!std::filesystem::exists(kData)) GTEST_SKIP() << kData << " is absent (package dataset-fashion-mnist)";
    ASSERT_NE(int8_program_, nullptr) << "compression failed";
  }

  static Tensor Images(int64_t first, int64_t count) {
    auto reader = data::OpenSamples(std::string(kData) + "t10k-images-idx3-ubyte.gz", {}, {"image"});
    std::vector<float> pixels;
    for (int64_t i = first; i < first + count; ++i) {
      const std::vector<float> one = (*reader)->Read(i)->inputs[0].ToF32();
      pixels.insert(pixels.end(), one.begin(), one.end());
    }
    return Tensor::FromF32({count, 1, 28, 28}, pixels);
  }

  static std::vector<int64_t> Classes(engine::Program& program, const Tensor& images) {
    auto out = engine::RunProgram(program, {images}, 2);
    EXPECT_TRUE(out.ok()) << out.status();
    const std::vector<float> logits = (*out)[0].ToF32();
    std::vector<int64_t> classes;
    for (size_t i = 0; i + 10 <= logits.size(); i += 10) {
      classes.push_back(std::max_element(&logits[i], &logits[i] + 10) - &logits[i]);
    }
    return classes;
  }

  static inline std::shared_ptr<engine::Program> float_program_, int8_program_;
};

TEST_F(EmbeddedTest, Int8KeepsTheAccuracyOfFloat) {
  const Tensor images = Images(0, kImages);
  auto labels = data::ReadLabels(std::string(kData) + "t10k-labels-idx1-ubyte.gz");
  ASSERT_TRUE(labels.ok());
  const std::vector<int64_t> f = Classes(*float_program_, images), q = Classes(*int8_program_, images);
  int float_right = 0, int8_right = 0;
  for (size_t i = 0; i < f.size(); ++i) {
    float_right += f[i] == (*labels)[i] ? 1 : 0;
    int8_right += q[i] == (*labels)[i] ? 1 : 0;
  }
  EXPECT_GE(float_right, 0.92 * kImages) << "93 % on all 10,000; 1,000 have a standard error of 0.8 points";
  EXPECT_GE(int8_right, float_right - 0.005 * kImages) << "more than 0.5 points lost";
}

TEST_F(EmbeddedTest, IntegersFlowFromTheFirstLayerToTheLast) {
  auto s = int8_program_->Specialise({Shape{8, 1, 28, 28}}, 2);
  ASSERT_TRUE(s.ok()) << s.status();
  const std::vector<engine::StepInfo> steps = (*s)->Steps();
  int products = 0, residuals = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    const engine::StepInfo& step = steps[i];
    if (step.op == "Quantize") continue;
    EXPECT_THAT(step.src_types, ::testing::StartsWith("u8")) << step.op << " " << step.node;
    if (i + 1 < steps.size()) {
      EXPECT_THAT(step.dst_types, ::testing::StartsWith("u8")) << step.op << " " << step.node;
    }
    EXPECT_EQ(step.implementation.find("ref"), std::string::npos) << step.node << " runs " << step.implementation;
    EXPECT_NE(step.op, "Convert") << "a conversion between layers";
    products += step.multiply_adds > 0 ? 1 : 0;
    residuals += step.op.find("Add") != std::string::npos && step.multiply_adds > 0 ? 1 : 0;
  }
  EXPECT_GE(products, 10);
  EXPECT_GE(residuals, 3) << "residual additions run inside the convolutions";
}

TEST_F(EmbeddedTest, AllBucketsShareOnePackedCopyOfEachWeight) {
  for (const auto& program : {float_program_, int8_program_}) {
    ASSERT_TRUE(program->Specialise({Shape{1, 1, 28, 28}}, 2).ok());
    program->ReleaseInitializers();
    for (int64_t batch : {2, 4, 8, 16, 32}) {
      auto s = program->Specialise({Shape{batch, 1, 28, 28}}, 2);
      ASSERT_TRUE(s.ok()) << s.status();
      for (const engine::StepInfo& step : (*s)->Steps()) {
        EXPECT_EQ(step.implementation.find(":ref"), std::string::npos)
            << "batch " << batch << ": " << step.node << " fell to " << step.implementation;
      }
    }
    std::map<std::string, int> copies;  // constant and role -> packed copies
    for (const std::string& line : program->PackedCopies()) {
      const std::string name = line.substr(0, line.find(' '));
      const std::string role = line.substr(name.size() + 1, line.find('/', name.size()) - name.size() - 1);
      ++copies[name + " " + role];
    }
    EXPECT_FALSE(copies.empty());
    for (const auto& [constant, count] : copies) EXPECT_EQ(count, 1) << constant;
  }
}

TEST_F(EmbeddedTest, ARowsAnswerDoesNotDependOnItsBatch) {
  const Tensor images = Images(100, 7);
  auto batch = engine::RunProgram(*int8_program_, {images}, 2);
  ASSERT_TRUE(batch.ok()) << batch.status();
  const std::vector<float> together = (*batch)[0].ToF32();
  for (int64_t i = 0; i < 7; ++i) {
    auto alone = engine::RunProgram(*int8_program_, {Images(100 + i, 1)}, 2);
    ASSERT_TRUE(alone.ok()) << alone.status();
    const std::vector<float> row = (*alone)[0].ToF32();
    for (size_t c = 0; c < 10; ++c) {
      EXPECT_EQ(row[c], together[static_cast<size_t>(i) * 10 + c]) << "row " << i << " class " << c;
    }
  }
}

TEST_F(EmbeddedTest, TheArenaIsNearItsLowerBound) {
  for (const auto& program : {float_program_, int8_program_}) {
    auto s = program->Specialise({Shape{32, 1, 28, 28}}, 2);
    ASSERT_TRUE(s.ok());
    EXPECT_LE(static_cast<double>((*s)->arena_bytes()), 1.1 * static_cast<double>((*s)->arena_lower_bound_bytes()));
  }
}

}  // namespace
}  // namespace octet
