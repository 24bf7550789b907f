// One inference request as scheduler and batcher see it: free of gRPC and Protobuf; tensors stay
// where the wire put them.
#ifndef OCTET_SERVER_REQUEST_H_
#define OCTET_SERVER_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/buffer.h"
#include "base/dtype.h"
#include "base/shape.h"

namespace octet::server {

using ByteSpan = absl::Span<const std::byte>;

// The bytes of one message as the transport delivered them, in order; `owner` keeps them alive.
struct WireMessage {
  std::vector<ByteSpan> slices;
  std::shared_ptr<const void> owner;
};

using Parameter = std::variant<bool, int64_t, std::string, double, uint64_t>;
using Parameters = absl::flat_hash_map<std::string, Parameter>;

// Row-major little-endian elements, possibly in several pieces. size_bytes equals the bytes of
// dtype x shape.
struct InputTensor {
  std::string name;
  DType dtype = DType::kInvalid;
  Shape shape;
  std::vector<ByteSpan> pieces;
  int64_t size_bytes = 0;
};

// Move-only. Pieces point into `wire` or `decoded`, which the request owns.
struct InferRequest {
  std::string model_name;     // as the client wrote it: "model" or "model@variant"
  std::string model_version;  // empty: the latest
  std::string id;
  Parameters parameters;
  std::vector<InputTensor> inputs;   // in the order of the message
  std::vector<std::string> outputs;  // requested names; empty: all
  absl::Time deadline = absl::InfiniteFuture();

  std::shared_ptr<const void> wire;  // keeps the message alive
  std::vector<Buffer> decoded;       // typed contents turned into raw bytes
  int64_t held_bytes = 0;            // message and decoded bytes
};

}  // namespace octet::server

#endif  // OCTET_SERVER_REQUEST_H_
