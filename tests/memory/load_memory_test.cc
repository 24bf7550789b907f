// Loading a large model holds one copy of its file and one of its packed weights, and afterwards only the latter.
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/cpu.h"
#include "base/parallel_for.h"
#include "engine/program.h"
#include "kernels/onednn.h"
#include "onnx/import.h"
#include "onnx/test_model.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kMegabyte = 1 << 20;

std::vector<float> Random(int64_t n, double scale) {
  static std::mt19937 generator(1);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = static_cast<float>(scale * (static_cast<double>(generator()) / 2147483648.0 - 1));
  return values;
}

// Convolutions with batch normalisation behind each (so that every weight is rewritten by folding), then a large
// matrix product. About 116 MB.
constexpr int64_t kChannels = 512, kSide = 7;
constexpr int kConvolutions = 10;
constexpr int64_t kLargest = kChannels * kSide * kSide * 224 * 4;

int64_t WriteModel(const fs::path& path) {
  onnx_io::TestModel model;
  model.Input("x", {1, kChannels, kSide, kSide});
  std::string last = "x";
  for (int i = 0; i < kConvolutions; ++i) {
    const std::string n = std::to_string(i);
    model.F32("w" + n, {kChannels, kChannels, 3, 3}, Random(kChannels * kChannels * 9, 0.02));
    for (const char* part : {"scale", "shift", "mean"}) model.F32(part + n, {kChannels}, Random(kChannels, 1));
    model.F32("variance" + n, {kChannels}, std::vector<float>(kChannels, 1));
    auto* conv = model.graph().add_node();
    conv->set_op_type("Conv");
    for (const std::string& input : {last, "w" + n}) conv->add_input(input);
    conv->add_output("c" + n);
    auto* pads = conv->add_attribute();
    pads->set_name("pads");
    pads->set_type(onnx::AttributeProto::INTS);
    for (int k = 0; k < 4; ++k) pads->add_ints(1);
    auto* bn = model.graph().add_node();
    bn->set_op_type("BatchNormalization");
    for (const std::string& input : {"c" + n, "scale" + n, "shift" + n, "mean" + n, "variance" + n}) bn->add_input(input);
    last = "b" + n;
    bn->add_output(last);
  }
  auto* flatten = model.graph().add_node();
  flatten->set_op_type("Flatten");
  flatten->add_input(last);
  flatten->add_output("f");
  model.F32("dense", {kChannels * kSide * kSide, 224}, Random(kLargest / 4, 0.01));
  auto* product = model.graph().add_node();
  product->set_op_type("MatMul");
  product->add_input("f");
  product->add_input("dense");
  product->add_output("y");
  model.Output("y", {1, 224});
  std::ofstream out(path, std::ios::binary);
  model.proto.SerializeToOstream(&out);
  out.close();
  return static_cast<int64_t>(fs::file_size(path));
}

TEST(LoadMemoryTest, PeakIsFilePlusPackedWeights) {
  const fs::path path = fs::temp_directory_path() / absl::StrCat("octet_load_memory_", getpid(), ".onnx");
  const int64_t file_bytes = WriteModel(path);
  ASSERT_GT(file_bytes, 100 * kMegabyte);
  SetTeamSize(2);
  malloc_trim(0);
  if (!ResetPeakResident()) {
    fs::remove(path);
    GTEST_SKIP() << "this machine does not let a process reset its peak resident size (/proc/self/clear_refs)";
  }
  const int64_t before = ResidentBytes();
  const absl::Time start = absl::Now();
  auto graph = onnx_io::ImportFile(path.string());
  fs::remove(path);
  ASSERT_TRUE(graph.ok()) << graph.status();
  auto program = engine::Program::Compile(*std::move(graph));
  ASSERT_TRUE(program.ok()) << program.status();
  auto specialisation = (*program)->Specialise({{1, kChannels, kSide, kSide}}, 2);
  ASSERT_TRUE(specialisation.ok()) << specialisation.status();
  auto context = engine::Context::Create(*specialisation);
  ASSERT_TRUE(context.ok()) << context.status();
  ASSERT_TRUE((*context)->Run().ok());
  const absl::Duration ready = absl::Now() - start;
  (*program)->ReleaseInitializers();
  kernels::ClearPrimitiveCache();
  malloc_trim(0);
  const int64_t peak = PeakResidentBytes() - before, after = ResidentBytes() - before;
  const engine::MemoryReport memory = (*program)->Memory();
  auto megabytes = [](int64_t bytes) { return static_cast<double>(bytes) / 1e6; };
  std::printf("file %.1f MB, packed weights %.1f MB, largest initializer %.1f MB: peak %.1f MB, resident after load "
              "%.1f MB, first answer after %.0f ms\n",
              megabytes(file_bytes), megabytes(memory.weights), megabytes(kLargest), megabytes(peak), megabytes(after),
              absl::ToDoubleMilliseconds(ready));
  EXPECT_LE(peak, file_bytes + memory.weights + kLargest + 64 * kMegabyte);
  EXPECT_LE(after, memory.weights + memory.activations + memory.scratchpad + 48 * kMegabyte)
      << "the file's tensors are still held";
}

}  // namespace
}  // namespace octet
