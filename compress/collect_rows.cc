// Two observers side by side, and rows cut from what they show.
#include "compress/collect_rows.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "base/status.h"
#include "compress/observe.h"
#include "compress/product_reader.h"

namespace octet::compress {
namespace {

using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Appends the inputs of `positions` of conv group g to `rows`, a position after the other.
absl::Status AppendRows(const ProductReader& reader, const Places& places, absl::Span<const float> src, int64_t g,
                        absl::Span<const int64_t> positions, std::vector<float>* rows) {
  const int64_t columns = reader.columns();
  const size_t first = rows->size();
  rows->resize(first + positions.size() * static_cast<size_t>(columns));
  std::vector<int64_t> offsets(positions.size());
  for (int64_t tap = 0; tap < reader.taps; ++tap) {
    places.Offsets(tap, positions, offsets.data());
    for (size_t p = 0; p < positions.size(); ++p) {
      if (offsets[p] < 0) continue;
      float* to = rows->data() + first + static_cast<int64_t>(p) * columns + tap * reader.inputs;
      const float* from = src.data() + offsets[p] + g * reader.inputs * places.channel_stride();
      for (int64_t i = 0; i < reader.inputs; ++i) to[i] = from[i * places.channel_stride()];
    }
  }
  const bool finite = std::all_of(rows->begin() + static_cast<std::ptrdiff_t>(first), rows->end(),
                                  [](float x) { return std::isfinite(x); });
  return finite ? absl::OkStatus() : absl::InvalidArgumentError("not finite");
}

// Samples to fit on, then those held aside: each whose running share crosses a whole number.
struct Split {
  std::vector<int64_t> samples;
  size_t fitted = 0;
};

Split SplitOf(const std::vector<int64_t>& indices, const RowOptions& options, int64_t most) {
  const auto total = static_cast<int64_t>(indices.size()), used = std::min(total, most);
  std::vector<int64_t> held;
  Split split;
  for (int64_t i = 0; i < used; ++i) {
    const auto share = [&](int64_t n) { return static_cast<int64_t>(static_cast<double>(n) * options.held_aside); };
    const bool aside = share(i + 1) > share(i) || (i + 1 == used && share(used) == 0);
    (aside ? held : split.samples).push_back(indices[static_cast<size_t>(i * total / used)]);
  }
  split.fitted = split.samples.size();
  split.samples.insert(split.samples.end(), held.begin(), held.end());
  return split;
}

class RowCollector {
 public:
  // Room for `most` rows is reserved, so that memory is what RowOptions says.
  RowCollector(ProductReader reference, ProductReader changed, const WeightMatrix& weights, absl::Span<const float> bias,
               int64_t most)
      : reference_(std::move(reference)), changed_(std::move(changed)), weights_(weights), bias_(bias) {
    rows_.columns = changed_.columns();
    rows_.conv_groups = changed_.conv_groups;
    rows_.outputs = weights.rows;
    rows_.src.resize(static_cast<size_t>(rows_.conv_groups));
    for (std::vector<float>& src : rows_.src) src.reserve(static_cast<size_t>(most * rows_.columns));
    rows_.target.reserve(static_cast<size_t>(most * rows_.outputs));
  }

