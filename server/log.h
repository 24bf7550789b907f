// Structured log lines on stderr: one JSON object a line.
//
//   Log(Severity::kInfo, "variant loaded", {{"model", name}, {"weights_bytes", bytes}});
//   -> {"time":"2024-06-07T12:00:00.123Z","severity":"info","message":"variant
//   loaded","model":"m","weights_bytes":1234}
#ifndef OCTET_SERVER_LOG_H_
#define OCTET_SERVER_LOG_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace octet::server {

enum class Severity : uint8_t { kInfo, kWarning, kError };

// A number stays a number in JSON.
class LogValue {
 public:
  LogValue(absl::string_view text)
      : text_(text), quoted_(true) {}  // NOLINT: implicit by design, as all below
  LogValue(const std::string& text) : text_(text), quoted_(true) {}
  LogValue(const char* text) : text_(text), quoted_(true) {}
  LogValue(int value) : text_(absl::StrCat(value)) {}
  LogValue(int64_t value) : text_(absl::StrCat(value)) {}
  LogValue(double value) : text_(absl::StrCat(value)) {}

  const std::string& text() const { return text_; }
  bool quoted() const { return quoted_; }

 private:
  std::string text_;
  bool quoted_ = false;
};

using LogFields = std::initializer_list<std::pair<absl::string_view, LogValue>>;

// Writes the line in one system call. Thread-safe.
void Log(Severity severity, absl::string_view message, LogFields fields = {});

// The line without its end; split out for tests.
std::string FormatLog(absl::string_view time, Severity severity, absl::string_view message,
                      LogFields fields);

}  // namespace octet::server

#endif  // OCTET_SERVER_LOG_H_
