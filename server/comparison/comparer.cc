// The thread, its contexts, and the collected replays of sampled references.
#include "server/comparison/comparer.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/parallel_for.h"
#include "base/status.h"
#include "base/tensor.h"
#include "server/batch.h"
#include "server/log.h"

namespace octet::server {
namespace {

constexpr absl::Duration kTick = absl::Seconds(1);       // housekeeping without replays
constexpr std::chrono::milliseconds kLongestNap(20);     // waiting for a slot; SlotFreed ends it
constexpr size_t kMostContexts = 4;

void RunAtLowestPriority() {
  sched_param parameters{};
  if (sched_setscheduler(0, SCHED_IDLE, &parameters) != 0) {
    // On Linux a thread id names one thread here.
    (void)setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 19);
  }
}

absl::Duration ThreadCpu() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return absl::DurationFromTimespec(now);
}

std::vector<float> Floats(DType dtype, const Shape& shape, ByteSpan bytes) {
  if (dtype != DType::kF32) return Tensor(dtype, shape, bytes.data(), nullptr).ToF32();
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

}  // namespace

Comparer::Comparer(ComparerOptions options, Clock* clock, Loader* loader)
    : options_(std::move(options)), clock_(clock), loader_(loader), queue_(options_.limits), thread_([this] {
        Work();
      }) {}

Comparer::~Comparer() { Stop(); }

void Comparer::Stop() {
  stopping_ = true;
  SlotFreed();
  queue_.Stop();
  if (thread_.joinable()) thread_.join();
}

void Comparer::Work() {
  if (options_.lowest_priority) RunAtLowestPriority();
  SetTeamSize(1);
  while (!stopping_) {
    std::optional<Replay> replay = queue_.Take(clock_, clock_->Now() + kTick);
    if (replay.has_value()) Handle(*std::move(replay));
    Unpark();
    KeepOrEvictSampledReferences();
    DropStaleContexts();
  }
  for (auto& [control, parked] : parked_) {
    for (const Replay& replay : parked.replays) replay.pair->CountDropped();
  }
  parked_.clear();
  contexts_.clear();
}

bool Comparer::AwaitFreeSlot(absl::Time until) {
  while (options_.busy() && !stopping_) {
    if (clock_->Now() >= until) return false;
    waits_for_slot_ = true;
    // A slot that was freed before the line above rang no bell.
    if (options_.busy() && !stopping_) (void)slot_freed_.try_acquire_for(kLongestNap);
    waits_for_slot_ = false;
  }
  return !stopping_;
}

void Comparer::Handle(Replay replay) {
  VersionControl& control = *replay.control;
  const PairLabels& labels = replay.pair->labels();
  const std::string& variant = replay.by_reference ? labels.variant : labels.reference;
  const std::optional<ReplayTarget> target = control.target(variant);
  if (!target.has_value()) {
    if (control.reference_sampled() && !replay.by_reference) return Park(std::move(replay));
    return replay.pair->CountDropped();
  }
  if (control.reference_sampled()) sampled_.insert_or_assign(&control, replay.control);
  if (!AwaitFreeSlot(replay.answered_at + options_.limits.max_age) || !control.allowance().Affords(clock_->Now())) {
    return replay.pair->CountDropped();
  }
  const absl::Duration start = ThreadCpu();
  const absl::Status status = Run(&replay, variant, *target);
  control.allowance().Spend(ThreadCpu() - start);
  if (absl::IsCancelled(status)) {
    replay.pair->CountDropped();
  } else if (!status.ok()) {
    replay.pair->CountFailed();
    Log(Severity::kWarning, "comparison failed",
        {{"model", labels.model}, {"variant", labels.variant}, {"ran", variant}, {"error", status.ToString()}});
  }
}

