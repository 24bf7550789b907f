// Sites of migration, the search for alpha, and the rewrite.
#include "compress/migrate_scales.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "compress/product_weights.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;

constexpr double kSmallest = 1e-4, kLargest = 1e4;  // of s: no weight over- or underflows

bool IsMatrixProduct(const Graph& g, const Node& n) { return n.op != "Conv" && IsRewritableProduct(g, n); }

struct Site {
  ValueId value = kNoValue;
  int producer = -1;          // takes 1 / s; -1: a Mul does
  std::vector<int> products;  // readers with weights
};

class SiteFinder {
 public:
  explicit SiteFinder(const Graph& g)
      : g_(g), consumers_(g.Consumers()), producers_(g.Producers()), captured_(g.Captured()) {}

  // Sites, and for values of products that are none the reason.
  std::vector<Site> Find(MigrateOptions::Insert insert, std::vector<std::string>* skipped) const {
    std::map<ValueId, std::vector<int>> readers;
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      const Node& n = g_.nodes[i];
      if (IsMatrixProduct(g_, n) && !g_.value(n.inputs[0]).is_constant()) readers[n.inputs[0]].push_back(static_cast<int>(i));
    }
    std::vector<Site> sites;
    for (auto& [value, products] : readers) {
      Site site{value, -1, std::move(products)};
      const std::string why = Foldable(value, site.products.size(), &site.producer);
      if (why.empty() || insert == MigrateOptions::Insert::kMul) {
        sites.push_back(std::move(site));
      } else if (skipped != nullptr) {
        skipped->push_back(absl::StrCat("'", g_.value(value).name, "': ", why));
      }
    }
    return sites;
  }

 private:
  bool ReadBy(ValueId id, size_t count) const {
    return consumers_[static_cast<size_t>(id)].size() == count && !g_.IsOutput(id) && !captured_[static_cast<size_t>(id)];
  }

  // Why nothing in front of the value can take 1 / s; empty, and what can.
  std::string Foldable(ValueId value, size_t products, int* producer) const {
    if (!ReadBy(value, products)) return "something else reads it, too";
    int at = producers_[static_cast<size_t>(value)];
    while (at >= 0 && (Is(at, "Relu") || Is(at, "LeakyRelu"))) {
      const ValueId source = g_.nodes[static_cast<size_t>(at)].inputs[0];
      if (!ReadBy(source, 1)) return "the value in front of its activation is read elsewhere";
      at = producers_[static_cast<size_t>(source)];
    }
    if (at < 0) return "it is an input of the graph";
    const Node& n = g_.nodes[static_cast<size_t>(at)];
    if (!IsMatrixProduct(g_, n) && !IsNormalization(n)) return absl::StrCat(n.op, " cannot take a factor per channel");
    *producer = at;
    return "";
  }

  bool Is(int node, absl::string_view op) const {
    return g_.nodes[static_cast<size_t>(node)].domain.empty() && g_.nodes[static_cast<size_t>(node)].op == op;
  }

  // With constant scale and bias of one entry per channel of the last axis.
  bool IsNormalization(const Node& n) const {
    if (!n.domain.empty() || n.op != "LayerNormalization" || n.outputs.size() != 1) return false;
    const auto& shape = g_.value(n.outputs[0]).shape;
    if (!shape.has_value() || shape->empty()) return false;
    const int64_t axis = n.GetInt("axis", -1);
    if (axis != -1 && axis + 1 != static_cast<int64_t>(shape->size())) return false;
    for (size_t i : {1, 2}) {
      if (i == 2 && !n.has_input(2)) continue;
      const Tensor* t = n.has_input(i) ? g_.ConstantInput(n, i) : nullptr;
      if (t == nullptr || t->dtype() != DType::kF32 || t->num_elements() != shape->back()) return false;
    }
    return true;
  }

  const Graph& g_;
  const std::vector<std::vector<int>> consumers_;
  const std::vector<int> producers_;
  const std::vector<bool> captured_;
};

// What the error of a site is computed from.
struct Problem {
  std::vector<ProductWeights> weights;
  std::vector<double> x_maximum, x_square;  // per input channel
  bool one_sided = false;                   // no value below 0
};

