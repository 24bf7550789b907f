// Test support: samples of one tensor each, in memory.
#ifndef OCTET_COMPRESS_MEMORY_SAMPLES_H_
#define OCTET_COMPRESS_MEMORY_SAMPLES_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/sample_reader.h"

namespace octet::compress {

class MemorySamples final : public data::SampleReader {
 public:
  explicit MemorySamples(std::vector<Tensor> tensors) : tensors_(std::move(tensors)) {}
  int64_t size() const override { return static_cast<int64_t>(tensors_.size()); }
  absl::StatusOr<data::Sample> Read(int64_t i) override {
    ++reads;
    return data::Sample{absl::StrCat("memory[", i, "]"), {tensors_[static_cast<size_t>(i)]}};
  }
  int64_t reads = 0;

 private:
  std::vector<Tensor> tensors_;
};

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_MEMORY_SAMPLES_H_
