// How a compression runs: threads, memory, progress, and being stopped.
#ifndef OCTET_COMPRESS_OPTIONS_H_
#define OCTET_COMPRESS_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace octet::compress {

// What one progress line says: a stage and how far it is.
struct Progress {
  std::string stage;
  int64_t done = 0, total = 0;
};

// What a compression makes is the recipe's business.
struct CompressOptions {
  int threads = 1;
  int64_t max_cached_bytes = int64_t{40} << 20;   // of samples kept in memory
  std::function<void(const Progress&)> progress;  // may be empty
  std::function<bool()> stop;                     // may be empty; true ends the work with kCancelled
};

// Reports progress; kCancelled when the work is to stop.
absl::Status Tick(const CompressOptions& options, const char* stage, int64_t done, int64_t total);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_OPTIONS_H_
