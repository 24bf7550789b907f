// Sums over the entries, anew at each summary: exact, however large an entry that left was.
#include "server/comparison/window.h"

#include <algorithm>
#include <cmath>

#include "base/statistics.h"

namespace octet::server {
namespace {

constexpr double kZ = 1.959964;  // two-sided 95 % of the normal distribution

}  // namespace

Estimate WilsonInterval(int64_t successes, int64_t trials) {
  const ShareInterval interval = octet::WilsonInterval(successes, trials, kZ);
  return {static_cast<double>(successes) / static_cast<double>(trials), interval.low, interval.high};
}

void AgreementWindow::Add(const OutputAgreement& agreement, absl::Time now) {
  if (agreement.rows <= 0) return;
  entries_.push_back({now, agreement});
  rows_ += agreement.rows;
  while (entries_.size() > 1 && (rows_ > limits_.max_rows || now - entries_.front().time > limits_.max_age)) {
    rows_ -= entries_.front().agreement.rows;
    entries_.pop_front();
  }
}

void AgreementWindow::Reset() {
  entries_.clear();
  rows_ = 0;
}

WindowSummary AgreementWindow::Summary(absl::Time now) const {
  WindowSummary summary;
  OutputAgreement sum;
  for (const Entry& entry : entries_) {
    if (now - entry.time > limits_.max_age) continue;
    ++summary.comparisons;
    summary.classes = entry.agreement.classes;
    sum.rows += entry.agreement.rows;
    sum.agreeing += entry.agreement.agreeing;
    sum.signal += entry.agreement.signal;
    sum.noise += entry.agreement.noise;
    sum.cosine += entry.agreement.cosine;
  }
  if (summary.comparisons == 0) return summary;
  summary.rows = sum.rows;
  if (summary.classes) summary.top1 = WilsonInterval(sum.agreeing, sum.rows);
  summary.cosine = sum.cosine / static_cast<double>(sum.rows);
  summary.sqnr_db = {Decibels(sum.signal, sum.noise), -kMaxDb, kMaxDb};
  if (summary.comparisons < 2 || sum.signal <= 0) return summary;
  const double ratio = sum.noise / sum.signal;
  double squares = 0;
  for (const Entry& entry : entries_) {
    if (now - entry.time > limits_.max_age) continue;
    const double residual = entry.agreement.noise - ratio * entry.agreement.signal;
    squares += residual * residual;
  }
  const double m = static_cast<double>(summary.comparisons);
  const double error = std::sqrt(m / (m - 1) * squares) / sum.signal;
  summary.sqnr_db.lower = Decibels(1, ratio + kZ * error);
  summary.sqnr_db.upper = Decibels(1, ratio - kZ * error);
  return summary;
}

}  // namespace octet::server
