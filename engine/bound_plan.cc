// Addresses and bound kernels of a plan.
#include "engine/bound_plan.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"

namespace octet::engine {

absl::StatusOr<std::unique_ptr<BoundPlan>> BoundPlan::Create(const Plan& plan,
                                                             absl::Span<std::byte* const> inputs) {
  OCTET_ASSIGN_OR_RETURN(Buffer arena, Buffer::Allocate(plan.memory.arena_bytes));
  OCTET_ASSIGN_OR_RETURN(Buffer scratch, Buffer::Allocate(plan.scratch_bytes));
  auto bound = std::unique_ptr<BoundPlan>(new BoundPlan(plan, std::move(arena), std::move(scratch)));
  OCTET_RETURN_IF_ERROR(bound->Bind(inputs));
  return bound;
}

absl::Status BoundPlan::Bind(absl::Span<std::byte* const> inputs) {
  for (int64_t offset : plan_.memory.offsets) addresses_.push_back(arena_.data() + offset);
  if (plan_.external_inputs) {
    if (inputs.size() != plan_.input_buffers.size()) return absl::InternalError("addresses of inputs are missing");
    for (size_t i = 0; i < inputs.size(); ++i) addresses_[static_cast<size_t>(plan_.input_buffers[i])] = inputs[i];
  }
  for (const Step& step : plan_.steps) {
    std::vector<const void*> src;
    std::vector<void*> dst;
    for (const Location& l : step.src) src.push_back(l.buffer >= 0 ? At(l.buffer) : l.constant->data.data());
    for (const Location& l : step.dst) dst.push_back(At(l.buffer));
    OCTET_ASSIGN_OR_RETURN(kernels::BoundKernel bound, step.kernel->Bind({src, dst, scratch_.data(), &team_}));
    steps_.push_back(std::move(bound));
  }
  return absl::OkStatus();
}

absl::Status BoundPlan::CheckTeam() const {
  if (CurrentTeamSize() == plan_.threads) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("specialised for a team of ", plan_.threads,
                                          ", run on a thread with a team of ", CurrentTeamSize()));
}

absl::Status BoundPlan::RunStep(size_t i) {
  absl::Status status = steps_[i]();
  return status.ok() ? status : Annotate(status, absl::StrCat("node '", plan_.steps[i].info.node, "'"));
}

absl::Status BoundPlan::Run() {
  OCTET_RETURN_IF_ERROR(CheckTeam());
  for (size_t i = 0; i < steps_.size(); ++i) {
    OCTET_RETURN_IF_ERROR(RunStep(i));
  }
  return absl::OkStatus();
}

absl::Status BoundPlan::RunGivingWay(absl::FunctionRef<absl::Status()> go_on) {
  OCTET_RETURN_IF_ERROR(CheckTeam());
  for (size_t i = 0; i < steps_.size(); ++i) {
    OCTET_RETURN_IF_ERROR(go_on());
    OCTET_RETURN_IF_ERROR(RunStep(i));
  }
  return absl::OkStatus();
}

absl::Status BoundPlan::RunTimed(absl::Span<double> seconds) {
  OCTET_RETURN_IF_ERROR(CheckTeam());
  if (seconds.size() != steps_.size()) {
    return absl::InternalError(absl::StrCat(seconds.size(), " times for ", steps_.size(), " steps"));
  }
  for (size_t i = 0; i < steps_.size(); ++i) {
    const absl::Time start = absl::Now();
    OCTET_RETURN_IF_ERROR(RunStep(i));
    seconds[i] += absl::ToDoubleSeconds(absl::Now() - start);
  }
  return absl::OkStatus();
}

}  // namespace octet::engine
