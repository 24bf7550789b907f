// Patches of observed inputs as columns, and their products with each other.
#include "compress/collect_moments.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/parallel_for.h"
#include "base/rng.h"
#include "base/status.h"
#include "compress/gram_products.h"
#include "compress/observe.h"
#include "compress/product_reader.h"

namespace octet::compress {
namespace {

constexpr int64_t kPositionBlock = 512;  // positions whose patches are in memory at once
constexpr int64_t kColumnBlock = 192;    // side of the tiles of a Gram matrix that threads share

// Tiles of a matrix [columns, columns] that threads share: of all, or of those that a symmetric one needs.
enum class Tiles : uint8_t { kAll, kUpper };

// dst[g] += a[g] b[g]^T for each conv group g: a and b are patches [conv groups, columns, width].
absl::Status AddProducts(const ProductReader& reader, Tiles which, const std::vector<float>& a, const std::vector<float>& b,
                         ParallelFor& loop, std::vector<float>* dst) {
  const int64_t columns = reader.columns();
  const int64_t width = static_cast<int64_t>(a.size()) / (reader.conv_groups * columns);
  std::vector<std::pair<int64_t, int64_t>> tiles;
  for (int64_t i = 0; i < columns; i += kColumnBlock) {
    for (int64_t j = which == Tiles::kUpper ? i : 0; j < columns; j += kColumnBlock) tiles.emplace_back(i, j);
  }
  const auto per_group = static_cast<int64_t>(tiles.size());
  const OneThreadScope one_thread;
  absl::Mutex mutex;
  absl::Status status;
  loop.Run(reader.conv_groups * per_group, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t / per_group * columns;  // of the group
      const auto [row, column] = tiles[static_cast<size_t>(t % per_group)];
      ProductShape shape;
      shape.m = std::min(kColumnBlock, columns - row);
      shape.n = std::min(kColumnBlock, columns - column);
      shape.k = shape.a_stride = shape.b_stride = width;
      shape.dst_stride = columns;
      shape.right = ProductShape::Right::kTransposed;
      shape.beta = 1;
      const absl::Status one = Multiply(shape, a.data() + (first + row) * width, b.data() + (first + column) * width,
                                        dst->data() + (first + row) * columns + column);
      if (one.ok()) continue;
      absl::MutexLock lock(&mutex);
      status.Update(one);
    }
  });
  return status;
}

// Sums over the inputs of one product: of each column, its square, and, if wanted, of all products.
class Accumulator {
 public:
  enum class Kind : uint8_t { kGram, kDiagonal };

  Accumulator(const ProductReader& reader, Kind kind) : reader_(reader), kind_(kind) {
    const auto columns = static_cast<size_t>(reader.conv_groups * reader.columns());
    sum_.resize(columns);
    squares_.resize(columns);
    if (kind == Kind::kGram) gram_.resize(static_cast<size_t>(reader.gram_elements()));
  }

  // Adds the patches of `positions` in one sample's source and leaves them in `patches`, [conv groups, columns, positions].
  // Errors: kInvalidArgument for an input that is not finite.
  absl::Status Add(absl::Span<const float> src, const Places& places, absl::Span<const int64_t> positions,
                   ParallelFor& loop, std::vector<float>* patches) {
    FillPatches(src, places, positions, loop, patches);
    for (double s : squares_) {
      if (!std::isfinite(s)) return absl::InvalidArgumentError("not finite");
    }
    count_ += static_cast<int64_t>(positions.size());
    if (kind_ == Kind::kDiagonal) return absl::OkStatus();
    return AddProducts(reader_, Tiles::kUpper, *patches, *patches, loop, &gram_);
  }

  int64_t count() const { return count_; }

