// Real networks: every listed model runs and matches the outputs stored beside it.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "engine/program.h"
#include "engine/test_util.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "onnx/onnx_pb.h"
#include "onnx/tensors.h"

namespace octet::engine {
namespace {

namespace fs = std::filesystem;

// A TensorProto file, decoded by hand: independent of the importer's own reading.
Tensor ReadTensor(const fs::path& path) {
  onnx::TensorProto proto;
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(proto.ParseFromIstream(&in)) << path;
  const Shape shape(proto.dims().begin(), proto.dims().end());
  const DType dtype = onnx_io::DTypeFromOnnx(proto.data_type());
  if (!proto.raw_data().empty()) {
    EXPECT_EQ(static_cast<int64_t>(proto.raw_data().size()), ByteSize(dtype, shape)) << path;
    return Tensor::FromValues<char>(dtype, shape, proto.raw_data());
  }
  if (dtype == DType::kF32) {
    return Tensor::FromF32(shape, {proto.float_data().data(), static_cast<size_t>(proto.float_data_size())});
  }
  EXPECT_EQ(dtype, DType::kS64) << path << " has typed data of another type";
  return Tensor::FromS64(shape, {proto.int64_data().data(), static_cast<size_t>(proto.int64_data_size())});
}

struct Case {
  const char* model;
  // Largest |found - expected| / max|expected|. f32 networks: sums in another order, 1e-4 as the reference itself.
  // The QDQ network: values on rounding ties go either way and one step of the last layers is about 2 %.
  double tolerance;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.model; }

class ModelsTest : public ::testing::TestWithParam<Case> {};

TEST_P(ModelsTest, MatchesStoredOutputs) {
  const fs::path folder = fs::path(OCTET_SHARED) / "models" / GetParam().model;
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is absent: the shared models are not installed here";
  auto graph = onnx_io::ImportFile((folder / "model.onnx").string());
  ASSERT_TRUE(graph.ok()) << graph.status();
  auto program = Program::Compile(*std::move(graph));
  ASSERT_TRUE(program.ok()) << program.status();
  int sets = 0;
  for (int set = 0; fs::exists(folder / ("test_data_set_" + std::to_string(set))); ++set, ++sets) {
    const fs::path data = folder / ("test_data_set_" + std::to_string(set));
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < (*program)->inputs().size(); ++i) {
      inputs.push_back(ReadTensor(data / ("input_" + std::to_string(i) + ".pb")));
      // Scalars are stored as [1] there.
      if ((*program)->inputs()[i].shape.empty()) inputs.back() = inputs.back().Reshaped({});
    }
    auto outputs = RunProgram(**program, inputs, 2);
    ASSERT_TRUE(outputs.ok()) << outputs.status();
    for (size_t i = 0; i < outputs->size(); ++i) {
      const Tensor expected = ReadTensor(data / ("output_" + std::to_string(i) + ".pb"));
      ASSERT_EQ((*outputs)[i].shape(), expected.shape());
      const std::vector<double> e = expected.ToF64(), f = (*outputs)[i].ToF64();
      double largest = 0, worst = 0;
      for (size_t k = 0; k < e.size(); ++k) {
        ASSERT_TRUE(std::isfinite(f[k])) << k;
        largest = std::max(largest, std::fabs(e[k]));
        worst = std::max(worst, std::fabs(e[k] - f[k]));
      }
      EXPECT_LE(worst, GetParam().tolerance * largest) << "set " << set << " output " << i;
    }
  }
  // squeezenet-fp32 and mobilenetv2-torch-dq32 carry no outputs; tests/peers compares those with ONNX Runtime.
  if (sets == 0) {
    Shape shape = (*program)->inputs()[0].shape;
    for (int64_t& d : shape) d = d == kUnknownDim ? 2 : d;
    std::vector<float> values(static_cast<size_t>(NumElements(shape)), 0.5f);
    auto outputs = RunProgram(**program, {Tensor::FromF32(shape, values)}, 2);
    ASSERT_TRUE(outputs.ok()) << outputs.status();
  }
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
                         ::testing::Values(Case{"mnist-12", 1e-4}, Case{"mnist-burn", 1e-4},
                                           Case{"resnet20-cifar10", 1e-4}, Case{"squeezenet-fp32", 1e-4},
                                           Case{"silero-vad-op18-ifless", 1e-4}, Case{"silero-vad-16k-op15", 1e-4},
                                           Case{"mobilenetv2-torch-dq32", 1e-4},
                                           Case{"mobilenetv2-qdq-torch", 0.1},
                                           Case{"ultraface-rfb-320", 1e-4}, Case{"super-resolution-10", 1e-4}),
                         [](const auto& test) {
                           std::string name = test.param.model;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace octet::engine
