// Cross-layer equalization and bias absorption. All weights are held as floats until the scales have converged.
#include "compress/equalize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
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

struct Pair {
  int first = -1, second = -1;  // nodes
  std::vector<ValueId> between;  // the first's result, and those of the functions behind it
  std::vector<int> clips;        // of these functions, those that became Relu
  bool keeps_shifts = true;      // f(x - c) = f(x) - c where x >= c >= 0
  std::vector<double> divided_by, lowered_by;
  double spread_before = 1;
  int absorbed_channels = 0;
};

double Spread(const ProductWeights& w) {
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (double m : w.RowMaxima()) {
    if (m > 0) low = std::min(low, m);
    high = std::max(high, m);
  }
  return high > 0 ? high / low : 1;
}

class Equalizer {
 public:
  Equalizer(Graph* g, const EqualizeOptions& options, const absl::flat_hash_map<ValueId, ChannelMoments>& moments)
      : g_(*g), options_(options), moments_(moments), consumers_(g->Consumers()), captured_(g->Captured()) {}

  absl::StatusOr<EqualizeReport> Run() {
    for (size_t i = 0; i < g_.nodes.size(); ++i) AddPair(static_cast<int>(i));
    for (Pair& p : pairs_) p.spread_before = Spread(weights_.at(p.first));
    Iterate();
    if (options_.absorb == EqualizeOptions::Absorb::kOn) {
      for (Pair& p : pairs_) Absorb(&p);
    }
    std::set<int> rewritten;
    for (const Pair& p : pairs_) rewritten.insert({p.first, p.second});
    for (int i : rewritten) WriteProduct(weights_.at(i), &g_, &g_.nodes[static_cast<size_t>(i)]);
    for (const Pair& p : pairs_) Report(p);
    g_.RemoveDead();
    OCTET_RETURN_IF_ERROR(g_.Validate());
    return std::move(report_);
  }

 private:
  const Node& node(int i) const { return g_.nodes[static_cast<size_t>(i)]; }
  std::string Name(int i) const { return graph::Describe(g_, node(i)); }

  // The only reader of a value that nobody else sees, or -1.
  int OnlyReader(ValueId id) const {
    const auto& readers = consumers_[static_cast<size_t>(id)];
    return readers.size() == 1 && !g_.IsOutput(id) && !captured_[static_cast<size_t>(id)] ? readers[0] : -1;
  }

  bool HasUpperBound(const Node& n) const {
    if (!n.has_input(2)) return false;
    const Tensor* bound = g_.ConstantInput(n, 2);
    return bound == nullptr || bound->ToF32()[0] < std::numeric_limits<float>::max();
  }

  // Why f(s x) = s f(x), s > 0, does not hold for `n` on operand 0; empty when it does.
  std::string WhyNotHomogeneous(const Node& n, bool behind_conv) const {
    if (!n.domain.empty()) return absl::StrCat(n.domain, ".", n.op, " lies between");
    if (n.op == "Relu" || n.op == "LeakyRelu") return "";
    for (const char* op : {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}) {
      if (n.op != op) continue;
      if (!behind_conv) return "a pooling over channels lies between";
      return n.outputs.size() == 1 ? "" : "positions of maxima are read";
    }
    if (n.op == "PRelu") return g_.ConstantInput(n, 1) != nullptr ? "" : "PRelu's slopes are computed";
    if (n.op != "Clip") return absl::StrCat(n.op, " lies between");
    const Tensor* low = g_.ConstantInput(n, 1);
    if (low == nullptr || low->ToF32()[0] != 0) return "Clip with a lower bound other than 0";
    if (HasUpperBound(n) && options_.clips == EqualizeOptions::Clips::kSkip) return "Clip with an upper bound";
    return "";
  }

  // A padded average takes zeros in that stand for 0, not for the shifted one.
  static bool KeepsShifts(const Node& n) { return n.op != "AveragePool" || n.GetInt("count_include_pad", 0) == 0; }

  void AddPair(int first) {
    if (!IsRewritableProduct(g_, node(first))) return;
    Pair pair{first, -1, {node(first).outputs[0]}, {}, true, {}, {}, 1, 0};
    for (;;) {
      const int next = OnlyReader(pair.between.back());
      if (next < 0) return;
      const Node& n = node(next);
      if (n.inputs[0] != pair.between.back()) return;
      if (IsRewritableProduct(g_, n)) {
        pair.second = next;
        break;
      }
      // What stands in front of no product is not worth a remark.
      if (const std::string why = WhyNotHomogeneous(n, node(first).op == "Conv"); !why.empty()) {
        const int behind = n.outputs.empty() || n.outputs[0] == kNoValue ? -1 : OnlyReader(n.outputs[0]);
        if (behind >= 0 && IsRewritableProduct(g_, node(behind))) Skip(first, behind, why);
        return;
      }
      if (n.op == "Clip" && HasUpperBound(n)) pair.clips.push_back(next);
      pair.keeps_shifts = pair.keeps_shifts && KeepsShifts(n);
      pair.between.push_back(n.outputs[0]);
    }
    Load(first);
    Load(pair.second);
    const ProductWeights& a = weights_.at(first);
    if (a.rows != weights_.at(pair.second).inputs) {
      return Skip(first, pair.second, absl::StrCat(a.rows, " channels become ", weights_.at(pair.second).inputs));
    }
    if (!SameAxis(pair)) return Skip(first, pair.second, "channels lie on different axes");
    for (int clip : pair.clips) {
      Node& n = g_.nodes[static_cast<size_t>(clip)];
      n.op = "Relu";
      n.inputs.resize(1);
      n.attributes.clear();
    }
    pair.divided_by.assign(static_cast<size_t>(a.rows), 1.0);
    pair.lowered_by.assign(static_cast<size_t>(a.rows), 0.0);
    pairs_.push_back(std::move(pair));
  }

