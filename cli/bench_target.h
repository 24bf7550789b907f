// What `octet bench` sends to: a server over gRPC, or a model in this process.
#ifndef OCTET_CLI_BENCH_TARGET_H_
#define OCTET_CLI_BENCH_TARGET_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/load.h"
#include "engine/program.h"

namespace octet::cli {

// A load target that knows what it takes. Requests go round the prepared ones.
class BenchTarget : public client::LoadTarget {
 public:
  virtual const std::vector<engine::Signature>& inputs() const = 0;
  // The contents of the requests, one vector of inputs each; called once, before anything is sent, and runs one of
  // them. Requires: at least one. Errors: the model's or the server's.
  virtual absl::Status Prepare(const std::vector<std::vector<Tensor>>& requests) = 0;
};

// `connections` channels to any server of the Open Inference Protocol; each call ends by `timeout`.
absl::StatusOr<std::unique_ptr<BenchTarget>> ConnectTarget(const std::string& address, const std::string& model,
                                                           int connections, absl::Duration timeout);

// The engine alone: an ONNX file, `slots` threads that take requests from one queue, each with a team of `threads`.
// Nothing is batched. All requests have the same shapes.
absl::StatusOr<std::unique_ptr<BenchTarget>> LoadTargetFile(const std::string& path, int slots, int threads);

}  // namespace octet::cli

#endif  // OCTET_CLI_BENCH_TARGET_H_
