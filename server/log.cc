// JSON lines.
#include "server/log.h"

#include <unistd.h>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/quoted.h"

namespace octet::server {
namespace {

absl::string_view NameOf(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
  }
  return "";
}

}  // namespace

std::string FormatLog(absl::string_view time, Severity severity, absl::string_view message,
                      LogFields fields) {
  std::string line = "{\"time\":";
  AppendQuoted(time, &line);
  line += ",\"severity\":";
  AppendQuoted(NameOf(severity), &line);
  line += ",\"message\":";
  AppendQuoted(message, &line);
  for (const auto& [key, value] : fields) {
    line.push_back(',');
    AppendQuoted(key, &line);
    line.push_back(':');
    if (value.quoted()) {
      AppendQuoted(value.text(), &line);
    } else {
      line += value.text();
    }
  }
  line.push_back('}');
  return line;
}

void Log(Severity severity, absl::string_view message, LogFields fields) {
  std::string line =
      FormatLog(absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone()),
                severity, message, fields);
  line.push_back('\n');
  // A log that cannot be written has nowhere to be reported.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace octet::server
