// Tables and progress.
#include "cli/console.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace octet::cli {

std::string Table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::string& cell : head) widths.push_back(cell.size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size() && i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  auto line = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string pad(widths[i] - cells[i].size(), ' ');
      absl::StrAppend(&text, i == 0 ? "" : "  ", i == 0 ? cells[i] + pad : pad + cells[i]);
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    text += '\n';
  };
  line(head);
  size_t total = 0;
  for (size_t w : widths) total += w + 2;
  absl::StrAppend(&text, std::string(total > 2 ? total - 2 : 0, '-'), "\n");
  for (const auto& row : rows) line(row);
  return text;
}

std::string Bytes(int64_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (bytes >= 1000000) return absl::StrFormat("%.2f MB", b / 1e6);
  if (bytes >= 1000) return absl::StrFormat("%.1f kB", b / 1e3);
  return absl::StrFormat("%d B", bytes);
}

std::string Fixed(double value, int digits) {
  return std::isnan(value) ? "-" : absl::StrFormat("%.*f", digits, value);
}

ProgressBar::ProgressBar() : terminal_(isatty(STDERR_FILENO) != 0) {}

void ProgressBar::Show(const compress::Progress& p) {
  if (p.total <= 0) return;
  if (p.stage != stage_) {
    stage_ = p.stage;
    started_ = absl::Now();
    last_tenth_ = -1;
  }
  const double share = static_cast<double>(p.done) / static_cast<double>(p.total);
  if (terminal_) {
    const auto left = (absl::Now() - started_) * ((1 - share) / std::max(share, 1e-9));
    const auto filled = static_cast<size_t>(share * 30);
    std::fprintf(stderr, "\r%-12s [%s%s] %d/%d  %s left   ", stage_.c_str(), std::string(filled, '#').c_str(),
                 std::string(30 - filled, '.').c_str(), static_cast<int>(p.done), static_cast<int>(p.total),
                 absl::FormatDuration(absl::Trunc(left, absl::Seconds(1))).c_str());
    if (p.done == p.total) std::fputc('\n', stderr);
    return;
  }
  const int64_t tenth = p.done * 10 / p.total;
  if (tenth == last_tenth_) return;
  last_tenth_ = tenth;
  std::fprintf(stderr, "%s %d/%d\n", stage_.c_str(), static_cast<int>(p.done), static_cast<int>(p.total));
}

}  // namespace octet::cli
