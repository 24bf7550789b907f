// The list of networks to compare (networks.txt).
#ifndef OCTET_BENCH_ENGINE_NETWORK_LIST_H_
#define OCTET_BENCH_ENGINE_NETWORK_LIST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/shape.h"

namespace octet::bench {

struct NetworkEntry {
  std::string name;
  std::string source;              // "generated" or "shared"
  std::vector<std::string> forms;  // "f32", "int8", "file"
  std::vector<int64_t> batches;
  std::vector<Shape> shapes;       // at batch 1; empty: from the file
};

// Lines as networks.txt describes. Errors: kInvalidArgument naming the line.
absl::StatusOr<std::vector<NetworkEntry>> ParseNetworkList(absl::string_view text);

// "1,8". Errors: kInvalidArgument for what is not a positive number.
absl::StatusOr<std::vector<int64_t>> ParseBatches(absl::string_view text);

}  // namespace octet::bench

#endif  // OCTET_BENCH_ENGINE_NETWORK_LIST_H_