  absl::Status Add(const Observer& reference, const Observer& changed, int64_t wanted, const CounterRng& rng) {
    OCTET_ASSIGN_OR_RETURN(const Places here, Places::Of(changed_, changed.observed_shape(0)));
    OCTET_ASSIGN_OR_RETURN(const Places there, Places::Of(reference_, reference.observed_shape(0)));
    if (here.count() != there.count()) {
      return absl::InvalidArgumentError(
          absl::StrCat("has ", here.count(), " output positions, the reference ", there.count()));
    }
    const std::vector<int64_t> positions = SamplePositions(here.count(), wanted, rng);
    const auto n = static_cast<int64_t>(positions.size()), group_rows = weights_.rows / weights_.conv_groups;
    RowMatrix target(n, weights_.rows);
    for (int64_t g = 0; g < rows_.conv_groups; ++g) {
      OCTET_RETURN_IF_ERROR(AppendRows(changed_, here, changed.observed(0), g, positions, &rows_.src[static_cast<size_t>(g)]));
      std::vector<float> x;
      OCTET_RETURN_IF_ERROR(AppendRows(reference_, there, reference.observed(0), g, positions, &x));
      const Eigen::Map<const RowMatrix> inputs(x.data(), n, rows_.columns);
      const Eigen::Map<const RowMatrix> w(weights_.values.data() + g * group_rows * rows_.columns, group_rows, rows_.columns);
      target.middleCols(g * group_rows, group_rows).noalias() = inputs * w.transpose();
    }
    target.rowwise() += Eigen::Map<const Eigen::RowVectorXf>(bias_.data(), static_cast<int64_t>(bias_.size()));
    rows_.target.insert(rows_.target.end(), target.data(), target.data() + target.size());
    rows_.count += n;
    return absl::OkStatus();
  }

  LayerRows& rows() { return rows_; }

 private:
  const ProductReader reference_, changed_;
  const WeightMatrix& weights_;
  const absl::Span<const float> bias_;
  LayerRows rows_;
};

}  // namespace

absl::StatusOr<LayerRows> CollectRows(const graph::Graph& reference, const graph::Graph& changed, const ProductPair& product,
                                      const WeightMatrix& weights, absl::Span<const float> bias, data::SampleReader& samples,
                                      const std::vector<int64_t>& indices, const RowOptions& options) {
  const graph::Node& node = reference.nodes[static_cast<size_t>(product.reference)];
  OCTET_ASSIGN_OR_RETURN(ProductReader theirs, ReaderOf(reference, node));
  OCTET_ASSIGN_OR_RETURN(ProductReader own, ReaderOf(changed, changed.nodes[static_cast<size_t>(product.changed)]));
  const bool fits = own.columns() == weights.columns() && theirs.columns() == weights.columns() &&
                    own.conv_groups == weights.conv_groups && static_cast<int64_t>(bias.size()) == weights.rows;
  if (!fits || indices.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat("rows of ", Describe(reference, node), " from ", indices.size(),
                                                   " samples: expected at least 2, and weights and bias of its shape"));
  }
  const int64_t row_bytes = (own.columns() * own.conv_groups + weights.rows) * static_cast<int64_t>(sizeof(float));
  const int64_t most = std::clamp<int64_t>(options.max_bytes / row_bytes, 2, std::max<int64_t>(options.max_rows, 2));
  const Split split = SplitOf(indices, options, most);
  const int64_t wanted = std::max<int64_t>(most / static_cast<int64_t>(split.samples.size()), 1);
  OCTET_ASSIGN_OR_RETURN(const auto there, Observer::Create(reference, {theirs.src}, options.threads));
  OCTET_ASSIGN_OR_RETURN(const auto here, Observer::Create(changed, {own.src}, options.threads));
  const int64_t expected = wanted * static_cast<int64_t>(split.samples.size());
  RowCollector collector(std::move(theirs), std::move(own), weights, bias, expected);
  for (size_t s = 0; s < split.samples.size(); ++s) {
    OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(split.samples[s]));
    OCTET_RETURN_IF_ERROR(there->Run(sample));
    OCTET_RETURN_IF_ERROR(here->Run(sample));
    const int64_t before = collector.rows().count;
    const absl::Status added = collector.Add(*there, *here, wanted, CounterRng(s, 1));
    if (!added.ok()) return Annotate(added, absl::StrCat("sample ", sample.name, ", input of ", Describe(reference, node)));
    if (s >= split.fitted) collector.rows().held_aside += collector.rows().count - before;
  }
  return std::move(collector.rows());
}

}  // namespace octet::compress
