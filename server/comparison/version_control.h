// What changes while a version is served: who answers, what is compared with what, and who is in memory to be compared
// with.
#ifndef OCTET_SERVER_COMPARISON_VERSION_CONTROL_H_
#define OCTET_SERVER_COMPARISON_VERSION_CONTROL_H_

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "engine/program.h"
#include "server/comparison/cpu_allowance.h"
#include "server/comparison/pair.h"
#include "server/signature.h"
#include "server/traffic.h"

namespace octet::server {

// A variant in memory, as replays need it.
struct ReplayTarget {
  std::shared_ptr<const ModelSignature> signature;
  std::shared_ptr<engine::Program> program;
};

struct ControlOptions {
  std::string model, version;
  std::vector<std::string> variants;  // all that the version has, in memory or not
  std::string primary;
  std::string reference;  // empty: none, and no pairs
  TrafficSettings traffic;
  double fraction = 0;
  double max_comparison_cpus = 0.1;  // CPUs that comparisons may keep busy
  WindowLimits window;
  GuardSettings guard;
  bool reference_sampled = false;  // the reference is in memory only while replays run
};

// Thread-safe. Requests never wait for a lock that the comparison's thread, which runs at the lowest priority, holds.
class VersionControl {
 public:
  VersionControl(ControlOptions options, absl::Time now);

  const std::string& model() const { return options_.model; }
  const std::string& version() const { return options_.version; }
  const std::string& reference() const { return options_.reference; }
  bool reference_sampled() const { return options_.reference_sampled; }

  std::string primary() const;
  TrafficSettings traffic() const;
  double fraction() const { return fraction_.load(std::memory_order_relaxed); }

  // Sends all requests that name no variant to this one; ends weights. Errors: kNotFound.
  absl::Status SetPrimary(const std::string& variant);
  // Splits them; empty: all to the primary. Errors: kInvalidArgument (see CheckWeights), kNotFound.
  absl::Status SetTraffic(TrafficSettings traffic);
  // Errors: kInvalidArgument outside [0, 1], kFailedPrecondition without a reference.
  absl::Status SetFraction(double fraction);

  // The variant that a request naming none is meant for; `sticky_key`: the value of its sticky parameter, if it has
  // one. The guard is not asked here.
  std::string Intended(const std::optional<std::string>& sticky_key);

  // The pair of this variant with the reference; null for the reference itself and where there is none.
  std::shared_ptr<Pair> pair(const std::string& variant) const;
  const std::map<std::string, std::shared_ptr<Pair>>& pairs() const { return pairs_; }
  bool AnyTripped() const;

  // Whether this answer is to be compared: true for `fraction` of the calls.
  bool Sample() { return fraction() > 0 && samples_.Next() < fraction(); }

  // Who is in memory; set by the repository, asked by the comparison.
  void SetTarget(const std::string& variant, std::optional<ReplayTarget> target);
  void ClearTargets();
  std::optional<ReplayTarget> target(const std::string& variant) const;

  // Of the comparison's thread only.
  CpuAllowance& allowance() { return allowance_; }

 private:
  absl::Status Known(const std::string& variant) const;

  const ControlOptions options_;
  std::map<std::string, std::shared_ptr<Pair>> pairs_;  // not changed after construction
  PointSequence points_, samples_;
  std::atomic<double> fraction_;
  CpuAllowance allowance_;
  mutable absl::Mutex mu_;
  std::string primary_ ABSL_GUARDED_BY(mu_);
  TrafficSettings traffic_ ABSL_GUARDED_BY(mu_);
  mutable absl::Mutex targets_mu_;
  std::map<std::string, ReplayTarget> targets_ ABSL_GUARDED_BY(targets_mu_);
};

}  // namespace octet::server

#endif  // OCTET_SERVER_COMPARISON_VERSION_CONTROL_H_