absl::StatusOr<Comparer::CachedContext*> Comparer::ContextFor(const Replay& replay, const std::string& variant,
                                                              const ReplayTarget& target,
                                                              const std::vector<Shape>& shapes) {
  for (auto it = contexts_.begin(); it != contexts_.end(); ++it) {
    if (it->program != target.program.get() || it->shapes != shapes) continue;
    contexts_.splice(contexts_.begin(), contexts_, it);
    return &contexts_.front();
  }
  struct Making {
    absl::Mutex mu;
    absl::CondVar made;
    bool done = false;
    absl::StatusOr<std::unique_ptr<engine::Context>> context = absl::InternalError("not made");
  };
  auto making = std::make_shared<Making>();
  const bool scheduled = loader_->Schedule([this, making, program = target.program, shapes] {
    auto context = options_.make_context(*program, shapes, 1);
    absl::MutexLock lock(&making->mu);
    making->context = std::move(context);
    making->done = true;
    making->made.SignalAll();
  });
  if (!scheduled) return absl::ResourceExhaustedError("too many new input shapes at once");
  absl::MutexLock lock(&making->mu);
  while (!making->done) making->made.Wait(&making->mu);
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<engine::Context> context, std::move(making->context));
  if (contexts_.size() >= kMostContexts) contexts_.pop_back();
  contexts_.push_front({replay.control, variant, target.program.get(), shapes, std::move(context)});
  return &contexts_.front();
}

absl::Status Comparer::RunTimed(const Replay& replay, const std::string& variant, const ReplayTarget& target,
                                const BoundRequest& bound, CachedContext** used, absl::Duration* cpu) {
  const ModelSignature& signature = *target.signature;
  OCTET_ASSIGN_OR_RETURN(
      *used, ContextFor(replay, variant, target,
                        ShapesOfBatch(bound.shapes, signature.batchable, BucketFor(bound.rows, signature.max_batch))));
  engine::Context& context = *(*used)->context;
  OCTET_RETURN_IF_ERROR(AssembleBatch(signature, {&bound}, &context));
  const absl::Duration start = ThreadCpu();
  const absl::Time until = clock_->Now() + options_.limits.max_age;
  OCTET_RETURN_IF_ERROR(context.RunGivingWay([&] {
    return AwaitFreeSlot(until) ? absl::OkStatus() : absl::CancelledError("no slot was free for too long");
  }));
  *cpu = ThreadCpu() - start;
  ++(*used)->runs;
  return absl::OkStatus();
}

absl::Status Comparer::Run(Replay* replay, const std::string& variant, const ReplayTarget& target) {
  const absl::Duration start = ThreadCpu();
  const bool times_due = replay->pair->TimesDue();
  // Twins share names, not the order of their tensors: bound anew, by name.
  InferRequest request = std::move(replay->bound.request);
  request.outputs.clear();
  std::vector<size_t> compared;  // per output of `request`, which one of the answer; an ensemble's extra ones have no twin
  for (size_t i = 0; i < replay->bound.outputs.size(); ++i) {
    const auto index = static_cast<size_t>(replay->bound.outputs[i]);
    if (index >= replay->answered_as->own_outputs()) continue;
    request.outputs.push_back(replay->answered_as->outputs[index].name);
    compared.push_back(i);
  }
  if (compared.empty()) return absl::OkStatus();
  OCTET_ASSIGN_OR_RETURN(BoundRequest bound, Bind(std::move(request), *target.signature));
  CachedContext* used = nullptr;
  absl::Duration run_cpu;
  OCTET_RETURN_IF_ERROR(RunTimed(*replay, variant, target, bound, &used, &run_cpu));
  const bool warm = used->runs > 1;
  std::map<std::string, OutputAgreement> agreements;
  for (size_t i = 0; i < bound.outputs.size(); ++i) {
    const engine::Signature& output = target.signature->outputs[static_cast<size_t>(bound.outputs[i])];
    if (!IsFloat(output.dtype)) continue;
    Shape shape = used->context->output_shape(bound.outputs[i]);
    if (target.signature->batchable && !shape.empty()) shape[0] = bound.rows;
    const auto bytes = static_cast<size_t>(ByteSize(output.dtype, shape));
    ByteSpan ran = used->context->output(bound.outputs[i]);
    const ByteSpan answered = replay->outputs[compared[i]];
    if (answered.size() != bytes || ran.size() < bytes) {
      return absl::InternalError(absl::StrCat("output '", output.name, "' has ", answered.size(),
                                              " bytes of one variant, ", bytes, " of the other"));
    }
    const std::vector<float> a = Floats(output.dtype, shape, ran.subspan(0, bytes));
    const std::vector<float> b = Floats(output.dtype, shape, answered);
    agreements[output.name] = replay->by_reference ? CompareOutput(b, a, shape) : CompareOutput(a, b, shape);
  }
  const PairLabels& labels = replay->pair->labels();
  const std::string& other = replay->by_reference ? labels.reference : labels.variant;
  if (const std::optional<ReplayTarget> twin = replay->control->target(other); times_due && warm && twin.has_value()) {
    OCTET_ASSIGN_OR_RETURN(const BoundRequest again, Bind(std::move(bound.request), *twin->signature));
    CachedContext* twin_used = nullptr;
    absl::Duration twin_cpu;
    OCTET_RETURN_IF_ERROR(RunTimed(*replay, other, *twin, again, &twin_used, &twin_cpu));
    // A context's first run touches its memory.
    if (twin_used->runs == 1) OCTET_RETURN_IF_ERROR(RunTimed(*replay, other, *twin, again, &twin_used, &twin_cpu));
    replay->pair->RecordTimes(replay->by_reference ? run_cpu : twin_cpu, replay->by_reference ? twin_cpu : run_cpu);
  }
  replay->pair->Record(agreements, ThreadCpu() - start, clock_->Now());
  return absl::OkStatus();
}

