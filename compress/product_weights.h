// Float weights of Conv, Gemm and MatMul as rows (output channels) times input channels, in the operand's own order: what
// rewrites that scale channels work on.
#ifndef OCTET_COMPRESS_PRODUCT_WEIGHTS_H_
#define OCTET_COMPRESS_PRODUCT_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "graph/graph.h"

namespace octet::compress {

struct ProductWeights {
  int64_t rows = 0;      // output channels
  int64_t inputs = 0;    // input channels, of all conv groups together
  int64_t taps = 1;      // kernel positions
  int64_t groups = 1;    // of a convolution: row r reads the inputs of group r / (rows / groups)
  bool rows_last = false;  // operand is [inputs, rows] instead of [rows, inputs / groups, taps]
  std::vector<float> values;
  std::vector<float> bias;  // [rows], or empty

  int64_t inputs_per_group() const { return inputs / groups; }

  // f(index into values, row, input channel) for every weight.
  template <typename F>
  void ForEach(F f) const {
    const int64_t per_group = inputs_per_group();
    size_t index = 0;
    if (rows_last) {
      for (int64_t i = 0; i < inputs; ++i) {
        for (int64_t r = 0; r < rows; ++r) f(index++, r, i);
      }
      return;
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t first = r / (rows / groups) * per_group;
      for (int64_t i = 0; i < per_group; ++i) {
        for (int64_t t = 0; t < taps; ++t) f(index++, r, first + i);
      }
    }
  }

  std::vector<double> RowMaxima() const;    // max |w| per output channel
  std::vector<double> InputMaxima() const;  // max |w| per input channel
};

// True for a product whose weights, and bias if any, are constant f32 that ReadProduct understands: Conv; Gemm without
// alpha, beta, transA; MatMul with a matrix on the right.
bool IsRewritableProduct(const graph::Graph& graph, const graph::Node& node);

// Requires: IsRewritableProduct.
ProductWeights ReadProduct(const graph::Graph& graph, const graph::Node& node);

// New constants for the operands of `node`, so that other readers of the old ones keep theirs; a bias is added when
// `weights` has one. Requires: node is one of graph's; weights has its shape; a MatMul gets a bias only if it had one.
void WriteProduct(const ProductWeights& weights, graph::Graph* graph, graph::Node* node);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_PRODUCT_WEIGHTS_H_
