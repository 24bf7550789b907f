// Real networks: every listed model runs and matches the outputs stored beside it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/program.h"
#include "engine/test_util.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "tests/models/model_files.h"

namespace octet::engine {
namespace {

struct Case {
  const char* model;
  double tolerance;  // largest |found - expected| / max|expected|
};

// Float networks: sums in another order, 1e-4 as the reference itself.
constexpr double kFloat = 1e-4;
// Networks quantized elsewhere: values on rounding ties go either way, and steps of early layers travel on; one step of
// the last layers is 1 to 2 %, and 52 layers of mobilenetv2-12-int8 gather 13 %. The best class must be the same.
constexpr double kInt8 = 0.15;
// A network of 16-bit floats: ONNX Runtime rounds every layer to 11 bits, we the inputs and outputs only.
constexpr double kF16 = 5e-3;

// Index of the largest element of each row.
std::vector<std::ptrdiff_t> BestClasses(const Tensor& t) {
  std::vector<std::ptrdiff_t> best;
  const std::vector<double> values = t.ToF64();
  const std::ptrdiff_t classes = t.shape().back();
  for (auto row = values.begin(); row != values.end(); row += classes) {
    best.push_back(std::max_element(row, row + classes) - row);
  }
  return best;
}

void PrintTo(const Case& c, std::ostream* out) { *out << c.model; }

class ModelsTest : public ::testing::TestWithParam<Case> {};

TEST_P(ModelsTest, MatchesStoredOutputs) {
  const fs::path folder = ModelFolder(GetParam().model);
  OCTET_SKIP_WITHOUT(folder);
  const std::shared_ptr<Program> program = CompileModel(GetParam().model);
  ASSERT_NE(program, nullptr);
  int sets = 0;
  for (int set = 0; fs::exists(folder / ("test_data_set_" + std::to_string(set))); ++set, ++sets) {
    const fs::path data = folder / ("test_data_set_" + std::to_string(set));
    auto outputs = RunProgram(*program, ReadInputs(data, *program), 2);
    ASSERT_TRUE(outputs.ok()) << outputs.status();
    for (size_t i = 0; i < outputs->size(); ++i) {
      const Tensor expected = ReadTensor(data / ("output_" + std::to_string(i) + ".pb"));
      ExpectNear((*outputs)[i], expected, GetParam().tolerance,
                 "set " + std::to_string(set) + " output " + std::to_string(i));
      if (GetParam().tolerance == kInt8) {
        EXPECT_EQ(BestClasses((*outputs)[i]), BestClasses(expected));
      }
    }
  }
  // Some carry no outputs: tests/peers compares those with ONNX Runtime.
  if (sets == 0) {
    Shape shape = program->inputs()[0].shape;
    for (int64_t& d : shape) d = d == kUnknownDim ? 2 : d;
    std::vector<float> values(static_cast<size_t>(NumElements(shape)), 0.5f);
    auto outputs = RunProgram(*program, {Tensor::FromF32(shape, values)}, 2);
    ASSERT_TRUE(outputs.ok()) << outputs.status();
    for (const Tensor& output : *outputs) ExpectNear(output, output, 0, "without stored outputs");
  }
}

TEST(NnsplitTest, MatchesTheArraysBesideIt) {
  const fs::path folder = ModelFolder("nnsplit-bidi-lstm-tract");
  OCTET_SKIP_WITHOUT(folder);
  const std::shared_ptr<Program> program = CompileModel("nnsplit-bidi-lstm-tract");
  ASSERT_NE(program, nullptr);
  auto outputs = RunProgram(*program, {ReadNpz(folder / "io.npz", "input")}, 2);
  ASSERT_TRUE(outputs.ok()) << outputs.status();
  ExpectNear((*outputs)[0], ReadNpz(folder / "io.npz", "Add_26"), kFloat, "io.npz");
}

TEST(RefusalTest, FnsCandyIsRefusedByNodeAndOperator) {
  const fs::path folder = ModelFolder("fns-candy");
  OCTET_SKIP_WITHOUT(folder);
  const absl::Status status = onnx_io::ImportFile((folder / "model.onnx").string()).status();
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("ImageScaler"));
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("'scalerPreprocessor'"));
}

