// JSON lines.
#include "server/log.h"

#include <unistd.h>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace octet::server {
namespace {

void AppendQuoted(std::string* out, absl::string_view text) {
  out->push_back('"');
  for (char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (u < 0x20 || u == 0x7f) {
      absl::StrAppendFormat(out, "\\u%04x", static_cast<unsigned>(u));
    } else {
      out->push_back(c);
    }
  }
  out->push_back('"');
}

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
  AppendQuoted(&line, time);
  line += ",\"severity\":";
  AppendQuoted(&line, NameOf(severity));
  line += ",\"message\":";
  AppendQuoted(&line, message);
  for (const auto& [key, value] : fields) {
    line.push_back(',');
    AppendQuoted(&line, key);
    line.push_back(':');
    if (value.quoted()) {
      AppendQuoted(&line, value.text());
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
