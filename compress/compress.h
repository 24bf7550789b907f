// Compression of a float graph by a recipe: what calibration finds, what each layer becomes, and what it cost.
//
//   graph -> Prepare (constants and BatchNormalization folded) -> corrections of the float network -> ranges of activations
//         -> weights layer by layer onto their grids -> biases corrected -> compared with the float graph on held-back samples
#ifndef OCTET_COMPRESS_COMPRESS_H_
#define OCTET_COMPRESS_COMPRESS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "compress/calibrate.h"
#include "compress/compare.h"
#include "compress/data_free.h"
#include "compress/observe.h"
#include "compress/options.h"
#include "compress/products.h"
#include "compress/ranges.h"
#include "compress/recipe.h"
#include "compress/regions.h"
#include "compress/sample_cache.h"
#include "compress/traps.h"
#include "compress/weight_matrix.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

// One product that was compressed.
struct LayerReport {
  std::string node, op, scheme;
  int64_t weights_elements = 0, weights_bytes = 0;  // codes and scales
  // Of sums of pairs in s16, as CPUs without VNNI make them: the share expected to overflow. Nothing where products are
  // not u8 x s8, or without samples.
  std::optional<double> overflow_share;
  double sqnr_db = 0;  // of its result against the float network's, everything before it compressed too; NaN without samples
};

struct CompressReport {
  int64_t calibration_samples = 0, held_back_samples = 0;
  std::vector<LayerReport> layers;  // worst SQNR first
  std::vector<std::string> kept_float;
  std::vector<OutputReport> outputs;
  std::vector<Trap> traps;         // that the recipe walked into
  std::vector<std::string> notes;  // what else was done
  int64_t float_weights_bytes = 0, weights_bytes = 0;  // of all constants, as stored
};

struct CompressResult {
  graph::Graph graph;  // values with quant; export it with onnx/export.h
  Recipe recipe;       // as it was applied: calibration digest and defaults filled in
  CompressReport report;
};

// One network and its calibration set; several recipes can be tried on it without calibrating again.
// Thread-compatible; runs on the calling thread's team.
class Compressor {
 public:
  // Prepares and calibrates. `recipe` says which samples, ranges and corrections of the float network; its layers are not
  // looked at. `samples` outlives the compressor.
  // Errors: kInvalidArgument (fewer than two samples; a sample of wrong shape or with NaN or Inf, named; a graph that is
  // quantized already or has nothing to quantize; a calibration digest that differs), errors of reader and engine.
  static absl::StatusOr<std::unique_ptr<Compressor>> Create(const graph::Graph& graph, data::SampleReader& samples,
                                                            const Recipe& recipe, const CompressOptions& options);

  // The same without samples: ranges and mean inputs from BatchNormalization's parameters (compress/data_free.h). Layers
  // whose inputs are not known so keep float activations. Nothing is compared; reports have no SQNR.
  // Errors: kInvalidArgument for a recipe that needs samples (weighted scales, learned rounding, sequential, ...), named.
  static absl::StatusOr<std::unique_ptr<Compressor>> CreateDataFree(const graph::Graph& graph, const Recipe& recipe,
                                                                    const DataFreeOptions& data_free,
                                                                    const CompressOptions& options);

  const graph::Graph& float_graph() const { return graph_; }
  const std::vector<Product>& products() const { return products_; }
  const std::string& digest() const { return digest_; }  // of the calibration samples
  bool has_classes() const;  // output 0 is rows of class scores, of which the largest counts
  int64_t held_back_samples() const { return static_cast<int64_t>(held_.size()); }

  // Compresses by `recipe`, whose samples, ranges and corrections of the float network are those of Create, and compares.
  absl::StatusOr<CompressResult> Run(const Recipe& recipe);

  // The SQNR of output 0 when this product alone is compressed, over the first `samples` held-back samples.
  absl::StatusOr<double> OutputSqnrOf(const Product& product, const LayerScheme& scheme, int64_t samples);

  // Bytes of a product's weights, codes and scales, as the file holds them. Requires: a recipe with this scheme was run.
  int64_t WeightsBytes(const Product& product, const LayerScheme& scheme) const;

 private:
  Compressor(data::SampleReader& samples, const CompressOptions& options)
      : options_(options), samples_(samples, options.max_cached_bytes) {}

