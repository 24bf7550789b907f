// The decision to let the reference answer for a variant whose answers no longer agree with it, and to come back.
//
// Judged on intervals, so that noise does not switch: it trips when the upper bound of some output's agreement lies
// below the configured minimum, and recovers when the lower bounds of all outputs, from comparisons made since the
// trip, lie above it. Between the two nothing changes: the interval's width is the hysteresis.
#ifndef OCTET_SERVER_COMPARISON_GUARD_H_
#define OCTET_SERVER_COMPARISON_GUARD_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "server/comparison/window.h"

namespace octet::server {

struct GuardSettings {
  std::optional<double> min_top1_agreement;  // ratio in [0, 1]
  std::optional<double> min_sqnr_db;
  int64_t min_comparisons = 30;  // fewer decide nothing
  enum class Recovery : uint8_t { kAutomatic, kManual } recovery = Recovery::kAutomatic;

  bool enabled() const { return min_top1_agreement.has_value() || min_sqnr_db.has_value(); }
};

using OutputSummaries = std::map<std::string, WindowSummary>;  // by output

enum class GuardAction : uint8_t { kStay, kTrip, kRecover };

struct GuardDecision {
  GuardAction action = GuardAction::kStay;
  std::string reason;  // "output 'logits': top-1 agreement 0.61 in [0.52, 0.70] of 120 rows is below 0.98"
};

// What to do in the present state (`tripped`), as a pure function. A bound on top-1 agreement looks at outputs of
// classes only.
GuardDecision DecideGuard(const GuardSettings& settings, bool tripped, const OutputSummaries& outputs);

}  // namespace octet::server

#endif  // OCTET_SERVER_COMPARISON_GUARD_H_
