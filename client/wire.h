// Between the client's values and the bytes on the wire. Internal to client/.
#ifndef OCTET_CLIENT_WIRE_H_
#define OCTET_CLIENT_WIRE_H_

#include <grpcpp/support/byte_buffer.h>

#include "absl/status/statusor.h"
#include "client/types.h"
#include "proto/grpc_service.pb.h"

namespace octet::client {

// The bytes of a ModelInferRequest with raw_input_contents that refer to the tensors' own bytes and
// keep them alive. Errors: as PreparedRequest::Create.
absl::StatusOr<grpc::ByteBuffer> EncodeRequest(const InferRequest& request);

// Consumes the message: raw contents become tensors without another copy.
// Errors: kDataLoss naming the output whose contents do not fit its shape and datatype,
// kUnimplemented for BYTES.
absl::StatusOr<InferResult> DecodeResponse(inference::ModelInferResponse response);

}  // namespace octet::client

#endif  // OCTET_CLIENT_WIRE_H_
