// One layer at a time: weights fitted to the float network's result while the inputs are those of the compressed layers
// before it.
//
// With x the float network's inputs of a layer and x' the compressed network's, the weights W' should minimise
//   E |W x - W' x'|^2  =  const + tr (W* - W') G' (W* - W')^T,   W* = W C G'^-1,  C = E[x x'^T],  G' = E[x' x'^T]
// so the same rounding methods serve, with W* for W: it makes up for errors of the layers before, as far as a linear map
// can. G' is damped, so W* stays W where x' = x. Derived here; cf. arXiv:2004.10568, section 3.3 (asymmetric
// reconstruction).
#ifndef OCTET_COMPRESS_LAYER_FIT_H_
#define OCTET_COMPRESS_LAYER_FIT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "compress/collect_moments.h"
#include "compress/local_reparameterization.h"
#include "compress/options.h"
#include "compress/quantize_product.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

MomentOptions MomentOptionsOf(const Recipe& recipe, const CompressOptions& options);

// Replaces weights and bias of `product` in `working`, whose earlier layers are compressed already; the new bias gives the
// float result's mean, or is the local fit's where the scheme has one; `note` then says what that did (else it stays).
// Errors: those of the samples, the engine and QuantizeWeights.
absl::Status CompressLayer(const graph::Graph& reference, const Product& product, const LayerScheme& scheme,
                           data::SampleReader& samples, const std::vector<int64_t>& indices,
                           const MomentOptions& options, uint64_t seed, graph::Graph* working, std::string* note);

// What a product's result goes through before anything else reads it, where that is a ReLU or a clip with constant bounds.
Clamp ClampBehind(const graph::Graph& graph, const Product& product);

// The part of a graph that makes the values `ids`, which are its only outputs.
graph::Graph Truncate(graph::Graph graph, const std::vector<graph::ValueId>& ids);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_LAYER_FIT_H_
