// No hot layer of a real network falls to a reference kernel, neither with this machine's best instructions nor with
// plain VNNI (ctest runs this program once for each).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "base/parallel_for.h"
#include "engine/program.h"
#include "onnx/import.h"
#include "tests/models/model_files.h"

namespace octet::engine {
namespace {

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
  for (const auto& entry : fs::directory_iterator(ModelFolder(""), error)) {
    const std::string name = entry.path().filename();
    if (fs::exists(entry.path() / "model.onnx") && name != "fns-candy") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  if (names.empty()) names.push_back("none");
  return names;
}

// The inputs that lie beside a model, or none.
std::vector<Tensor> StoredInputs(const Program& program, const std::string& model) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < program.inputs().size(); ++i) {
    const fs::path file = ModelFolder(model) / "test_data_set_0" / ("input_" + std::to_string(i) + ".pb");
    if (!fs::exists(file)) return {};
    inputs.push_back(ReadTensor(file));
  }
  return inputs;
}

// Shapes to compile for: those of the stored inputs with another batch; where none are stored, free dimensions become
// `batch` in front and a length that sequences take.
std::vector<Shape> ShapesFor(const Program& program, absl::Span<const Tensor> stored, int64_t batch) {
  std::vector<Shape> shapes;
  for (size_t k = 0; k < program.inputs().size(); ++k) {
    const Signature& input = program.inputs()[k];
    // A stored scalar may be written with one dimension.
    const bool fits = !stored.empty() && stored[k].shape().size() == input.shape.size();
    Shape shape = fits ? stored[k].shape() : input.shape;
    for (size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == kUnknownDim) shape[i] = 64;
    }
    if (!shape.empty() && input.shape[0] == kUnknownDim) shape[0] = batch;
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

// Runs once where stages are made as data decides, so that they are there to be looked at.
void RunStages(const std::shared_ptr<const Specialisation>& specialisation, absl::Span<const Tensor> inputs) {
  const std::vector<StepInfo> steps = specialisation->Steps();
  if (std::none_of(steps.begin(), steps.end(), [](const auto& s) { return s.implementation == "staged"; })) return;
  auto context = Context::Create(specialisation);
  ASSERT_TRUE(context.ok()) << context.status();
  for (size_t i = 0; i < inputs.size(); ++i) {
    const absl::Span<std::byte> to = (*context)->input(static_cast<int>(i));
    ASSERT_EQ(static_cast<int64_t>(to.size()), inputs[i].size_bytes());
    std::memcpy(to.data(), inputs[i].data(), to.size());
  }
  const absl::Status ran = (*context)->Run();
  ASSERT_TRUE(ran.ok()) << ran;
}

class DispatchTest : public ::testing::TestWithParam<std::string> {};

TEST_P(DispatchTest, HotLayersHaveFastKernels) {
  const fs::path file = ModelFolder(GetParam()) / "model.onnx";
  OCTET_SKIP_WITHOUT(file);
  auto graph = onnx_io::ImportFile(file.string());
  ASSERT_TRUE(graph.ok()) << graph.status();
  auto program = Program::Compile(*std::move(graph));
  ASSERT_TRUE(program.ok()) << program.status();
  const std::vector<Tensor> stored = StoredInputs(**program, GetParam());
  for (int64_t batch : {1, 8}) {
    if (batch > 1 && !(*program)->batch_proof().batchable) continue;
    SetTeamSize(2);
    auto specialisation = (*program)->Specialise(ShapesFor(**program, stored, batch), 2);
    ASSERT_TRUE(specialisation.ok()) << specialisation.status();
    if (batch == 1) RunStages(*specialisation, stored);
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
