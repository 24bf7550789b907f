// Whether a model file may be loaded: refusing is better than being killed by the kernel for memory.
#ifndef OCTET_SERVER_MEMORY_ADMISSION_H_
#define OCTET_SERVER_MEMORY_ADMISSION_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace octet::server {

// Bytes that loading `path` takes at its peak: the file in memory and as much again for its packed weights; with the
// tensors kept in other files of its folder (ONNX's external data) counted the same way. 0 for a file that is absent.
int64_t LoadPeakBytes(const std::string& path);

// What activations and replies keep to themselves when a load is judged: a sixteenth of the limit.
int64_t LoadHeadroomBytes(int64_t limit_bytes);

// All in bytes; `resident` is what the process holds now. limit <= 0: no limit.
// Errors: kResourceExhausted (memory_limit) when resident + peak + headroom exceed the limit, naming all of them.
absl::Status AdmitLoad(const std::string& path, int64_t peak, int64_t resident, int64_t limit);

}  // namespace octet::server

#endif  // OCTET_SERVER_MEMORY_ADMISSION_H_
