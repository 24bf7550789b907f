// The values that cost a network most when they are stored in 8 bits, found by measurement, and which of them stay real.
//
// e(v) is the noise at the outputs, relative to them, when v alone is rounded. Errors that are small and independent add
// up in power, so the noise of all roundings is near the sum of e; in many networks two or three values make most of it
// (behind the first layers, whose results have a few large elements).
#ifndef OCTET_COMPRESS_SOURCE_NOISE_H_
#define OCTET_COMPRESS_SOURCE_NOISE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/quantization.h"
#include "compress/options.h"
#include "compress/products.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

struct SourceNoise {
  graph::ValueId src = graph::kNoValue;
  double noise = 0;          // e(v), see compress/output_noise.h
  double multiply_adds = 0;  // of the products that read it, one sample
};

// Measures each source of `products`, in order. `params` gives a value's 8-bit parameters. Of `indices` every sample is run
// once a source. Errors: kInvalidArgument without a sample; those of the samples and the engine.
absl::StatusOr<std::vector<SourceNoise>> MeasureSources(const graph::Graph& graph, const std::vector<Product>& products,
                                                        const std::function<QuantParams(graph::ValueId)>& params,
                                                        data::SampleReader& samples, absl::Span<const int64_t> indices,
                                                        const CompressOptions& options);

struct RealLimits {
  double noise = 1e-3;      // the sum of e that is good enough: 30 dB
  double share = 0.02;      // sources below this share of all noise are not worth float products
  double multiply_adds = 0; // that float products may do
};

// Indices of the sources that stay real, ascending: most noise per multiply-add first, until what is left is good enough or
// none of the rest fits.
std::vector<size_t> ChooseReal(absl::Span<const SourceNoise> sources, const RealLimits& limits);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_SOURCE_NOISE_H_
