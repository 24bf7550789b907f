// The bounded wire walker: the only code that sees a model file before it is trusted.
//
// Walks the protobuf encoding of a ModelProto once, keeps what import reads and drops the rest, and
// takes every tensor's content out as a view into the file, so that what protobuf has to parse is
// small and its memory bounded. Field numbers: onnx.proto (IR 10); encoding:
// protobuf.dev/programming-guides/encoding.
#ifndef OCTET_ONNX_WIRE_H_
#define OCTET_ONNX_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace octet::onnx_io {

struct WireLimits {
  int64_t max_nodes = 100000;    // with subgraphs
  int64_t max_values = 1000000;  // node outputs, inputs and initializers, with subgraphs
  int max_subgraph_depth = 16;   // the main graph is depth 0
  int64_t max_reduced_bytes = int64_t{64} << 20;  // what is left for protobuf
};

// Content of one TensorProto, as it lies in the file.
struct TensorBytes {
  int field = 0;  // TensorProto field: 9 raw_data, 4 float_data, 5 int32_data, 7 int64_data, 10
                  // double_data, 11 uint64_data
  absl::Span<const std::byte> bytes;
};

struct ReducedModel {
  // Serialized ModelProto in which `raw_data` of a tensor with content is an 8-byte little-endian
  // index into `tensors`, and in which no tensor has typed data.
  std::string model;
  std::vector<TensorBytes> tensors;
  bool has_functions = false;  // model-local functions were dropped
};

// Errors: kDataLoss (a field reaches past the end), kInvalidArgument (not protobuf, not a model),
// kResourceExhausted (limits), kUnimplemented (sparse tensors). The views live as long as `file`.
absl::StatusOr<ReducedModel> ReduceModel(absl::Span<const std::byte> file,
                                         const WireLimits& limits);

// Index that ReduceModel wrote into raw_data; kInvalidArgument when there is none within `count`.
absl::StatusOr<size_t> TensorIndex(const std::string& raw_data, size_t count);

// Reads consecutive varints. Errors: kDataLoss when the last one is cut off, kInvalidArgument above
// 10 bytes or when their number is not `count`.
absl::StatusOr<std::vector<uint64_t>> DecodeVarints(absl::Span<const std::byte> bytes,
                                                    int64_t count);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_WIRE_H_
