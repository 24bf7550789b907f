// How often each operator occurs in an ONNX file: shows what ONNX Runtime has fused.
#ifndef OCTET_BENCH_ENGINE_GRAPH_COUNTS_H_
#define OCTET_BENCH_ENGINE_GRAPH_COUNTS_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"

namespace octet::bench {

// By operator, without domains. Errors: kDataLoss when the file is no ONNX model.
absl::StatusOr<std::map<std::string, int>> CountOperators(const std::string& path);

}  // namespace octet::bench

#endif  // OCTET_BENCH_ENGINE_GRAPH_COUNTS_H_