std::vector<double> Scales(const Problem& p, double alpha) {
  std::vector<double> w_maximum(p.x_maximum.size(), 0.0);
  for (const ProductWeights& w : p.weights) {
    const std::vector<double> maxima = w.InputMaxima();
    for (size_t j = 0; j < maxima.size(); ++j) w_maximum[j] = std::max(w_maximum[j], maxima[j]);
  }
  std::vector<double> s(w_maximum.size(), 1.0);
  for (size_t j = 0; j < s.size(); ++j) {
    if (!(p.x_maximum[j] > 0 && w_maximum[j] > 0)) continue;
    s[j] = std::clamp(std::pow(p.x_maximum[j], alpha) / std::pow(w_maximum[j], 1 - alpha), kSmallest, kLargest);
  }
  return s;
}

double Error(const Problem& p, const std::vector<double>& s, const MigrateOptions& options) {
  double error = 0, squares = 0;
  for (const ProductWeights& w : p.weights) {
    const int64_t group = options.group > 0 ? options.group : w.inputs, groups = (w.inputs + group - 1) / group;
    std::vector<double> scale(static_cast<size_t>(w.rows * groups), 0.0);
    const auto scale_of = [&](int64_t row, int64_t input) -> double& {
      return scale[static_cast<size_t>(row * groups + input / group)];
    };
    w.ForEach([&](size_t index, int64_t row, int64_t input) {
      const double scaled = w.values[index] * s[static_cast<size_t>(input)];
      squares += scaled * scaled;
      scale_of(row, input) = std::max(scale_of(row, input), std::fabs(scaled) / options.max_level);
    });
    w.ForEach([&](size_t index, int64_t row, int64_t input) {
      const auto j = static_cast<size_t>(input);
      const double step = scale_of(row, input);
      if (!(step > 0)) return;
      const double scaled = w.values[index] * s[j], d = scaled - std::nearbyint(scaled / step) * step;
      error += p.x_square[j] / (s[j] * s[j]) * d * d;
    });
  }
  if (options.activations == MigrateOptions::Activations::kReal) return error;
  double range = 0;
  for (size_t j = 0; j < s.size(); ++j) range = std::max(range, p.x_maximum[j] / s[j]);
  const double step = (p.one_sided ? range : 2 * range) / 255;
  return error + step * step / 12 * squares;
}

struct Choice {
  double alpha = 0;
  std::vector<double> s;
  double error_before = 0, error_after = 0;
};

// nullopt when leaving the site alone is best.
std::optional<Choice> Choose(const Problem& p, const MigrateOptions& options) {
  Choice best;
  best.error_before = best.error_after = Error(p, std::vector<double>(p.x_maximum.size(), 1.0), options);
  if (options.alpha.has_value()) {
    best.alpha = *options.alpha;
    best.s = Scales(p, best.alpha);
    best.error_after = Error(p, best.s, options);
    return best;
  }
  for (int i = 0; i <= options.alpha_steps; ++i) {
    const double alpha = static_cast<double>(i) / std::max(options.alpha_steps, 1);
    std::vector<double> s = Scales(p, alpha);
    const double error = Error(p, s, options);
    if (error < best.error_after) best = {alpha, std::move(s), best.error_before, error};
  }
  return best.s.empty() ? std::nullopt : std::make_optional(std::move(best));
}

void DivideConstant(Graph* g, Node* n, size_t operand, const std::vector<double>& s) {
  if (!n->has_input(operand)) return;
  const Tensor t = *g->ConstantInput(*n, operand);
  std::vector<float> values = t.ToF32();
  for (size_t j = 0; j < values.size(); ++j) values[j] = static_cast<float>(values[j] / s[j]);
  n->inputs[operand] = g->AddConstant(g->UniqueName(g->value(n->inputs[operand]).name + "_scaled"),
                                      Tensor::FromF32(t.shape(), values));
}

void DivideResult(Graph* g, int producer, const std::vector<double>& s) {
  Node& n = g->nodes[static_cast<size_t>(producer)];
  if (n.op == "LayerNormalization") {
    DivideConstant(g, &n, 1, s);
    DivideConstant(g, &n, 2, s);
    return;
  }
  ProductWeights w = ReadProduct(*g, n);
  w.ForEach([&](size_t index, int64_t row, int64_t) {
    w.values[index] = static_cast<float>(w.values[index] / s[static_cast<size_t>(row)]);
  });
  for (size_t r = 0; r < w.bias.size(); ++r) w.bias[r] = static_cast<float>(w.bias[r] / s[r]);
  WriteProduct(w, g, &n);
}