  Moments Finish() {
    const double scale = 1.0 / static_cast<double>(count_);
    Moments m;
    m.columns = reader_.columns();
    m.conv_groups = reader_.conv_groups;
    m.count = count_;
    for (double s : sum_) m.mean.push_back(static_cast<float>(s * scale));
    if (kind_ == Kind::kDiagonal) {
      for (double s : squares_) m.diagonal.push_back(static_cast<float>(s * scale));
      return m;
    }
    m.gram = std::move(gram_);
    const auto n = static_cast<size_t>(m.columns);
    for (size_t g = 0; g < static_cast<size_t>(m.conv_groups); ++g) {
      float* gram = m.gram.data() + g * n * n;
      for (size_t i = 0; i < n; ++i) {
        for (size_t j = i; j < n; ++j) {
          gram[i * n + j] = static_cast<float>(gram[i * n + j] * scale);
          gram[j * n + i] = gram[i * n + j];
        }
      }
    }
    return m;
  }

 private:
  void FillPatches(absl::Span<const float> src, const Places& places, absl::Span<const int64_t> positions,
                   ParallelFor& loop, std::vector<float>* patches) {
    const auto width = static_cast<int64_t>(positions.size());
    std::vector<int64_t> offsets(static_cast<size_t>(reader_.taps * width));
    for (int64_t t = 0; t < reader_.taps; ++t) places.Offsets(t, positions, offsets.data() + t * width);
    const int64_t columns = reader_.columns(), all = reader_.conv_groups * columns;
    patches->resize(static_cast<size_t>(all * width));
    loop.Run(all, 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t tap = row % columns / reader_.inputs;
        const int64_t channel = row / columns * reader_.inputs + row % columns % reader_.inputs;
        const int64_t* offset = offsets.data() + tap * width;
        const float* from = src.data() + channel * places.channel_stride();
        float* to = patches->data() + row * width;
        double sum = 0, squares = 0;
        for (int64_t p = 0; p < width; ++p) {
          to[p] = offset[p] < 0 ? 0.0f : from[offset[p]];
          sum += to[p];
          squares += static_cast<double>(to[p]) * to[p];
        }
        sum_[static_cast<size_t>(row)] += sum;
        squares_[static_cast<size_t>(row)] += squares;
      }
    });
  }

  const ProductReader& reader_;
  Kind kind_;
  int64_t count_ = 0;
  std::vector<double> sum_, squares_;  // [conv groups, columns]
  std::vector<float> gram_;            // upper tiles only
};

// A product in the graph whose moments are wanted and, of pairs, in the reference.
struct Product {
  ProductReader reader;
  std::optional<ProductReader> reference;

  int64_t bytes(const MomentOptions& options) const {
    if (!with_gram(options)) return 0;
    return reader.gram_elements() * static_cast<int64_t>(sizeof(float)) * (reference.has_value() ? 2 : 1);
  }
  bool with_gram(const MomentOptions& options) const { return reader.columns() <= options.max_columns; }
};

// The sums of one product.
class ProductSums {
 public:
  ProductSums(const Product& product, const MomentOptions& options)
      : product_(product), options_(options), own_(product.reader, Kind(product.with_gram(options))) {
    if (!product.reference.has_value()) return;
    reference_.emplace(*product.reference, Accumulator::Kind::kDiagonal);
    if (product.with_gram(options)) cross_.resize(static_cast<size_t>(product.reader.gram_elements()));
  }

  // One sample's part. `reference` is null where there is none.
  absl::Status Add(const Observer& observer, size_t at, const Observer* reference, size_t reference_at,
                   const CounterRng& rng) {
    OCTET_ASSIGN_OR_RETURN(const Places places, Places::Of(product_.reader, observer.observed_shape(at)));
    const std::vector<int64_t> positions = SamplePositions(places.count(), options_.max_positions_per_sample, rng);
    const absl::Span<const int64_t> all = positions;
    OpenMpFor loop(options_.threads);
    std::vector<float> patches, reference_patches;
    for (size_t i = 0; i < all.size(); i += kPositionBlock) {
      const auto block = all.subspan(i, kPositionBlock);
      OCTET_RETURN_IF_ERROR(own_.Add(observer.observed(at), places, block, loop, &patches));
      if (reference == nullptr) continue;
      OCTET_ASSIGN_OR_RETURN(const Places there, Places::Of(*product_.reference, reference->observed_shape(reference_at)));
      if (there.count() != places.count()) {
        return absl::InvalidArgumentError(
            absl::StrCat("has ", places.count(), " output positions, the reference ", there.count()));
      }
      OCTET_RETURN_IF_ERROR(reference_->Add(reference->observed(reference_at), there, block, loop, &reference_patches));
      if (cross_.empty()) continue;
      OCTET_RETURN_IF_ERROR(AddProducts(product_.reader, Tiles::kAll, reference_patches, patches, loop, &cross_));
    }
    return absl::OkStatus();
  }

