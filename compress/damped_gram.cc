// Damping, and the loop over rows.
#include "compress/damped_gram.h"

#include <algorithm>

#include "absl/synchronization/mutex.h"
#include "base/parallel_for.h"
#include "compress/gram_products.h"

namespace octet::compress {
namespace {

constexpr int64_t kRowBlock = 32;  // rows that one thread takes at once; fixed, so that results are the same for any team

}  // namespace

std::vector<float> Damped(const Moments& moments, double damping) {
  std::vector<float> out = moments.gram;
  const int64_t n = moments.columns;
  for (int64_t g = 0; g < moments.conv_groups; ++g) {
    double mean = 0;
    for (int64_t c = 0; c < n; ++c) mean += moments.Gram(g)[static_cast<size_t>(c * n + c)] / static_cast<double>(n);
    if (!(mean > 0)) mean = 1;  // nothing but dead inputs: the nearest levels are best
    for (int64_t c = 0; c < n; ++c) {
      float& diagonal = out[static_cast<size_t>((g * n + c) * n + c)];
      diagonal += static_cast<float>((diagonal > 0 ? damping : 1) * mean);
    }
  }
  return out;
}

absl::Status ForEachBlock(const WeightMatrix& weights, const std::vector<float>& gram, int threads,
                          absl::FunctionRef<absl::Status(const RowBlock&)> body) {
  const int64_t group_rows = weights.rows / weights.conv_groups, columns = weights.columns();
  std::vector<RowBlock> blocks;
  for (int64_t r = 0; r < weights.rows;) {
    const int64_t group = r / group_rows;
    const int64_t rows = std::min(kRowBlock, (group + 1) * group_rows - r);
    blocks.push_back({r, rows, gram.data() + group * columns * columns});
    r += rows;
  }
  const OneThreadScope one_thread;
  OpenMpFor loop(threads);
  absl::Mutex mutex;
  absl::Status status;
  loop.Run(static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const absl::Status one = body(blocks[static_cast<size_t>(b)]);
      if (one.ok()) continue;
      absl::MutexLock lock(&mutex);
      status.Update(one);
    }
  });
  return status;
}

}  // namespace octet::compress
