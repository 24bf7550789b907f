// No hot layer of a real network falls to a reference kernel, neither with this machine's best instructions nor with
// plain VNNI (ctest runs this program once for each).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "base/parallel_for.h"
#include "engine/program.h"
#include "onnx/import.h"

namespace octet::engine {
namespace {

namespace fs = std::filesystem;

// A layer is hot when it does at least this share of its network's multiply-adds.
constexpr double kHotShare = 0.01;

bool IsReference(const StepInfo& step) {
  return step.implementation == "reference" || step.implementation == "plain" ||
         absl::StrContains(step.implementation, "ref:") ||
         absl::StrContains(step.implementation, "ref_");
}

// The folders of models that are not merely refused.
std::vector<std::string> Models() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(fs::path(OCTET_SHARED) / "models", error)) {
    const std::string name = entry.path().filename();
    if (fs::exists(entry.path() / "model.onnx") && name != "fns-candy") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  if (names.empty()) names.push_back("none");
  return names;
}

// Shapes to compile for: free dimensions become `batch` in front and a size that networks of images and sequences take.
std::vector<Shape> ShapesFor(const Program& program, int64_t batch) {
  std::vector<Shape> shapes;
  for (const Signature& input : program.inputs()) {
    Shape shape = input.shape;
    for (size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == kUnknownDim) shape[i] = i == 0 ? batch : 64;
    }
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

class DispatchTest : public ::testing::TestWithParam<std::string> {};

TEST_P(DispatchTest, HotLayersHaveFastKernels) {
  const fs::path file = fs::path(OCTET_SHARED) / "models" / GetParam() / "model.onnx";
  if (!fs::exists(file)) GTEST_SKIP() << "the shared models are not installed here";
  auto graph = onnx_io::ImportFile(file.string());
  ASSERT_TRUE(graph.ok()) << graph.status();
  auto program = Program::Compile(*std::move(graph));
  ASSERT_TRUE(program.ok()) << program.status();
  for (int64_t batch : {1, 8}) {
    if (batch > 1 && !(*program)->batch_proof().batchable) continue;
    SetTeamSize(2);
    auto specialisation = (*program)->Specialise(ShapesFor(**program, batch), 2);
    // Sizes are guessed here; tests/models checks that every network runs at its own.
    if (absl::IsInvalidArgument(specialisation.status())) GTEST_SKIP() << specialisation.status();
    ASSERT_TRUE(specialisation.ok()) << specialisation.status();
    int64_t total = 0;
    for (const StepInfo& step : (*specialisation)->Steps()) total += step.multiply_adds;
    EXPECT_GT(total, 0);
    for (const StepInfo& step : (*specialisation)->Steps()) {
      const double share = static_cast<double>(step.multiply_adds) / static_cast<double>(std::max<int64_t>(total, 1));
      EXPECT_FALSE(share >= kHotShare && IsReference(step))
          << "batch " << batch << ": " << step.op << " '" << step.node << "' (" << step.src_types << " -> "
          << step.dst_types << ", " << share * 100 << " % of the multiply-adds) runs as " << step.implementation;
    }
  }
}

std::string NameOfCase(const ::testing::TestParamInfo<std::string>& model) {
  std::string name = model.param;
  for (char& c : name) c = absl::ascii_isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Shared, DispatchTest, ::testing::ValuesIn(Models()), NameOfCase);

}  // namespace
}  // namespace octet::engine
