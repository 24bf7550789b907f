// What a client asks and gets: plain values, free of gRPC and Protobuf.
#ifndef OCTET_CLIENT_TYPES_H_
#define OCTET_CLIENT_TYPES_H_

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "base/shape.h"
#include "base/tensor.h"

namespace octet::client {

struct TensorSpec {
  std::string name;
  std::string datatype;  // as the server names it: "FP32", "BYTES"
  Shape shape;           // kUnknownDim where free; with the batch dimension
};

struct ServerMetadata {
  std::string name, version;
  std::vector<std::string> extensions;
};

// A line of the repository's index: a model, or a variant of it ("resnet50@int8").
struct ModelState {
  std::string name, version;
  std::string state;   // "READY", "UNAVAILABLE", ...
  std::string reason;  // why it is not ready
};

struct ModelMetadata {
  std::string name;
  std::vector<std::string> versions;
  std::string platform;
  std::vector<TensorSpec> inputs, outputs;
};

using Parameter = std::variant<bool, int64_t, double, std::string>;
using Parameters = std::map<std::string, Parameter>;

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

struct InferRequest {
  std::string model;    // "resnet50", or "resnet50@int8" for one variant of an Octet server
  std::string version;  // "": the server chooses
  std::string id;       // echoed
  std::vector<NamedTensor> inputs;   // with the batch dimension
  std::vector<std::string> outputs;  // names; empty: all
  Parameters parameters;
};

struct InferResult {
  std::string model_name, model_version, id;
  std::vector<NamedTensor> outputs;
  Parameters parameters;  // an Octet server says here which `variant` answered
};

struct DurationStatistic {
  uint64_t count = 0;
  absl::Duration total;
};

struct ModelStatistics {
  std::string name, version;
  uint64_t inference_count = 0;  // rows
  uint64_t execution_count = 0;  // batches
  DurationStatistic success, fail, queue, compute_infer;
  std::map<std::string, uint64_t> memory_bytes;  // by kind: "weights", "activations", ...
};

}  // namespace octet::client

#endif  // OCTET_CLIENT_TYPES_H_
