// Statistics of values over a calibration set, streamed one sample at a time.
#ifndef OCTET_COMPRESS_CALIBRATE_H_
#define OCTET_COMPRESS_CALIBRATE_H_

#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "compress/options.h"
#include "compress/ranges.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

// What is kept per observed value: independent of the number of samples.
struct ValueStatistics {
  StreamingHistogram histogram;
  // Per channel: axis 1; the last axis of what matrix products read or write and of LayerNormalization's results.
  std::vector<double> channel_sum;
  std::vector<double> channel_square_sum;
  std::vector<float> channel_maximum;  // of |x|
  double channel_count = 0;            // elements behind each entry

  std::vector<double> ChannelMeans() const;
  std::vector<double> ChannelSquareMeans() const;
  std::vector<double> ChannelDeviations() const;  // sqrt(E[x^2] - E[x]^2)
};

// Runs the samples `indices` and returns statistics by value.
// Errors: kInvalidArgument naming the sample (and value) for NaN, Inf or a wrong shape.
absl::StatusOr<absl::flat_hash_map<graph::ValueId, ValueStatistics>> Calibrate(
    const graph::Graph& graph, const std::vector<graph::ValueId>& observed, data::SampleReader& samples,
    const std::vector<int64_t>& indices, const CompressOptions& options);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_CALIBRATE_H_
