// Results of bench_engine as a table and as JSON.
#ifndef OCTET_BENCH_ENGINE_REPORT_H_
#define OCTET_BENCH_ENGINE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "bench/engine/measure.h"

namespace octet::bench {

// One network, form and batch size.
struct Result {
  std::string network, variant;  // variant: "f32" or "int8"
  int64_t batch = 1;
  int threads = 1;
  Timing octet, peer;            // peer: the faster library
  std::string peer_version;
  double sqnr_db = 0;            // Octet's outputs against the peer's
  double gops = 0;               // 2 * multiply-adds of convolutions and products / Octet's median
  double peak_share = 0;         // of the measured int8 or f32 peak
  int64_t weights_bytes = 0;     // packed, all copies
  double weights_gbps = 0;       // weights_bytes / Octet's median
  double ratio() const { return octet.median_ms > 0 ? peer.median_ms / octet.median_ms : 0; }
};

std::string TableHeader();
std::string TableRow(const Result& result);

// {"machine": {...}, "results": [{"network", "variant", "batch", "threads", "octet_ms", "onnxruntime_ms", "ratio", ...}]}
// `machine`: key and value, both as text.
std::string ToJson(const std::vector<Result>& results, const std::vector<std::pair<std::string, std::string>>& machine);

}  // namespace octet::bench

#endif  // OCTET_BENCH_ENGINE_REPORT_H_
