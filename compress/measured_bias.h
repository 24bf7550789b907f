// Biases corrected by what was measured: the mean of each layer's result in the compressed network becomes that of the
// float network.
#ifndef OCTET_COMPRESS_MEASURED_BIAS_H_
#define OCTET_COMPRESS_MEASURED_BIAS_H_

#include <vector>

#include "absl/status/status.h"
#include "compress/options.h"
#include "compress/products.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

// b[n] += E[y[n]] - E[y'[n]], layer by layer in the order of `products`, each seeing the corrected layers before it.
// Means are over samples and positions of the product's result before its activation. Layers whose results are not
// arranged by channel as the product writes them are left alone.
// Source: arXiv:1906.04721, section 4.2 (empirical correction).
absl::Status CorrectBiasesMeasured(const graph::Graph& reference, const std::vector<Product>& products,
                                   data::SampleReader& samples, const std::vector<int64_t>& indices,
                                   const CompressOptions& options, graph::Graph* working);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_MEASURED_BIAS_H_
