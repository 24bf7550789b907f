// Parses the wire bytes of inference.ModelInferRequest by hand, so that tensors stay in the
// transport's slices.
//
// The envelope (names, shapes, parameters) is copied; raw_input_contents become pieces in place;
// typed contents are decoded into a block of their own. Everything is bounded by the message's
// size, checked once here: names are UTF-8, datatypes known, shapes not negative, data exactly
// shape x type. What a model expects is checked by signature.h.
#ifndef OCTET_SERVER_REQUEST_PARSER_H_
#define OCTET_SERVER_REQUEST_PARSER_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/request.h"

namespace octet::server {

struct RequestLimits {
  int64_t max_decoded_bytes = 64 << 20;  // of all typed contents of one request
  int max_tensors = 256;                 // inputs, requested outputs and raw entries, each
  int max_parameters = 256;              // of the request and of each tensor
  int64_t max_name_bytes = 4096;
};

// Errors: kInvalidArgument naming the field or input, what was found and what was expected;
// kUnimplemented (shared memory, classification, sequences); kResourceExhausted (typed contents
// above the limit).
absl::StatusOr<InferRequest> ParseInferRequest(WireMessage message,
                                               const RequestLimits& limits = {});

}  // namespace octet::server

#endif  // OCTET_SERVER_REQUEST_PARSER_H_
