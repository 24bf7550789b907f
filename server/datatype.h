// Names of element types on the wire (Open Inference Protocol) and ours.
#ifndef OCTET_SERVER_DATATYPE_H_
#define OCTET_SERVER_DATATYPE_H_

#include "absl/strings/string_view.h"
#include "base/dtype.h"

namespace octet::server {

// "FP32" -> kF32; kInvalid for BYTES (no model of ours has strings) and for unknown names.
DType DTypeFromWire(absl::string_view name);

// kF32 -> "FP32"; "" for types the protocol has no name for (4 bits).
absl::string_view WireNameOf(DType dtype);

}  // namespace octet::server

#endif  // OCTET_SERVER_DATATYPE_H_