void Comparer::Park(Replay replay) {
  if (queued_bytes() + replay.bytes > options_.limits.max_bytes) return replay.pair->CountDropped();
  parked_bytes_ += replay.bytes;
  replay.pair->AddWaiting(1);
  Parked& parked = parked_[replay.control.get()];
  parked.control = replay.control;
  parked.replays.push_back(std::move(replay));
  if (parked.replays.size() > 2 * options_.sampled_count) {  // the reference is long in coming
    parked.replays.front().pair->AddWaiting(-1);
    parked.replays.front().pair->CountDropped();
    parked_bytes_ -= parked.replays.front().bytes;
    parked.replays.pop_front();
  }
}

void Comparer::Unpark() {
  for (auto it = parked_.begin(); it != parked_.end() && !stopping_;) {
    Parked& parked = it->second;
    const bool resident = parked.control->target(parked.control->reference()).has_value();
    if (!resident) {
      const bool due = parked.replays.size() >= options_.sampled_count ||
                       clock_->Now() - parked.replays.front().answered_at >= options_.sampled_age;
      if (due && !parked.asked) {
        parked.asked = true;
        options_.load_reference(*parked.control);
      }
      ++it;
      continue;
    }
    while (!parked.replays.empty() && !stopping_) {
      Replay replay = std::move(parked.replays.front());
      parked.replays.pop_front();
      parked_bytes_ -= replay.bytes;
      replay.pair->AddWaiting(-1);
      replay.answered_at = clock_->Now();  // of the wait for quiet
      Handle(std::move(replay));
    }
    std::erase_if(contexts_, [&](const CachedContext& c) { return c.control.lock() == parked.control; });
    it = parked_.erase(it);
  }
}

// A sampled reference leaves when nothing is left to compare with it, unless it answers for a variant.
void Comparer::KeepOrEvictSampledReferences() {
  std::erase_if(sampled_, [this](const auto& item) {
    const std::shared_ptr<VersionControl> control = item.second.lock();
    if (control == nullptr) return true;
    const bool parked = parked_.contains(control.get());
    const bool resident = control->target(control->reference()).has_value();
    if (!control->AnyTripped()) {
      if (resident && !parked) options_.evict_reference(*control);
      return !parked;
    }
    if (!resident && !parked) options_.load_reference(*control);
    return false;
  });
}

void Comparer::DropStaleContexts() {
  std::erase_if(contexts_, [](const CachedContext& cached) {
    const std::shared_ptr<VersionControl> control = cached.control.lock();
    if (control == nullptr) return true;
    const std::optional<ReplayTarget> target = control->target(cached.variant);
    return !target.has_value() || target->program.get() != cached.program;
  });
}

}  // namespace octet::server