// Both rates of a model that branches on its rate, from the file and from what export writes of it.
TEST(ControlFlowTest, ExportedBranchesMeanTheSame) {
  const fs::path path = fs::path(OCTET_SHARED) / "models/silero-vad-op18-ifless/model.onnx";
  if (!fs::exists(path)) GTEST_SKIP() << path << " is absent: the shared models are not installed here";
  auto graph = onnx_io::ImportFile(path.string());
  ASSERT_TRUE(graph.ok()) << graph.status();
  auto bytes = onnx_io::ExportModel(*graph);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  Buffer copy = *Buffer::Allocate(static_cast<int64_t>(bytes->size()));
  std::memcpy(copy.data(), bytes->data(), bytes->size());
  auto again = onnx_io::ImportBytes(std::make_shared<const Buffer>(std::move(copy)), "exported.onnx");
  ASSERT_TRUE(again.ok()) << again.status();
  auto original = Program::Compile(*std::move(graph)), exported = Program::Compile(*std::move(again));
  ASSERT_TRUE(original.ok() && exported.ok()) << original.status() << exported.status();
  const CounterRng rng(3);
  for (const auto& [rate, samples] : {std::pair<int64_t, int64_t>{16000, 576}, {8000, 288}, {16000, 576}}) {
    std::vector<float> audio(static_cast<size_t>(2 * samples)), state(2 * 2 * 128, 0.1f);
    for (size_t i = 0; i < audio.size(); ++i) audio[i] = static_cast<float>(rng.Uniform(i) - 0.5);
    const std::vector<Tensor> inputs = {Tensor::FromF32({2, samples}, audio), Tensor::FromS64({}, {rate}),
                                        Tensor::FromF32({2, 2, 128}, state)};
    auto expected = RunProgram(**original, inputs), found = RunProgram(**exported, inputs);
    ASSERT_TRUE(expected.ok() && found.ok()) << expected.status() << found.status();
    for (size_t i = 0; i < expected->size(); ++i) {
      EXPECT_EQ((*found)[i].shape(), (*expected)[i].shape());
      EXPECT_EQ((*found)[i].ToF32(), (*expected)[i].ToF32()) << "rate " << rate << " output " << i;
    }
    EXPECT_EQ((*expected)[0].shape(), Shape({2, 1}));
  }
}

INSTANTIATE_TEST_SUITE_P(Shared, ModelsTest,
                         ::testing::Values(Case{"basic-pitch", kFloat},
                                           Case{"cifar10-large-marabou", kFloat},
                                           Case{"deeplab-mbv2-dm05", kFloat},
                                           Case{"dnsmos-p835", kFloat},
                                           Case{"dtln-1", kFloat},
                                           Case{"fastestdet", kFloat},
                                           Case{"fireredvad-stream", kFloat},
                                           Case{"gtcrn-simple", kFloat},
                                           Case{"magika-v3-3", kFloat},
                                           Case{"micro-kws-fp32", kFloat},
                                           Case{"mnist-12", kFloat},
                                           Case{"mnist-burn", kFloat},
                                           Case{"mobilenetv2-torch-dq32", kFloat},
                                           Case{"osnet-x0-25", kFloat},
                                           Case{"oww-embedding", kFloat},
                                           Case{"ppocr-mobile-v2-cls", kFloat},
                                           Case{"ppocr-v3-det", kFloat},
                                           Case{"resnet20-cifar10", kFloat},
                                           Case{"silero-vad-16k-op15", kFloat},
                                           Case{"silero-vad-op18-ifless", kFloat},
                                           Case{"sinet-portrait", kFloat},
                                           Case{"squeezenet-fp32", kFloat},
                                           Case{"stressrnn-ru", kFloat},
                                           Case{"super-resolution-10", kFloat},
                                           Case{"ultraface-rfb-320", kFloat},
                                           Case{"vit-pgd-cifar10", kFloat},
                                           Case{"yolox-nano", kFloat},
                                           Case{"yunet-n-dynamic", kFloat},
                                           Case{"micro-kws-qdq", kInt8},
                                           Case{"micro-kws-qoperator", kInt8},
                                           Case{"mlperf-tiny-ic-int8", kInt8},
                                           Case{"mlperf-tiny-kws-int8", kInt8},
                                           Case{"mobilenetv2-12-int8", kInt8},
                                           Case{"mobilenetv2-qdq-torch", kInt8},
                                           Case{"squeezenet-fp16", kF16}),
                         [](const auto& test) {
                           std::string name = test.param.model;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace octet::engine
