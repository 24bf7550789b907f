// Progress and stopping.
#include "compress/options.h"

namespace octet::compress {

absl::Status Tick(const CompressOptions& options, const char* stage, int64_t done, int64_t total) {
  if (options.progress) options.progress({stage, done, total});
  return options.stop && options.stop() ? absl::CancelledError("stopped") : absl::OkStatus();
}

}  // namespace octet::compress
