// Calibration runs.
#include "compress/calibrate.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "compress/observe.h"

namespace octet::compress {
namespace {

absl::Status CheckFinite(const data::Sample& sample) {
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    if (!IsFloat(sample.inputs[i].dtype())) continue;
    const std::vector<float> values = sample.inputs[i].ToF32();
    for (size_t k = 0; k < values.size(); ++k) {
      if (std::isfinite(values[k])) continue;
      return absl::InvalidArgumentError(absl::StrCat("sample ", sample.name, ", tensor ", i, ", element ", k, " is ",
                                                     values[k], "; calibration needs finite numbers"));
    }
  }
  return absl::OkStatus();
}

// Whose channels lie on the last axis.
std::vector<bool> ChannelsLast(const graph::Graph& graph) {
  std::vector<bool> last(graph.values.size());
  for (const graph::Node& n : graph.nodes) {
    if (!n.domain.empty()) continue;
    if (n.op == "MatMul" || n.op == "Gemm") last[static_cast<size_t>(n.inputs[0])] = true;
    if (n.op == "MatMul" || n.op == "Gemm" || n.op == "LayerNormalization") last[static_cast<size_t>(n.outputs[0])] = true;
  }
  for (const graph::Node& n : graph.nodes) {
    if (n.op == "Conv" && n.domain.empty()) last[static_cast<size_t>(n.inputs[0])] = false;
  }
  return last;
}

void AddChannels(absl::Span<const float> values, const Shape& shape, bool last, ValueStatistics* statistics) {
  if (shape.size() < 2) return;
  const size_t axis = last ? shape.size() - 1 : 1;
  const auto channels = static_cast<size_t>(shape[axis]);
  if (channels == 0 || values.empty()) return;
  size_t inner = 1;
  for (size_t i = axis + 1; i < shape.size(); ++i) inner *= static_cast<size_t>(shape[i]);
  // Where the channel axis has a free extent each has statistics of its own as far as it was seen.
  if (statistics->channel_sum.size() < channels) {
    statistics->channel_sum.resize(channels, 0.0);
    statistics->channel_square_sum.resize(channels, 0.0);
    statistics->channel_maximum.resize(channels, 0.0f);
  }
  for (size_t i = 0, c = 0; i < values.size(); i += inner, c = c + 1 == channels ? 0 : c + 1) {
    double sum = 0, squares = 0;
    float maximum = 0;
    for (size_t k = 0; k < inner; ++k) {
      const float v = values[i + k];
      sum += v;
      squares += static_cast<double>(v) * v;
      maximum = std::max(maximum, std::fabs(v));
    }
    statistics->channel_sum[c] += sum;
    statistics->channel_square_sum[c] += squares;
    statistics->channel_maximum[c] = std::max(statistics->channel_maximum[c], maximum);
  }
  statistics->channel_count += static_cast<double>(values.size() / channels);
}

}  // namespace

std::vector<double> ValueStatistics::ChannelMeans() const {
  std::vector<double> means;
  for (double sum : channel_sum) means.push_back(channel_count > 0 ? sum / channel_count : 0.0);
  return means;
}

std::vector<double> ValueStatistics::ChannelSquareMeans() const {
  std::vector<double> means;
  for (double sum : channel_square_sum) means.push_back(channel_count > 0 ? sum / channel_count : 0.0);
  return means;
}

std::vector<double> ValueStatistics::ChannelDeviations() const {
  std::vector<double> deviations = ChannelSquareMeans();
  const std::vector<double> means = ChannelMeans();
  for (size_t c = 0; c < deviations.size(); ++c) {
    deviations[c] = std::sqrt(std::max(0.0, deviations[c] - means[c] * means[c]));
  }
  return deviations;
}

absl::StatusOr<absl::flat_hash_map<graph::ValueId, ValueStatistics>> Calibrate(
    const graph::Graph& graph, const std::vector<graph::ValueId>& observed, data::SampleReader& samples,
    const std::vector<int64_t>& indices, const CompressOptions& options) {
  OCTET_ASSIGN_OR_RETURN(std::unique_ptr<Observer> observer, Observer::Create(graph, observed, options.threads));
  std::vector<ValueStatistics> statistics(observed.size());
  const std::vector<bool> last = ChannelsLast(graph);
  const auto count = static_cast<int64_t>(indices.size());
  for (int64_t i = 0; i < count; ++i) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(indices[static_cast<size_t>(i)]));
    OCTET_RETURN_IF_ERROR(CheckFinite(sample));
    OCTET_RETURN_IF_ERROR(observer->Run(sample));
    for (size_t v = 0; v < observed.size(); ++v) {
      const absl::Span<const float> values = observer->observed(v);
      if (const int64_t bad = statistics[v].histogram.Add(values); bad >= 0) {
        return absl::InvalidArgumentError(absl::StrCat("sample ", sample.name, " makes '",
                                                       graph.value(observed[v]).name, "' ",
                                                       values[static_cast<size_t>(bad)], " at element ", bad));
      }
      AddChannels(values, observer->observed_shape(v), last[static_cast<size_t>(observed[v])], &statistics[v]);
    }
    if (options.progress) options.progress({"calibrating", i + 1, count});
  }
  absl::flat_hash_map<graph::ValueId, ValueStatistics> by_value;
  for (size_t v = 0; v < observed.size(); ++v) by_value[observed[v]] = std::move(statistics[v]);
  return by_value;
}

}  // namespace octet::compress