void MultiplyInputs(Graph* g, int product, const std::vector<double>& s) {
  Node& n = g->nodes[static_cast<size_t>(product)];
  ProductWeights w = ReadProduct(*g, n);
  w.ForEach([&](size_t index, int64_t, int64_t input) {
    w.values[index] = static_cast<float>(w.values[index] * s[static_cast<size_t>(input)]);
  });
  WriteProduct(w, g, &n);
}

// A Mul that makes X / s for the products; it is put in front of the first of them afterwards. Its result.
Node MakeMul(Graph* g, const Site& site, const std::vector<double>& s) {
  std::vector<float> inverse;
  for (double v : s) inverse.push_back(static_cast<float>(1 / v));
  const std::string stem = g->value(site.value).name;
  const ValueId factor = g->AddConstant(g->UniqueName(stem + "_factor"),
                                        Tensor::FromF32({static_cast<int64_t>(s.size())}, inverse));
  graph::Value scaled;
  scaled.name = g->UniqueName(stem + "_scaled");
  scaled.dtype = DType::kF32;
  scaled.shape = g->value(site.value).shape;
  const ValueId id = g->AddValue(std::move(scaled));
  for (int product : site.products) g->nodes[static_cast<size_t>(product)].inputs[0] = id;
  return Node{"Mul", "", stem + "_migrate", {site.value, factor}, {id}, {}};
}

}  // namespace

std::vector<ValueId> MigrationCandidates(const Graph& graph, const MigrateOptions& options) {
  std::vector<ValueId> values;
  for (const Site& site : SiteFinder(graph).Find(options.insert, nullptr)) values.push_back(site.value);
  return values;
}

absl::StatusOr<MigrateReport> MigrateScales(Graph* graph, const absl::flat_hash_map<ValueId, ValueStatistics>& statistics,
                                            const MigrateOptions& options) {
  if (options.alpha.has_value() && !(*options.alpha >= 0 && *options.alpha <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("alpha ", *options.alpha, ", expected in [0, 1]"));
  }
  MigrateReport report;
  std::map<int, Node> inserted;  // in front of node
  for (const Site& site : SiteFinder(*graph).Find(options.insert, &report.skipped)) {
    const std::string name = graph->value(site.value).name;
    const auto skip = [&](absl::string_view why) { report.skipped.push_back(absl::StrCat("'", name, "': ", why)); };
    const auto it = statistics.find(site.value);
    if (it == statistics.end()) {
      skip("no statistics");
      continue;
    }
    Problem problem;
    for (int p : site.products) problem.weights.push_back(ReadProduct(*graph, graph->nodes[static_cast<size_t>(p)]));
    problem.x_maximum.assign(it->second.channel_maximum.begin(), it->second.channel_maximum.end());
    problem.x_square = it->second.ChannelSquareMeans();
    problem.one_sided = it->second.histogram.minimum() >= 0;
    if (std::any_of(problem.weights.begin(), problem.weights.end(), [&](const ProductWeights& w) {
          return static_cast<size_t>(w.inputs) != problem.x_maximum.size();
        })) {
      skip("its statistics have another number of channels");
      continue;
    }
    const std::optional<Choice> choice = Choose(problem, options);
    if (!choice.has_value()) {
      skip("no alpha lowers the error");
      continue;
    }
    MigratedSite done{name, "", {}, choice->alpha, choice->error_before, choice->error_after, choice->s};
    for (int p : site.products) {
      done.products.push_back(graph::Describe(*graph, graph->nodes[static_cast<size_t>(p)]));
      MultiplyInputs(graph, p, choice->s);
    }
    if (site.producer >= 0) {
      done.folded_in = graph::Describe(*graph, graph->nodes[static_cast<size_t>(site.producer)]);
      DivideResult(graph, site.producer, choice->s);
    } else {
      Node mul = MakeMul(graph, site, choice->s);
      done.folded_in = graph::Describe(*graph, mul);
      inserted.emplace(*std::min_element(site.products.begin(), site.products.end()), std::move(mul));
    }
    report.sites.push_back(std::move(done));
  }
  std::vector<Node> nodes;
  for (size_t i = 0; i < graph->nodes.size(); ++i) {
    if (const auto it = inserted.find(static_cast<int>(i)); it != inserted.end()) nodes.push_back(std::move(it->second));
    nodes.push_back(std::move(graph->nodes[i]));
  }
  graph->nodes = std::move(nodes);
  graph->RemoveDead();
  OCTET_RETURN_IF_ERROR(graph->Validate());
  return report;
}

}  // namespace octet::compress