  absl::Status Start(const graph::Graph& graph, const Recipe& recipe);
  absl::Status StartDataFree(const graph::Graph& graph, const Recipe& recipe, const DataFreeOptions& options);
  absl::Status CorrectFloat(const Recipe& recipe);
  // Regions of static activations, without values of which no range is known.
  absl::StatusOr<Regions> StaticRegions(const Recipe& recipe);
  // 8-bit parameters of a value: u8, or s8 where symmetric, by kMse and the like on its histogram, or by its data-free
  // range. Requires: one of both is known; valid `ranges`.
  QuantParams ParamsOf(const compression::v1::Ranges& ranges, graph::ValueId id, bool symmetric);
  std::vector<double> ChannelMeansOf(graph::ValueId id) const;  // empty where unknown
  absl::StatusOr<graph::Graph> WithActivations(const Recipe& recipe);
  // Fills quantized_ for all products of the recipe that it lacks.
  absl::Status QuantizeAll(const Recipe& recipe);
  absl::Status CompressInOrder(const Recipe& recipe, graph::Graph* working);
  absl::Status CorrectMeasured(const Recipe& recipe, graph::Graph* working);
  absl::StatusOr<std::vector<float>> CorrectedBias(const Recipe& recipe, const Product& product,
                                                   const QuantizedMatrix& weights) const;
  // The graph with activations, weights and biases by `recipe`, values as in graph_.
  absl::StatusOr<graph::Graph> Apply(const Recipe& recipe);
  // Apply; with sequential: WHERE_NEEDED the best of OrdersOf on held-back samples, which *recipe then says; `note` has figures.
  absl::StatusOr<graph::Graph> ApplyBest(Recipe* recipe, std::string* note);
  // WHERE_NEEDED: `recipe` with rules for the products whose 8-bit sources cost most, which then read reals.
  absl::StatusOr<Recipe> WithWideActivations(const Recipe& recipe, std::string* note);
  // WHERE_NEEDED: `recipe` with rules for the layers of `applied` whose sums overflow.
  Recipe WithReducedRange(const Recipe& recipe, const graph::Graph& applied) const;
  std::optional<double> OverflowShareOf(const graph::Graph& applied, const Product& product) const;
  std::vector<Trap> TrapsOf(const Recipe& recipe) const;
  // Layers of `applied`, without SQNR.
  void ReportLayers(const Recipe& recipe, const graph::Graph& applied, CompressReport* report) const;
  absl::Status Compare(const Recipe& recipe, CompressResult* result);
  // Writes what an ensemble's probabilities are at, where there are draws and classes.
  absl::Status AddTemperatures(graph::Graph* working);
  // Output 0 of the float network on held-back sample i; valid until the next call.
  absl::StatusOr<const std::vector<float>*> FloatOutput(int64_t i);

  const CompressOptions options_;
  SampleCache samples_;
  Recipe recipe_;  // of Create
  graph::Graph graph_;
  std::vector<Product> products_;
  std::vector<int64_t> used_, held_;
  std::string digest_;
  std::vector<std::string> notes_;      // of Create
  std::vector<std::string> run_notes_;  // of the last Apply
  std::vector<Trap> run_traps_;
  absl::flat_hash_map<graph::ValueId, ValueStatistics> statistics_;
  bool has_samples_ = true;
  absl::flat_hash_map<graph::ValueId, DataFreeStatistics> data_free_;  // when there are no samples
  std::unique_ptr<Observer> float_observer_;       // of FloatOutput, and what it has found
  std::vector<std::vector<float>> float_outputs_;
  // Weights that do not depend on other layers' schemes, by product and scheme.
  absl::flat_hash_map<std::string, QuantizedMatrix> quantized_;
};

// Compressor::Create and Run in one; the recipe is completed from it.
absl::StatusOr<CompressResult> Compress(const graph::Graph& graph, data::SampleReader& samples, const Recipe& recipe,
                                        const CompressOptions& options);

// Folds constants, frees a batch fixed at 1, folds BatchNormalization: the float graph that is compressed and compared.
absl::StatusOr<graph::Graph> Prepare(graph::Graph graph);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_COMPRESS_H_
