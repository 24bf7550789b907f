// A plan bound to memory: the arena, and every step's kernel bound to its addresses.
#ifndef OCTET_ENGINE_BOUND_PLAN_H_
#define OCTET_ENGINE_BOUND_PLAN_H_

#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/buffer.h"
#include "base/parallel_for.h"
#include "engine/specialise.h"

namespace octet::engine {

// Thread-compatible. The plan must outlive it.
class BoundPlan {
 public:
  // `inputs`: where the plan's inputs lie when they are not in its arena (Plan::external_inputs); they stay valid.
  static absl::StatusOr<std::unique_ptr<BoundPlan>> Create(const Plan& plan,
                                                           absl::Span<std::byte* const> inputs = {});

  // Must be called on a thread with the plan's team size.
  absl::Status Run();
  // The same, asking before each step whether to go on; ends with what `go_on` returns when that is an error.
  absl::Status RunGivingWay(absl::FunctionRef<absl::Status()> go_on);
  // The same as Run, adding the time of step i to seconds[i].
  absl::Status RunTimed(absl::Span<double> seconds);

  std::byte* input(size_t i) const { return At(plan_.input_buffers[i]); }
  std::byte* output(size_t i) const { return At(plan_.output_buffers[i]); }
  int64_t arena_bytes() const { return arena_.size_bytes(); }
  int64_t scratch_bytes() const { return scratch_.size_bytes(); }

 private:
  BoundPlan(const Plan& plan, Buffer arena, Buffer scratch)
      : plan_(plan), arena_(std::move(arena)), scratch_(std::move(scratch)), team_(plan.threads) {}
  absl::Status Bind(absl::Span<std::byte* const> inputs);
  absl::Status CheckTeam() const;
  absl::Status RunStep(size_t i);
  std::byte* At(int buffer) const { return addresses_[static_cast<size_t>(buffer)]; }

  const Plan& plan_;
  Buffer arena_, scratch_;
  OpenMpFor team_;
  std::vector<std::byte*> addresses_;  // per buffer
  std::vector<kernels::BoundKernel> steps_;
};

}  // namespace octet::engine

#endif  // OCTET_ENGINE_BOUND_PLAN_H_
