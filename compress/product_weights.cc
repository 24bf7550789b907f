// Weights out of a graph and back.
#include "compress/product_weights.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace octet::compress {
namespace {

bool IsRealConstant(const graph::Value& v) {
  return v.is_constant() && v.data->dtype() == DType::kF32 && !v.quant.has_value();
}

bool RowsLast(const graph::Node& n) { return n.op == "MatMul" || (n.op == "Gemm" && n.GetInt("transB", 0) == 0); }

int64_t Rows(const graph::Node& n, const Shape& shape) { return RowsLast(n) ? shape[1] : shape[0]; }

}  // namespace

std::vector<double> ProductWeights::RowMaxima() const {
  std::vector<double> maxima(static_cast<size_t>(rows), 0.0);
  ForEach([&](size_t index, int64_t row, int64_t) {
    double& m = maxima[static_cast<size_t>(row)];
    m = std::max<double>(m, std::fabs(values[index]));
  });
  return maxima;
}

std::vector<double> ProductWeights::InputMaxima() const {
  std::vector<double> maxima(static_cast<size_t>(inputs), 0.0);
  ForEach([&](size_t index, int64_t, int64_t input) {
    double& m = maxima[static_cast<size_t>(input)];
    m = std::max<double>(m, std::fabs(values[index]));
  });
  return maxima;
}

bool IsRewritableProduct(const graph::Graph& graph, const graph::Node& node) {
  if (!node.domain.empty() || (node.op != "Conv" && node.op != "Gemm" && node.op != "MatMul")) return false;
  if (node.inputs.size() < 2 || !IsRealConstant(graph.value(node.inputs[1]))) return false;
  const Shape& shape = graph.value(node.inputs[1]).data->shape();
  if (node.op == "Conv" ? shape.size() < 3 : shape.size() != 2) return false;
  if (NumElements(shape) == 0) return false;
  if (node.op == "Conv" && shape[0] % node.GetInt("group", 1) != 0) return false;
  if (node.GetFloat("alpha", 1) != 1 || node.GetFloat("beta", 1) != 1 || node.GetInt("transA", 0) != 0) return false;
  if (!node.has_input(2)) return true;
  const graph::Value& bias = graph.value(node.inputs[2]);
  return IsRealConstant(bias) && bias.data->num_elements() == Rows(node, shape);
}

ProductWeights ReadProduct(const graph::Graph& graph, const graph::Node& node) {
  const Tensor& weights = *graph.value(node.inputs[1]).data;
  const Shape& shape = weights.shape();
  ProductWeights w;
  w.rows_last = RowsLast(node);
  w.rows = Rows(node, shape);
  w.groups = node.op == "Conv" ? node.GetInt("group", 1) : 1;
  w.inputs = (w.rows_last ? shape[0] : shape[1]) * w.groups;
  for (size_t i = 2; i < shape.size(); ++i) w.taps *= shape[i];
  w.values = weights.ToF32();
  if (node.has_input(2)) w.bias = graph.value(node.inputs[2]).data->ToF32();
  return w;
}

void WriteProduct(const ProductWeights& weights, graph::Graph* graph, graph::Node* node) {
  const auto replace = [&](size_t operand, Shape shape, const std::vector<float>& values, const std::string& stem) {
    node->inputs.resize(std::max(node->inputs.size(), operand + 1), graph::kNoValue);
    node->inputs[operand] = graph->AddConstant(graph->UniqueName(stem), Tensor::FromF32(std::move(shape), values));
  };
  const std::string stem = graph->value(node->inputs[1]).name;
  replace(1, graph->value(node->inputs[1]).data->shape(), weights.values, absl::StrCat(stem, "_scaled"));
  if (weights.bias.empty()) return;
  const Shape shape = node->has_input(2) ? graph->value(node->inputs[2]).data->shape() : Shape{weights.rows};
  replace(2, shape, weights.bias, absl::StrCat(stem, "_scaled_bias"));
}

}  // namespace octet::compress
