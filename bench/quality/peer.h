// ONNX Runtime's own static quantizer on the same samples, by the script ort_static.py in a process of its own.
#ifndef OCTET_BENCH_QUALITY_PEER_H_
#define OCTET_BENCH_QUALITY_PEER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/quality/predictions.h"

namespace octet::bench {

// What one of the script's settings gave.
struct PeerResult {
  std::string setting;  // calibration method and operators, as the script names them
  int64_t bytes = 0;    // of the quantized file
  Predictions predictions;
  std::string error;    // not empty: the setting failed, nothing else is set
};

// Runs /usr/bin/python3 SCRIPT on the model file, calibration.npy and evaluation.npy of `folder` (f32, axis 0 counts
// samples), where it writes its files and its log. ONNX Runtime runs its own files.
// Errors: kUnavailable when the quantizer cannot run here, with its last line; kInternal.
absl::StatusOr<std::vector<PeerResult>> RunOrtStatic(const std::string& script, const std::string& model,
                                                     const std::string& folder);

}  // namespace octet::bench

#endif  // OCTET_BENCH_QUALITY_PEER_H_