  // A convolution's channels are axis 1, a matrix product's the last one: the same only where both are of one kind.
  bool SameAxis(const Pair& p) const { return (node(p.first).op == "Conv") == (node(p.second).op == "Conv"); }

  void Skip(int first, int second, absl::string_view why) {
    report_.skipped.push_back(absl::StrCat(Name(first), " -> ", Name(second), ": ", why));
  }

  void Load(int i) {
    if (!weights_.contains(i)) weights_.emplace(i, ReadProduct(g_, node(i)));
  }

  void Iterate() {
    for (double largest = 1; largest > options_.tolerance && report_.rounds < options_.max_rounds; ++report_.rounds) {
      largest = 0;
      for (Pair& p : pairs_) largest = std::max(largest, Balance(&p));
    }
  }

  // One step of one pair; the largest |s - 1|.
  double Balance(Pair* p) {
    ProductWeights& a = weights_.at(p->first);
    ProductWeights& b = weights_.at(p->second);
    const std::vector<double> r1 = a.RowMaxima(), r2 = b.InputMaxima();
    std::vector<double> s(r1.size(), 1.0);
    double largest = 0;
    for (size_t i = 0; i < s.size(); ++i) {
      if (!(r1[i] > 0 && r2[i] > 0)) continue;
      s[i] = std::sqrt(r1[i] / r2[i]);
      largest = std::max(largest, std::fabs(s[i] - 1));
      p->divided_by[i] *= s[i];
    }
    a.ForEach([&](size_t index, int64_t row, int64_t) {
      a.values[index] = static_cast<float>(a.values[index] / s[static_cast<size_t>(row)]);
    });
    for (size_t i = 0; i < a.bias.size(); ++i) a.bias[i] = static_cast<float>(a.bias[i] / s[i]);
    b.ForEach([&](size_t index, int64_t, int64_t input) {
      b.values[index] = static_cast<float>(b.values[index] * s[static_cast<size_t>(input)]);
    });
    return largest;
  }

  // Zero padding stands for 0, not for the 0 - c that a shifted value would need.
  static bool Pads(const Node& n) {
    if (n.GetString("auto_pad", "NOTSET") == "SAME_UPPER" || n.GetString("auto_pad", "NOTSET") == "SAME_LOWER") return true;
    const std::vector<int64_t> pads = n.GetInts("pads");
    return std::any_of(pads.begin(), pads.end(), [](int64_t pad) { return pad != 0; });
  }

  void Absorb(Pair* p) {
    const auto it = moments_.find(p->between.front());
    ProductWeights& a = weights_.at(p->first);
    ProductWeights& b = weights_.at(p->second);
    if (it == moments_.end() || a.bias.empty() || !p->keeps_shifts || Pads(node(p->second))) return;
    // ONNX's MatMul has no bias.
    if (b.bias.empty() && node(p->second).op == "MatMul") return;
    const ChannelMoments& m = it->second;
    if (m.mean.size() != a.bias.size() || m.deviation.size() != a.bias.size()) return;
    std::vector<double> c(a.bias.size(), 0.0);
    for (size_t i = 0; i < c.size(); ++i) {
      c[i] = std::max(0.0, m.mean[i] - options_.sigmas * m.deviation[i]) / p->divided_by[i];
      if (c[i] > 0) ++p->absorbed_channels;
    }
    if (p->absorbed_channels == 0) return;
    std::vector<double> added(static_cast<size_t>(b.rows), 0.0);
    b.ForEach([&](size_t index, int64_t row, int64_t input) {
      added[static_cast<size_t>(row)] += b.values[index] * c[static_cast<size_t>(input)];
    });
    b.bias.resize(static_cast<size_t>(b.rows), 0.0f);
    for (size_t i = 0; i < c.size(); ++i) a.bias[i] = static_cast<float>(a.bias[i] - c[i]);
    for (size_t i = 0; i < added.size(); ++i) b.bias[i] = static_cast<float>(b.bias[i] + added[i]);
    p->lowered_by = std::move(c);
  }

  void Report(const Pair& p) {
    report_.pairs.push_back({Name(p.first), Name(p.second), p.spread_before, Spread(weights_.at(p.first)),
                             p.absorbed_channels});
    ValueId relu_of = kNoValue;
    for (ValueId id : p.between) {
      for (int clip : p.clips) {
        if (node(clip).outputs[0] == id && relu_of == kNoValue) relu_of = node(clip).inputs[0];
      }
      report_.values.push_back({id, p.divided_by, p.lowered_by, relu_of});
    }
  }

  Graph& g_;
  const EqualizeOptions& options_;
  const absl::flat_hash_map<ValueId, ChannelMoments>& moments_;
  const std::vector<std::vector<int>> consumers_;
  const std::vector<bool> captured_;
  std::vector<Pair> pairs_;
  absl::flat_hash_map<int, ProductWeights> weights_;
  EqualizeReport report_;
};

}  // namespace

absl::StatusOr<EqualizeReport> Equalize(Graph* graph, const EqualizeOptions& options,
                                        const absl::flat_hash_map<ValueId, ChannelMoments>& moments) {
  return Equalizer(graph, options, moments).Run();
}

}  // namespace octet::compress