  int64_t count() const { return own_.count(); }

  PairedMoments Finish() {
    PairedMoments out;
    for (float& x : cross_) x /= static_cast<float>(count());
    out.changed = own_.Finish();
    out.cross = std::move(cross_);
    if (reference_.has_value()) out.reference_mean = reference_->Finish().mean;
    return out;
  }

 private:
  static Accumulator::Kind Kind(bool with_gram) {
    return with_gram ? Accumulator::Kind::kGram : Accumulator::Kind::kDiagonal;
  }

  const Product& product_;
  const MomentOptions& options_;
  Accumulator own_;
  std::optional<Accumulator> reference_;
  std::vector<float> cross_;
};

// Products [begin, end) that one pass over the samples serves.
struct Batch {
  size_t begin = 0, end = 0;
};

std::vector<Batch> MakeBatches(const std::vector<Product>& products, const MomentOptions& options) {
  std::vector<Batch> batches;
  int64_t bytes = 0;
  for (size_t i = 0; i < products.size(); ++i) {
    const int64_t own = products[i].bytes(options);
    if (batches.empty() || bytes + own > options.max_bytes) {
      batches.push_back({i, i});
      bytes = 0;
    }
    batches.back().end = i + 1;
    bytes += own;
  }
  return batches;
}

// The graph run with the sources of some products shown.
class Sources {
 public:
  static absl::StatusOr<Sources> Of(const graph::Graph& graph, std::vector<graph::ValueId> values, int threads) {
    Sources s;
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    OCTET_ASSIGN_OR_RETURN(s.observer_, Observer::Create(graph, values, threads));
    s.values_ = std::move(values);
    return s;
  }

  Observer& observer() const { return *observer_; }
  size_t At(graph::ValueId value) const {
    return static_cast<size_t>(std::lower_bound(values_.begin(), values_.end(), value) - values_.begin());
  }

 private:
  std::vector<graph::ValueId> values_;
  std::unique_ptr<Observer> observer_;
};

// Both forms of collecting: `reference` is null where products have none.
class Collector {
 public:
  Collector(const graph::Graph& graph, const graph::Graph* reference, std::vector<Product> products,
            const MomentOptions& options)
      : graph_(graph), reference_(reference), products_(std::move(products)), options_(options) {}

  absl::Status Run(data::SampleReader& samples, const std::vector<int64_t>& indices,
                   absl::FunctionRef<absl::Status(size_t, PairedMoments)> done) {
    if (indices.empty()) return absl::InvalidArgumentError("second moments of 0 samples; at least one is needed");
    const std::vector<Batch> batches = MakeBatches(products_, options_);
    total_ = static_cast<int64_t>(batches.size() * indices.size());
    for (const Batch& batch : batches) {
      std::vector<ProductSums> sums;
      for (size_t i = batch.begin; i < batch.end; ++i) sums.emplace_back(products_[i], options_);
      OCTET_RETURN_IF_ERROR(Pass(batch, samples, indices, &sums));
      for (size_t i = batch.begin; i < batch.end; ++i) {
        ProductSums& own = sums[i - batch.begin];
        if (own.count() == 0) return absl::InvalidArgumentError(absl::StrCat(Name(i), " has no output positions"));
        OCTET_RETURN_IF_ERROR(done(i, own.Finish()));
      }
    }
    return absl::OkStatus();
  }

