// The arrays of a .npz file: a zip of .npy entries, stored or deflated.
#ifndef OCTET_DATA_NPZ_H_
#define OCTET_DATA_NPZ_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/byte_source.h"

namespace octet::data {

inline constexpr int kMaxNpzEntries = 256;

struct NpzEntry {
  std::string name;  // without ".npy"
  std::unique_ptr<ByteSource> source;
};

// Opens every entry. Stored ones are read from the file where they lie; deflated ones are kept
// decompressed while they fit in cache_bytes together, the others are decompressed as a stream.
// Errors, naming the path: kInvalidArgument (encrypted, another compression, a name twice, no
// .npy), kDataLoss.
absl::StatusOr<std::vector<NpzEntry>> OpenNpz(const std::string& path,
                                              int64_t cache_bytes = kCacheBytes);

}  // namespace octet::data

#endif  // OCTET_DATA_NPZ_H_
