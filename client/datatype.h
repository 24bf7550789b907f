// Names of element types in the Open Inference Protocol.
#ifndef OCTET_CLIENT_DATATYPE_H_
#define OCTET_CLIENT_DATATYPE_H_

#include "absl/strings/string_view.h"
#include "base/dtype.h"

namespace octet::client {

// "FP32", "INT8", "BOOL", ...; "" for types that the protocol lacks (4-bit ones).
absl::string_view DatatypeOf(DType dtype);

// kInvalid for a name that we do not hold (BYTES).
DType DTypeOf(absl::string_view datatype);

}  // namespace octet::client

#endif  // OCTET_CLIENT_DATATYPE_H_
