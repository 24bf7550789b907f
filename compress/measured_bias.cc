// Empirical bias correction.
#include "compress/measured_bias.h"

#include <algorithm>

#include "base/status.h"
#include "compress/layer_fit.h"
#include "compress/observe.h"
#include "compress/quantize_product.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::ValueId;

// Running sums per output channel of one product's result.
class ChannelSums {
 public:
  // Channels lie along axis 1 of convolutions, along the last axis of matrix products.
  ChannelSums(const Product& product) : axis_last_(product.op != "Conv"), sums_(static_cast<size_t>(product.rows)) {}

  void Add(absl::Span<const float> values, const Shape& shape) {
    const size_t axis = axis_last_ ? shape.size() - 1 : 1;
    const size_t channels = sums_.size();
    if (shape.size() <= axis || static_cast<size_t>(shape[axis]) != channels || values.empty()) return;
    size_t inner = 1;
    for (size_t i = axis + 1; i < shape.size(); ++i) inner *= static_cast<size_t>(shape[i]);
    for (size_t i = 0; i < values.size(); i += inner) {
      double sum = 0;
      for (size_t k = 0; k < inner; ++k) sum += values[i + k];
      sums_[i / inner % channels] += sum;
    }
    count_ += static_cast<double>(values.size() / channels);
  }

  bool empty() const { return count_ == 0; }
  double Mean(size_t channel) const { return sums_[channel] / count_; }

 private:
  bool axis_last_;
  std::vector<double> sums_;
  double count_ = 0;
};

// Sums of the results of `products` over the samples.
absl::StatusOr<std::vector<ChannelSums>> Measure(const Graph& graph, const std::vector<Product>& products,
                                                 data::SampleReader& samples, const std::vector<int64_t>& indices,
                                                 int threads) {
  std::vector<ValueId> outputs;
  std::vector<ChannelSums> sums;
  for (const Product& p : products) {
    outputs.push_back(p.output);
    sums.emplace_back(p);
  }
  OCTET_ASSIGN_OR_RETURN(auto observer, Observer::Create(Truncate(graph, outputs), outputs, threads));
  for (int64_t i : indices) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(i));
    OCTET_RETURN_IF_ERROR(observer->Run(sample));
    for (size_t p = 0; p < products.size(); ++p) sums[p].Add(observer->observed(p), observer->observed_shape(p));
  }
  return sums;
}

}  // namespace

absl::Status CorrectBiasesMeasured(const Graph& reference, const std::vector<Product>& products,
                                   data::SampleReader& samples, const std::vector<int64_t>& indices,
                                   const CompressOptions& options, Graph* working) {
  OCTET_ASSIGN_OR_RETURN(const std::vector<ChannelSums> wanted,
                         Measure(reference, products, samples, indices, options.threads));
  const auto total = static_cast<int64_t>(products.size());
  for (size_t p = 0; p < products.size(); ++p) {
    OCTET_ASSIGN_OR_RETURN(const std::vector<ChannelSums> found,
                           Measure(*working, {products[p]}, samples, indices, options.threads));
    if (!wanted[p].empty() && !found[0].empty()) {
      std::vector<float> bias = BiasOf(*working, ProducerOf(*working, products[p].output), products[p].rows);
      for (size_t n = 0; n < bias.size(); ++n) bias[n] += static_cast<float>(wanted[p].Mean(n) - found[0].Mean(n));
      ReplaceBias(products[p], bias, working);
    }
    OCTET_RETURN_IF_ERROR(Tick(options, "correcting biases", static_cast<int64_t>(p) + 1, total));
  }
  return absl::OkStatus();
}

}  // namespace octet::compress
