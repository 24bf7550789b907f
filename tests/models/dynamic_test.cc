// Real networks at several shapes and over several steps: rows of a batch, lengths and sizes in one program, states fed back.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "engine/program.h"
#include "engine/test_util.h"
#include "tests/models/model_files.h"

namespace octet::engine {
namespace {

// Sums of a row may be blocked in another way when it shares a batch.
constexpr double kRow = 1e-5;

// Rows [first, first + count) along axis 0.
Tensor Rows(const Tensor& t, int64_t first, int64_t count) {
  Shape shape = t.shape();
  const int64_t bytes = t.size_bytes() / shape[0];
  shape[0] = count;
  const auto* data = t.data() + first * bytes;
  return Tensor::FromValues<std::byte>(t.dtype(), shape, std::vector<std::byte>(data, data + count * bytes));
}

// `t` with its elements rotated, one step further for each row: rows differ and remain what the network expects.
Tensor Repeated(const Tensor& t, int64_t rows) {
  Shape shape = t.shape();
  shape[0] = rows;
  const int64_t bytes = t.size_bytes() / t.shape()[0], step = BytesOf(t.dtype());
  std::vector<std::byte> out(static_cast<size_t>(rows * bytes));
  for (int64_t r = 0; r < rows; ++r) {
    auto* to = out.data() + r * bytes;
    std::memcpy(to, t.data(), static_cast<size_t>(bytes));
    std::rotate(to, to + r * 3 * step % bytes, to + bytes);
  }
  return Tensor::FromValues<std::byte>(t.dtype(), shape, out);
}

class BatchTest : public ::testing::TestWithParam<const char*> {};

TEST_P(BatchTest, RowsOfABatchAnswerAsAlone) {
  const fs::path folder = ModelFolder(GetParam());
  OCTET_SKIP_WITHOUT(folder);
  const std::shared_ptr<Program> program = CompileModel(GetParam());
  ASSERT_NE(program, nullptr);
  const bool npz = fs::exists(folder / "io.npz");
  const Tensor sample = npz ? ReadNpz(folder / "io.npz", "input") : ReadInputs(folder / "test_data_set_0", *program)[0];
  for (int64_t rows : {2, 3}) {
    const Tensor batch = Repeated(Rows(sample, 0, 1), rows);
    auto together = RunProgram(*program, {batch}, 2);
    ASSERT_TRUE(together.ok()) << together.status();
    for (int64_t r = 0; r < rows; ++r) {
      auto alone = RunProgram(*program, {Rows(batch, r, 1)}, 2);
      ASSERT_TRUE(alone.ok()) << alone.status();
      for (size_t i = 0; i < alone->size(); ++i) {
        ExpectNear(Rows((*together)[i], r, 1), (*alone)[i], kRow, "row " + std::to_string(r) + " output " + std::to_string(i));
      }
    }
  }
  EXPECT_GE(program->Cache().specialisations, 3);
}

INSTANTIATE_TEST_SUITE_P(Shared, BatchTest,
                         ::testing::Values("cifar10-large-marabou", "dnsmos-p835", "nnsplit-bidi-lstm-tract",
                                           "oww-embedding", "ppocr-mobile-v2-cls", "ppocr-v3-det", "stressrnn-ru",
                                           "super-resolution-10", "vit-pgd-cifar10", "yunet-n-dynamic"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// A stream in one piece equals the same stream in pieces, with the caches fed back.
TEST(SequenceTest, FireredvadInPiecesEqualsItInOne) {
  const fs::path folder = ModelFolder("fireredvad-stream");
  OCTET_SKIP_WITHOUT(folder);
  const std::shared_ptr<Program> program = CompileModel("fireredvad-stream");
  ASSERT_NE(program, nullptr);
  const std::vector<Tensor> inputs = ReadInputs(folder / "test_data_set_0", *program);
  const Shape shape = inputs[0].shape();  // [1, time, 80]
  const Tensor frames = inputs[0].Reshaped({shape[1], 1, shape[2]});
  auto whole = RunProgram(*program, inputs, 2);
  ASSERT_TRUE(whole.ok()) << whole.status();
  Tensor caches = inputs[1];
  int pieces = 0;
  for (int64_t at = 0; at < shape[1]; ++pieces) {
    const int64_t count = std::min<int64_t>(1 + pieces % 3, shape[1] - at);
    auto part = RunProgram(*program, {Rows(frames, at, count).Reshaped({1, count, shape[2]}), caches}, 2);
    ASSERT_TRUE(part.ok()) << part.status();
    const Tensor want = Rows((*whole)[0].Reshaped({shape[1], 1, 1}), at, count).Reshaped({1, count, 1});
    ExpectNear((*part)[0], want, 1e-4, "frames from " + std::to_string(at));
    caches = (*part)[1];
    at += count;
  }
  EXPECT_GT(pieces, 1);
  ExpectNear(caches, (*whole)[1], 1e-4, "caches");
}

class StateTest : public ::testing::TestWithParam<const char*> {};

// Outputs behind the first are the next step's states. They matter, and a context that has served other streams in between
// continues this one as a fresh one does.
TEST_P(StateTest, StepsContinueFromTheirStates) {
  const fs::path folder = ModelFolder(GetParam());
  OCTET_SKIP_WITHOUT(folder);
  const std::shared_ptr<Program> program = CompileModel(GetParam());
  ASSERT_NE(program, nullptr);
  const std::vector<Tensor> start = ReadInputs(folder / "test_data_set_0", *program);
  std::vector<Tensor> inputs = start, first;
  for (int step = 0; step < 4; ++step) {
    auto outputs = RunProgram(*program, inputs, 2);
    ASSERT_TRUE(outputs.ok()) << outputs.status();
    auto other = RunProgram(*program, start, 2);
    ASSERT_TRUE(other.ok()) << other.status();
    auto again = RunProgram(*program, inputs, 2);
    ASSERT_TRUE(again.ok()) << again.status();
    for (size_t i = 0; i < outputs->size(); ++i) EXPECT_EQ((*again)[i].ToF32(), (*outputs)[i].ToF32()) << step;
    if (step == 0) {
      first = *outputs;
    } else {
      EXPECT_NE((*outputs)[0].ToF32(), first[0].ToF32()) << "step " << step << " does not see its state";
    }
    // By shape: the state may be any input behind the first.
    for (size_t i = 1; i < outputs->size(); ++i) {
      for (size_t k = 1; k < inputs.size(); ++k) {
        if (inputs[k].shape() == (*outputs)[i].shape() && inputs[k].dtype() == (*outputs)[i].dtype()) inputs[k] = (*outputs)[i];
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shared, StateTest,
                         ::testing::Values("dtln-1", "gtcrn-simple", "silero-vad-op18-ifless", "silero-vad-16k-op15"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Heights and widths in one program: results have the size that follows from the input's, and a size asked for again
// gives what it gave before. (tests/peers compares the values with ONNX Runtime.)
TEST(SizesTest, YunetAndPpocrAtSeveralSizes) {
  struct Network {
    const char* model;
    std::vector<std::pair<int64_t, int64_t>> sizes;
    int64_t stride;  // elements of output 0 per image: H W / stride^2
  };
  for (const Network& network : {Network{"yunet-n-dynamic", {{64, 96}, {320, 320}, {160, 32}}, 8},
                                 Network{"ppocr-v3-det", {{64, 96}, {32, 160}, {96, 96}}, 1}}) {
    const fs::path folder = ModelFolder(network.model);
    OCTET_SKIP_WITHOUT(folder);
    const std::shared_ptr<Program> program = CompileModel(network.model);
    ASSERT_NE(program, nullptr);
    std::vector<std::vector<float>> results;
    for (int round = 0; round < 2; ++round) {
      size_t k = 0;
      for (const auto& [h, w] : network.sizes) {
        std::vector<float> pixels(static_cast<size_t>(3 * h * w));
        const CounterRng rng(5);
        for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(rng.Uniform(i));
        auto outputs = RunProgram(*program, {Tensor::FromF32({1, 3, h, w}, pixels)}, 2);
        ASSERT_TRUE(outputs.ok()) << outputs.status();
        EXPECT_EQ((*outputs)[0].num_elements(), h * w / network.stride / network.stride);
        if (round == 0) {
          results.push_back((*outputs)[0].ToF32());
        } else {
          EXPECT_EQ((*outputs)[0].ToF32(), results[k]);
        }
        ++k;
      }
    }
    EXPECT_EQ(program->Cache().specialisations, 3);
  }
}

}  // namespace
}  // namespace octet::engine
