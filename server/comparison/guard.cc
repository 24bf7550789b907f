// Bounds against intervals.
#include "server/comparison/guard.h"

#include "absl/strings/str_format.h"

namespace octet::server {
namespace {

struct Judged {
  bool below = false;  // surely below the minimum
  bool above = false;  // surely above, or exactly as good as can be
  std::string words;
};

Judged Judge(const std::string& output, const char* figure, const Estimate& estimate, double minimum, double best,
             int64_t rows) {
  Judged judged;
  judged.below = estimate.upper < minimum;
  judged.above = estimate.lower > minimum || (estimate.value >= best && minimum >= best);
  judged.words = absl::StrFormat("output '%s': %s %.4g in [%.4g, %.4g] of %d rows is %s %.4g", output, figure,
                                 estimate.value, estimate.lower, estimate.upper, rows,
                                 judged.below   ? "below"
                                 : judged.above ? "above"
                                                : "around",
                                 minimum);
  return judged;
}

}  // namespace

GuardDecision DecideGuard(const GuardSettings& settings, bool tripped, const OutputSummaries& outputs) {
  GuardDecision decision;
  bool all_above = true;
  std::string why_above;
  for (const auto& [name, summary] : outputs) {
    // An output that few requests ask for must not keep another from tripping, nor be taken for good.
    if (summary.comparisons < settings.min_comparisons) {
      all_above = false;
      continue;
    }
    const auto judge = [&](const Judged& judged) {
      if (judged.below && decision.reason.empty()) decision.reason = judged.words;
      all_above = all_above && judged.above;
      why_above += (why_above.empty() ? "" : "; ") + judged.words;
    };
    if (settings.min_top1_agreement.has_value() && summary.classes) {
      judge(Judge(name, "top-1 agreement", summary.top1, *settings.min_top1_agreement, 1, summary.rows));
    }
    if (settings.min_sqnr_db.has_value()) {
      judge(Judge(name, "SQNR in dB", summary.sqnr_db, *settings.min_sqnr_db, kMaxDb, summary.rows));
    }
  }
  if (!tripped) {
    if (!decision.reason.empty()) decision.action = GuardAction::kTrip;
    return decision;
  }
  if (settings.recovery == GuardSettings::Recovery::kManual || !all_above || why_above.empty()) return {};
  return {GuardAction::kRecover, why_above};
}

}  // namespace octet::server
