// Agreement of one output over the latest comparisons, with 95 % confidence intervals.
//
//   top-1     agreeing rows / rows; Wilson's score interval, which holds near 1 and for few rows
//   SQNR      R = sum noise / sum signal over comparisons; R's standard error as of a ratio estimator,
//             se^2 = m / (m - 1) * sum (noise_i - R signal_i)^2 / (sum signal)^2, m comparisons; bounds at R -+ 1.96
//             se, in dB
//   cosine    mean over rows
//
// Rows are taken as independent: repeated inputs make the intervals narrower than they should be.
// Sources: E. B. Wilson, JASA 22 (1927); W. G. Cochran, Sampling Techniques, section 6.4.
#ifndef OCTET_SERVER_COMPARISON_WINDOW_H_
#define OCTET_SERVER_COMPARISON_WINDOW_H_

#include <cstdint>
#include <deque>
#include <limits>

#include "absl/time/time.h"
#include "server/comparison/output_agreement.h"

namespace octet::server {

// An estimate within its 95 % interval.
struct Estimate {
  double value = 0;
  double lower = 0;
  double upper = 0;
};

// Wilson's interval of `successes` in `trials`. Requires: 0 <= successes <= trials, trials > 0.
Estimate WilsonInterval(int64_t successes, int64_t trials);

struct WindowSummary {
  int64_t comparisons = 0;
  int64_t rows = 0;
  bool classes = false;  // top1 means something
  Estimate top1;
  Estimate sqnr_db;  // with one comparison the bounds are -+kMaxDb
  double cosine = 0;
};

struct WindowLimits {
  int64_t max_rows = 10'000;
  absl::Duration max_age = absl::Minutes(10);
};

// Thread-compatible. At most max_rows rows (one comparison at least) and nothing older than max_age.
class AgreementWindow {
 public:
  explicit AgreementWindow(WindowLimits limits) : limits_(limits) {}

  void Add(const OutputAgreement& agreement, absl::Time now);
  void Reset();
  WindowSummary Summary(absl::Time now) const;  // all zero when empty; linear in the comparisons held

 private:
  struct Entry {
    absl::Time time;
    OutputAgreement agreement;
  };

  const WindowLimits limits_;
  std::deque<Entry> entries_;
  int64_t rows_ = 0;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_COMPARISON_WINDOW_H_
