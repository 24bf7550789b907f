// The weights of one product onto the grid of its scheme, and the bias that makes up for what rounding shifts.
#ifndef OCTET_COMPRESS_QUANTIZE_PRODUCT_H_
#define OCTET_COMPRESS_QUANTIZE_PRODUCT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "compress/moments.h"
#include "compress/products.h"
#include "compress/recipe.h"
#include "compress/weight_matrix.h"
#include "graph/graph.h"

namespace octet::compress {

// What quantizing a product may look at.
struct ProductInputs {
  const Moments* moments = nullptr;  // of its inputs; required where NeedsMoments(scheme)
  // What the quantized weights are fitted to instead of the product's own; nullptr: those.
  const WeightMatrix* target = nullptr;
  // Whether the bias will make the layer right on average; then learned rounding leaves that to it.
  enum class Bias : uint8_t { kKept, kCorrected } bias = Bias::kCorrected;
  uint64_t seed = 0;
  int threads = 1;
};

// Scales and codes of the weights of the product that makes `output`. Nothing is changed.
// Errors: kUnimplemented naming node and rule where the grid cannot hold these weights.
absl::StatusOr<QuantizedMatrix> QuantizeWeights(const graph::Graph& graph, const Product& product,
                                                const LayerScheme& scheme, const ProductInputs& inputs);

// The bias of a product in reals, Gemm's beta applied; zeros where it has none.
std::vector<float> BiasOf(const graph::Graph& graph, const graph::Node& node, int64_t rows);

// Replaces the product's weights and bias. With an integer source and scales per channel the bias is s32 as ONNX Runtime
// fuses it, else f32. A bias of zeros is left out where the product had none.
void ReplaceWeights(const Product& product, const QuantizedMatrix& weights, const std::vector<float>& bias,
                    graph::Graph* graph);

// Replaces the bias alone, of whichever storage.
void ReplaceBias(const Product& product, const std::vector<float>& bias, graph::Graph* graph);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_QUANTIZE_PRODUCT_H_
