// Octet's side of the comparison.
#include <cstring>
#include <utility>

#include "base/parallel_for.h"
#include "base/status.h"
#include "bench/engine/runner.h"

namespace octet::bench {
namespace {

class OctetRunnerImpl final : public OctetRunner {
 public:
  OctetRunnerImpl(engine::Program& program, std::unique_ptr<engine::Context> context, std::vector<Tensor> inputs)
      : program_(program), context_(std::move(context)), inputs_(std::move(inputs)) {}

  const std::string& engine() const override { return engine_; }

  absl::Status Prepare() override {
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const absl::Span<std::byte> to = context_->input(static_cast<int>(i));
      if (static_cast<int64_t>(to.size()) != inputs_[i].size_bytes()) {
        return absl::InternalError("an input's size differs from the context's");
      }
      std::memcpy(to.data(), inputs_[i].data(), to.size());
    }
    return absl::OkStatus();
  }

  absl::Status Run() override { return context_->Run(); }

  absl::StatusOr<std::vector<std::vector<float>>> Outputs() override {
    std::vector<std::vector<float>> outputs;
    for (size_t i = 0; i < program_.outputs().size(); ++i) {
      const absl::Span<const std::byte> from = context_->output(static_cast<int>(i));
      outputs.push_back(Tensor(program_.outputs()[i].dtype, context_->specialisation().output_shapes()[i],
                               from.data(), nullptr)
                            .ToF32());
    }
    return outputs;
  }

  engine::MemoryReport Memory() const override { return program_.Memory(); }
  const engine::Specialisation& specialisation() const override { return context_->specialisation(); }
  int64_t multiply_adds() const override {
    int64_t sum = 0;
    for (const engine::StepInfo& step : specialisation().Steps()) sum += step.multiply_adds;
    return sum;
  }

 private:
  engine::Program& program_;
  std::unique_ptr<engine::Context> context_;
  std::vector<Tensor> inputs_;
  const std::string engine_ = "octet";
};

}  // namespace

absl::StatusOr<std::unique_ptr<OctetRunner>> MakeOctetRunner(engine::Program& program, std::vector<Tensor> inputs,
                                                             int threads) {
  std::vector<Shape> shapes;
  for (const Tensor& input : inputs) shapes.push_back(input.shape());
  SetTeamSize(threads);
  OCTET_ASSIGN_OR_RETURN(auto specialisation, program.Specialise(shapes, threads));
  program.ReleaseInitializers();
  OCTET_ASSIGN_OR_RETURN(auto context, engine::Context::Create(specialisation));
  return std::make_unique<OctetRunnerImpl>(program, std::move(context), std::move(inputs));
}

}  // namespace octet::bench
