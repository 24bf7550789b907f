// What commands show a person: aligned tables, byte counts, progress.
#ifndef OCTET_CLI_CONSOLE_H_
#define OCTET_CLI_CONSOLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "compress/compress.h"

namespace octet::cli {

// Columns padded to their widest cell; the first left-aligned, the others right-aligned, a rule below the head.
std::string Table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows);

// "1.08 MB" (10^6 bytes), "540 B".
std::string Bytes(int64_t bytes);

// "12.3", "0.45": `digits` behind the point; "-" for NaN.
std::string Fixed(double value, int digits);

// Progress on stderr: a bar with the time left on a terminal, a line at every tenth otherwise.
class ProgressBar {
 public:
  ProgressBar();
  void Show(const compress::Progress& progress);

 private:
  bool terminal_;
  std::string stage_;
  absl::Time started_;
  int64_t last_tenth_ = -1;
};

}  // namespace octet::cli

#endif  // OCTET_CLI_CONSOLE_H_