 private:
  std::string Name(size_t product) const { return Describe(graph_, *products_[product].reader.node); }

  absl::Status Pass(const Batch& batch, data::SampleReader& samples, const std::vector<int64_t>& indices,
                    std::vector<ProductSums>* sums) {
    std::vector<graph::ValueId> own, theirs;
    for (size_t i = batch.begin; i < batch.end; ++i) {
      own.push_back(products_[i].reader.src);
      if (reference_ != nullptr) theirs.push_back(products_[i].reference->src);
    }
    OCTET_ASSIGN_OR_RETURN(const Sources sources, Sources::Of(graph_, own, options_.threads));
    std::optional<Sources> references;
    if (reference_ != nullptr) {
      OCTET_ASSIGN_OR_RETURN(references, Sources::Of(*reference_, theirs, options_.threads));
    }
    for (size_t s = 0; s < indices.size(); ++s) {
      OCTET_ASSIGN_OR_RETURN(const data::Sample sample, samples.Read(indices[s]));
      OCTET_RETURN_IF_ERROR(sources.observer().Run(sample));
      if (references.has_value()) OCTET_RETURN_IF_ERROR(references->observer().Run(sample));
      for (size_t i = batch.begin; i < batch.end; ++i) {
        const Observer* reference = references.has_value() ? &references->observer() : nullptr;
        const size_t there = references.has_value() ? references->At(theirs[i - batch.begin]) : 0;
        const absl::Status added = (*sums)[i - batch.begin].Add(sources.observer(), sources.At(products_[i].reader.src),
                                                               reference, there, CounterRng(s, i));
        if (!added.ok()) return Annotate(added, absl::StrCat("sample ", sample.name, ", input of ", Name(i)));
      }
      if (options_.progress) options_.progress({"second moments", ++runs_, total_});
    }
    return absl::OkStatus();
  }

  const graph::Graph& graph_;
  const graph::Graph* reference_;
  const std::vector<Product> products_;
  const MomentOptions& options_;
  int64_t runs_ = 0, total_ = 0;
};

}  // namespace

absl::Status CollectMoments(const graph::Graph& graph, absl::Span<const int> nodes, data::SampleReader& samples,
                            const std::vector<int64_t>& indices, const MomentOptions& options,
                            absl::FunctionRef<absl::Status(size_t, Moments)> done) {
  std::vector<Product> products;
  for (int node : nodes) {
    OCTET_ASSIGN_OR_RETURN(ProductReader reader, ReaderOf(graph, graph.nodes[static_cast<size_t>(node)]));
    products.push_back({std::move(reader), std::nullopt});
  }
  return Collector(graph, nullptr, std::move(products), options).Run(samples, indices, [&](size_t i, PairedMoments m) {
    return done(i, std::move(m.changed));
  });
}

absl::Status CollectPairedMoments(const graph::Graph& reference, const graph::Graph& changed,
                                  absl::Span<const ProductPair> products, data::SampleReader& samples,
                                  const std::vector<int64_t>& indices, const MomentOptions& options,
                                  absl::FunctionRef<absl::Status(size_t, PairedMoments)> done) {
  std::vector<Product> readers;
  for (const ProductPair& pair : products) {
    const graph::Node& there = reference.nodes[static_cast<size_t>(pair.reference)];
    OCTET_ASSIGN_OR_RETURN(ProductReader own, ReaderOf(changed, changed.nodes[static_cast<size_t>(pair.changed)]));
    OCTET_ASSIGN_OR_RETURN(ProductReader theirs, ReaderOf(reference, there));
    if (own.inputs != theirs.inputs || own.kernel != theirs.kernel || own.conv_groups != theirs.conv_groups) {
      return absl::InvalidArgumentError(
          absl::StrCat("weights of ", Describe(reference, there), " have another shape in the changed graph"));
    }
    readers.push_back({std::move(own), std::move(theirs)});
  }
  return Collector(changed, &reference, std::move(readers), options).Run(samples, indices, done);
}

}  // namespace octet::compress
