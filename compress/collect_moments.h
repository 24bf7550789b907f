// Gathers second moments of products' inputs by running a graph on samples.
#ifndef OCTET_COMPRESS_COLLECT_MOMENTS_H_
#define OCTET_COMPRESS_COLLECT_MOMENTS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "compress/options.h"
#include "compress/moments.h"
#include "data/sample_reader.h"
#include "graph/graph.h"

namespace octet::compress {

struct MomentOptions {
  // Output positions of a convolution, rows of a matrix product, that are looked at in one sample: one at a pseudo-random
  // place of each of so many equal parts (the same in every run), so that no row or column of an image is left out.
  int64_t max_positions_per_sample = 512;
  int64_t max_bytes = int64_t{32} << 20;  // of Gram matrices kept at once; one product may exceed it alone
  int64_t max_columns = 8192;             // with more only mean and diagonal are gathered
  int threads = 1;
  std::function<void(const Progress&)> progress;  // may be empty
};

// Calls done(i, moments) for every nodes[i], in order: indices of Conv, Gemm or MatMul nodes with a constant operand 1.
// Memory does not depend on the number of samples: products are handled in batches whose Gram matrices fit max_bytes, with
// one pass over samples `indices` per batch. Sums are f32 per position block and per Gram matrix, f64 of means; the result
// does not depend on the number of threads beyond what the network's own inference does.
// Errors: kInvalidArgument (no samples; a sample that makes an input NaN or infinite, named; another operator), those of
// the reader, the engine and `done`.
absl::Status CollectMoments(const graph::Graph& graph, absl::Span<const int> nodes, data::SampleReader& samples,
                            const std::vector<int64_t>& indices, const MomentOptions& options,
                            absl::FunctionRef<absl::Status(size_t, Moments)> done);

// Moments of a product in a changed graph, and how its inputs x' there go with the inputs x of the same product in the
// reference graph.
struct PairedMoments {
  Moments changed;                    // of x'
  std::vector<float> cross;           // [conv_groups, columns, columns]: E[x x'^T]; empty where `changed` has no gram
  std::vector<float> reference_mean;  // [conv_groups, columns]: E[x]
};

// Node indices of one product in both graphs; weights have the same shape.
struct ProductPair {
  int reference = -1, changed = -1;
};

// The same for pairs: every sample runs through both graphs, which have the same inputs. CorrectedTarget
// (compress/gram_error.h) makes of the result what rounding methods need.
absl::Status CollectPairedMoments(const graph::Graph& reference, const graph::Graph& changed,
                                  absl::Span<const ProductPair> products, data::SampleReader& samples,
                                  const std::vector<int64_t>& indices, const MomentOptions& options,
                                  absl::FunctionRef<absl::Status(size_t, PairedMoments)> done);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_COLLECT_MOMENTS_H_
