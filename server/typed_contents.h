// Decodes InferTensorContents into the raw bytes that a model reads.
#ifndef OCTET_SERVER_TYPED_CONTENTS_H_
#define OCTET_SERVER_TYPED_CONTENTS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/buffer.h"
#include "base/dtype.h"
#include "server/wire.h"

namespace octet::server {

// `contents` are the occurrences of the message in the request, merged as Protobuf does. The result
// holds exactly `elements` elements of `dtype`. Requires: elements x dtype fits in memory that the
// caller is willing to give. Errors, naming the input: kInvalidArgument (another number of
// elements, a field that does not fit the datatype, several fields, an integer out of the
// datatype's range, FP16/BF16 which are raw only, malformed bytes).
absl::StatusOr<Buffer> DecodeTypedContents(absl::string_view input, DType dtype, int64_t elements,
                                           absl::Span<const WireReader> contents);

}  // namespace octet::server

#endif  // OCTET_SERVER_TYPED_CONTENTS_H_
