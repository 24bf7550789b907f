// Moments and bounds carried forward through a graph.
#include "compress/data_free.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"

namespace octet::compress {
namespace {

using graph::Graph;
using graph::kNoValue;
using graph::Node;
using graph::ValueId;
using Statistics = DataFreeStatistics;
using Function = absl::FunctionRef<double(double)>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double Density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * M_PI); }
double Cumulative(double x) { return std::erfc(-x / M_SQRT2) / 2; }

// Mean and deviation of f(x) of a normal x: trapezoids over +/- 8 deviations, 400 of them.
NormalMoments Integrate(const NormalMoments& x, Function f) {
  if (!(x.deviation > 0)) return {f(x.mean), 0};
  constexpr int kSteps = 400;
  double weight = 0, sum = 0, squares = 0;
  for (int i = -kSteps / 2; i <= kSteps / 2; ++i) {
    const double u = 16.0 * i / kSteps, w = Density(u), y = f(x.mean + u * x.deviation);
    weight += w;
    sum += w * y;
    squares += w * y * y;
  }
  const double mean = sum / weight;
  return {mean, std::sqrt(std::max(0.0, squares / weight - mean * mean))};
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

bool HasMoments(const Statistics& s) { return !s.mean.empty(); }

// One entry for the whole tensor; moments are lost unless there was only one.
Statistics Collapsed(const Statistics& s) {
  if (s.low.size() == 1) return s;
  return {{*std::min_element(s.low.begin(), s.low.end())}, {*std::max_element(s.high.begin(), s.high.end())}, {}, {}};
}

Statistics WithoutMoments(Statistics s) {
  s.mean.clear();
  s.deviation.clear();
  return s;
}

std::vector<double> Repeated(const std::vector<double>& values, size_t times) {
  std::vector<double> out;
  for (double v : values) out.insert(out.end(), times, v);
  return out;
}

Statistics Repeated(const Statistics& s, size_t times) {
  return {Repeated(s.low, times), Repeated(s.high, times), Repeated(s.mean, times), Repeated(s.deviation, times)};
}

void Append(const Statistics& part, Statistics* whole) {
  const auto add = [](const std::vector<double>& from, std::vector<double>* to) {
    to->insert(to->end(), from.begin(), from.end());
  };
  add(part.low, &whole->low);
  add(part.high, &whole->high);
  add(part.mean, &whole->mean);
  add(part.deviation, &whole->deviation);
}

class Propagator {
 public:
  Propagator(const Graph& g, const DataFreeOptions& options) : g_(g), options_(options), producers_(g.Producers()) {
    known_.resize(g.values.size());
  }

  std::vector<std::optional<Statistics>> Run() {
    for (ValueId id : g_.inputs) {
      if (!IsFloat(g_.value(id).dtype)) continue;
      const auto it = options_.inputs.find(g_.value(id).name);
      const Range r = it == options_.inputs.end() ? options_.input : it->second;
      // Moments of an even distribution.
      known_[static_cast<size_t>(id)] =
          Statistics{{r.low}, {r.high}, {(r.low + r.high) / 2}, {(r.high - r.low) / std::sqrt(12.0)}};
    }
    for (const Node& n : g_.nodes) {
      if (!n.domain.empty() || n.outputs.empty() || n.outputs[0] == kNoValue) continue;
      for (ValueId id : n.outputs) {  // a Split's parts, each like the whole
        if (id != kNoValue) known_[static_cast<size_t>(id)] = ResultOf(n, id);
      }
    }
    return std::move(known_);
  }

 private:
  const Statistics* Known(const Node& n, size_t i) const {
    if (!n.has_input(i)) return nullptr;
    const auto& s = known_[static_cast<size_t>(n.inputs[i])];
    return s.has_value() ? &*s : nullptr;
  }

  const Shape* ShapeOf(ValueId id) const {
    const auto& shape = g_.value(id).shape;
    return shape.has_value() ? &*shape : nullptr;
  }

  std::optional<double> Bound(const Node& n, size_t i) const {
    const Tensor* t = g_.ConstantInput(n, i);
    if (t == nullptr || t->num_elements() != 1) return std::nullopt;
    return t->ToF64()[0];
  }

  std::optional<Statistics> ResultOf(const Node& n, ValueId out) const {
    if (n.op == "BatchNormalization" || n.op == "InstanceNormalization") return Normalized(n);
    if (n.op == "Relu") return Clipped(n, 0, kInfinity);
    if (n.op == "Clip") return ClipNode(n);
    if (n.op == "Add" || n.op == "Sub" || n.op == "Mul" || n.op == "Div") return Binary(n);
    if (n.op == "Concat") return Joined(n);
    if (n.op == "Softmax") return Statistics{{0}, {1}, {}, {}};
    if (auto moved = Moved(n, out); moved.has_value()) return moved;
    return Elementwise(n);
  }

  std::optional<Statistics> Normalized(const Node& n) const {
    const Tensor *scale = g_.ConstantInput(n, 1), *shift = g_.ConstantInput(n, 2);
    if (scale == nullptr || shift == nullptr || n.GetInt("training_mode", 0) != 0) return std::nullopt;
    const std::vector<double> gamma = scale->ToF64(), beta = shift->ToF64();
    if (gamma.size() != beta.size()) return std::nullopt;
    Statistics s;
    for (size_t c = 0; c < gamma.size(); ++c) {
      const double reach = options_.sigmas * std::fabs(gamma[c]);
      s.low.push_back(beta[c] - reach);
      s.high.push_back(beta[c] + reach);
      s.mean.push_back(beta[c]);
      s.deviation.push_back(std::fabs(gamma[c]));
    }
    return s;
  }

  std::optional<Statistics> ClipNode(const Node& n) const {
    double bounds[2] = {-kInfinity, kInfinity};
    for (size_t i : {0, 1}) {
      if (!n.has_input(i + 1)) continue;
      const auto bound = Bound(n, i + 1);
      if (!bound.has_value()) return std::nullopt;
      bounds[i] = *bound;
    }
    return Clipped(n, bounds[0], bounds[1]);
  }

  std::optional<Statistics> Clipped(const Node& n, double low, double high) const {
    const Statistics* x = Known(n, 0);
    if (x == nullptr) {
      if (std::isinf(low) || std::isinf(high)) return std::nullopt;
      return Statistics{{low}, {high}, {}, {}};
    }
    Statistics s = *x;
    for (double& v : s.low) v = std::clamp(v, low, high);
    for (double& v : s.high) v = std::clamp(v, low, high);
    for (size_t c = 0; c < s.mean.size(); ++c) {
      const NormalMoments m = ClippedNormal({s.mean[c], s.deviation[c]}, low, high);
      s.mean[c] = m.mean;
      s.deviation[c] = m.deviation;
    }
    return s;
  }

  static Statistics Apply(const Statistics& x, Function f) {
    Statistics s = x;
    constexpr int kPoints = 256;
    for (size_t c = 0; c < x.low.size(); ++c) {
      s.low[c] = kInfinity;
      s.high[c] = -kInfinity;
      for (int i = 0; i <= kPoints; ++i) {
        const double y = f(x.low[c] + (x.high[c] - x.low[c]) * i / kPoints);
        s.low[c] = std::min(s.low[c], y);
        s.high[c] = std::max(s.high[c], y);
      }
    }
    for (size_t c = 0; c < x.mean.size(); ++c) {
      const NormalMoments m = Integrate({x.mean[c], x.deviation[c]}, f);
      s.mean[c] = m.mean;
      s.deviation[c] = m.deviation;
    }
    return s;
  }

  std::optional<Statistics> Elementwise(const Node& n) const {
    const Statistics* x = Known(n, 0);
    const auto bounded = [&](double low, double high, Function f) {
      return x != nullptr ? Apply(*x, f) : Statistics{{low}, {high}, {}, {}};
    };
    if (n.op == "Sigmoid") return bounded(0, 1, Sigmoid);
    if (n.op == "Tanh") return bounded(-1, 1, [](double v) { return std::tanh(v); });
    if (n.op == "HardSigmoid") {
      const double a = n.GetFloat("alpha", 0.2f), b = n.GetFloat("beta", 0.5f);
      return bounded(0, 1, [&](double v) { return std::clamp(a * v + b, 0.0, 1.0); });
    }
    if (x == nullptr) return std::nullopt;
    if (n.op == "HardSwish") return Apply(*x, [](double v) { return v * std::clamp(v / 6 + 0.5, 0.0, 1.0); });
    if (n.op == "Gelu") return Apply(*x, [](double v) { return v * Cumulative(v); });
    if (n.op == "Softplus") return Apply(*x, [](double v) { return v > 30 ? v : std::log1p(std::exp(v)); });
    if (n.op == "LeakyRelu" || n.op == "Elu") {
      const double a = n.GetFloat("alpha", n.op == "Elu" ? 1.0f : 0.01f);
      const bool elu = n.op == "Elu";
      return Apply(*x, [&](double v) { return v >= 0 ? v : elu ? a * std::expm1(v) : a * v; });
    }
    return std::nullopt;
  }

  // A constant operand as statistics without deviation: per channel where it varies along axis 1 of `rank` axes only.
  std::optional<Statistics> Constant(const Node& n, size_t i, size_t rank) const {
    const Tensor* t = n.has_input(i) ? g_.ConstantInput(n, i) : nullptr;
    if (t == nullptr || t->num_elements() == 0 || !IsFloat(t->dtype())) return std::nullopt;
    const std::vector<double> values = t->ToF64();
    const Shape& shape = t->shape();
    const bool per_channel = shape.size() + 1 >= rank && shape.size() <= rank &&
                             shape[shape.size() - (rank - 1)] == t->num_elements();
    const Statistics s{values, values, values, std::vector<double>(values.size(), 0.0)};
    return per_channel ? s : Collapsed(s);
  }

  std::optional<Statistics> Operand(const Node& n, size_t i) const {
    const Shape* shape = ShapeOf(n.outputs[0]);
    if (shape == nullptr || shape->size() < 2) return std::nullopt;
    if (g_.ConstantInput(n, i) != nullptr) return Constant(n, i, shape->size());
    const Statistics* s = Known(n, i);
    const Shape* own = ShapeOf(n.inputs[i]);
    if (s == nullptr || own == nullptr) return std::nullopt;
    return own->size() == shape->size() ? *s : Collapsed(*s);
  }

  // x f(x) of a gate f that reads the same x; such factors are anything but independent.
  std::optional<Statistics> Gated(const Node& n) const {
    for (size_t i : {0, 1}) {
      const int producer = producers_[static_cast<size_t>(n.inputs[i])];
      if (producer < 0) continue;
      const Node& gate = g_.nodes[static_cast<size_t>(producer)];
      const Statistics* x = Known(n, 1 - i);
      if (x == nullptr || gate.inputs.empty() || gate.inputs[0] != n.inputs[1 - i]) continue;
      if (gate.op == "Sigmoid") return Apply(*x, [](double v) { return v * Sigmoid(v); });
      if (gate.op != "HardSigmoid") continue;
      const double a = gate.GetFloat("alpha", 0.2f), b = gate.GetFloat("beta", 0.5f);
      return Apply(*x, [&](double v) { return v * std::clamp(a * v + b, 0.0, 1.0); });
    }
    return std::nullopt;
  }

  std::optional<Statistics> Binary(const Node& n) const {
    if (n.op == "Mul") {
      if (auto gated = Gated(n); gated.has_value()) return gated;
    }
    std::optional<Statistics> a = Operand(n, 0), b = Operand(n, 1);
    if (!a.has_value() || !b.has_value()) return std::nullopt;
    if (n.op == "Div") {
      for (size_t c = 0; c < b->low.size(); ++c) {
        if (b->low[c] != b->high[c] || b->low[c] == 0) return std::nullopt;  // constants only
        b->low[c] = b->high[c] = 1 / b->low[c];
        if (HasMoments(*b)) b->mean[c] = b->low[c];
      }
    }
    if (a->low.size() != b->low.size() && a->low.size() > 1 && b->low.size() > 1) {
      a = Collapsed(*a);
      b = Collapsed(*b);
    }
    const size_t channels = std::max(a->low.size(), b->low.size());
    if (a->low.size() < channels) a = Repeated(*a, channels);
    if (b->low.size() < channels) b = Repeated(*b, channels);
    return Combined(n.op, *a, *b);
  }

  static Statistics Combined(absl::string_view op, const Statistics& a, const Statistics& b) {
    Statistics s;
    const bool product = op == "Mul" || op == "Div";
    const double sign = op == "Sub" ? -1 : 1;
    for (size_t c = 0; c < a.low.size(); ++c) {
      if (product) {
        const auto [low, high] = std::minmax({a.low[c] * b.low[c], a.low[c] * b.high[c], a.high[c] * b.low[c],
                                              a.high[c] * b.high[c]});
        s.low.push_back(low);
        s.high.push_back(high);
      } else {
        s.low.push_back(a.low[c] + (sign > 0 ? b.low[c] : -b.high[c]));
        s.high.push_back(a.high[c] + (sign > 0 ? b.high[c] : -b.low[c]));
      }
      if (!HasMoments(a) || !HasMoments(b)) continue;
      const double ma = a.mean[c], mb = b.mean[c], va = a.deviation[c] * a.deviation[c], vb = b.deviation[c] * b.deviation[c];
      s.mean.push_back(product ? ma * mb : ma + sign * mb);
      s.deviation.push_back(std::sqrt(product ? va * vb + va * mb * mb + vb * ma * ma : va + vb));
    }
    return s;
  }

  std::optional<Statistics> Joined(const Node& n) const {
    const Shape* shape = ShapeOf(n.outputs[0]);
    const int64_t axis = n.GetInt("axis", 0);
    const bool by_channels = shape != nullptr && (axis == 1 || axis + static_cast<int64_t>(shape->size()) == 1);
    Statistics whole;
    bool apart = by_channels, moments = true;
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      const Statistics* part = Known(n, i);
      if (part == nullptr) return std::nullopt;
      const Shape* own = ShapeOf(n.inputs[i]);
      const int64_t channels = own != nullptr && own->size() >= 2 ? (*own)[1] : kUnknownDim;
      const auto entries = static_cast<int64_t>(part->low.size());
      moments = moments && HasMoments(*part);
      apart = apart && channels > 0 && (entries == 1 || entries == channels);
      Append(apart && entries == 1 ? Repeated(*part, static_cast<size_t>(channels)) : *part, &whole);
    }
    if (!moments) whole = WithoutMoments(std::move(whole));
    return apart ? whole : Collapsed(WithoutMoments(std::move(whole)));
  }

  static bool In(const Node& n, std::initializer_list<absl::string_view> ops) {
    return std::find(ops.begin(), ops.end(), n.op) != ops.end();
  }

  static Statistics WithZero(Statistics s) {
    for (double& v : s.low) v = std::min(v, 0.0);
    for (double& v : s.high) v = std::max(v, 0.0);
    return s;
  }

  // Operators whose results are elements, or averages of elements, of their source.
  std::optional<Statistics> Moved(const Node& n, ValueId out) const {
    const Statistics* x = Known(n, 0);
    if (x == nullptr) return std::nullopt;
    if (In(n, {"Identity", "Dropout", "GlobalAveragePool"})) return *x;
    if (In(n, {"AveragePool"})) return WithZero(*x);  // padding may count
    if (In(n, {"MaxPool", "GlobalMaxPool"})) return WithoutMoments(*x);
    if (In(n, {"Resize"}) && n.GetString("mode", "nearest") != "cubic") return *x;
    if (In(n, {"Pad"}) && n.GetString("mode", "constant") == "constant") {
      if (n.has_input(2) && Bound(n, 2) != 0) return std::nullopt;
      return WithZero(WithoutMoments(*x));
    }
    if (In(n, {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "ReduceMean"})) return Reshaped(*x, n.inputs[0], out);
    if (In(n, {"Transpose", "Slice", "Split", "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "Gather"})) {
      return Collapsed(*x);
    }
    return std::nullopt;
  }

  // Channels stay apart where axis 0 is kept and axis 1 is kept or takes all behind it in.
  Statistics Reshaped(const Statistics& x, ValueId in, ValueId out) const {
    const Shape *from = ShapeOf(in), *to = ShapeOf(out);
    const auto channels = static_cast<int64_t>(x.low.size());
    if (channels == 1 || from == nullptr || to == nullptr || from->size() < 2 || to->size() < 2) return Collapsed(x);
    if ((*from)[0] != (*to)[0] || (*from)[1] != channels) return Collapsed(x);
    if ((*to)[1] == channels) return x;
    int64_t inner = 1;
    for (size_t i = 2; i < from->size(); ++i) inner = (*from)[i] > 0 && inner > 0 ? inner * (*from)[i] : -1;
    const bool flat = to->size() == 2 && inner > 0 && (*to)[1] == channels * inner;
    return flat ? Repeated(x, static_cast<size_t>(inner)) : Collapsed(x);
  }

  const Graph& g_;
  const DataFreeOptions& options_;
  const std::vector<int> producers_;
  std::vector<std::optional<Statistics>> known_;
};

absl::Status CheckOptions(const Graph& g, const DataFreeOptions& options) {
  if (!(options.sigmas > 0)) return absl::InvalidArgumentError(absl::StrCat("sigmas ", options.sigmas, ", expected > 0"));
  const auto check = [](absl::string_view name, const Range& r) {
    if (r.low < r.high && std::isfinite(r.low) && std::isfinite(r.high)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("range [", r.low, ", ", r.high, "] of ", name, " has no width"));
  };
  if (absl::Status status = check("inputs", options.input); !status.ok()) return status;
  for (const auto& [name, range] : options.inputs) {
    const bool found = std::any_of(g.inputs.begin(), g.inputs.end(), [&](ValueId id) { return g.value(id).name == name; });
    if (!found) return absl::InvalidArgumentError(absl::StrCat("a range of input '", name, "', which the graph lacks"));
    if (absl::Status status = check(name, range); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

Range DataFreeStatistics::range() const {
  Range r;
  for (double v : low) r.low = std::min(r.low, v);
  for (double v : high) r.high = std::max(r.high, v);
  return r;
}

NormalMoments ClippedNormal(const NormalMoments& x, double low, double high) {
  if (!(x.deviation > 0)) return {std::clamp(x.mean, low, high), 0};
  const double m = x.mean, s = x.deviation;
  double mean = 0, square = 0;
  double below = 0, above = 0;                   // share of values at the bounds
  double density_low = 0, density_high = 0;      // 0 at infinite bounds, as are bound * density
  double bound_density_low = 0, bound_density_high = 0;
  if (std::isfinite(low)) {
    below = Cumulative((low - m) / s);
    density_low = Density((low - m) / s);
    bound_density_low = (m + low) * density_low;
    mean += low * below;
    square += low * low * below;
  }
  if (std::isfinite(high)) {
    above = Cumulative((m - high) / s);
    density_high = Density((high - m) / s);
    bound_density_high = (m + high) * density_high;
    mean += high * above;
    square += high * high * above;
  }
  const double inside = 1 - below - above;
  mean += m * inside + s * (density_low - density_high);
  square += (m * m + s * s) * inside + s * (bound_density_low - bound_density_high);
  return {mean, std::sqrt(std::max(0.0, square - mean * mean))};
}

absl::StatusOr<absl::flat_hash_map<ValueId, Statistics>> ComputeDataFreeStatistics(const Graph& original,
                                                                                   const Graph& prepared,
                                                                                   const DataFreeOptions& options) {
  if (absl::Status status = CheckOptions(original, options); !status.ok()) return status;
  std::vector<std::optional<Statistics>> known = Propagator(original, options).Run();
  absl::flat_hash_map<std::string, ValueId> by_name;
  for (size_t v = 0; v < prepared.values.size(); ++v) by_name.emplace(prepared.values[v].name, static_cast<ValueId>(v));
  absl::flat_hash_map<ValueId, Statistics> statistics;
  for (size_t v = 0; v < known.size(); ++v) {
    if (!known[v].has_value()) continue;
    const auto it = by_name.find(original.values[v].name);
    if (it != by_name.end()) statistics[it->second] = *std::move(known[v]);
  }
  return statistics;
}

std::vector<std::string> MissingRanges(const Graph& prepared, const Regions& regions,
                                       const absl::flat_hash_map<ValueId, Statistics>& statistics) {
  std::vector<std::string> missing;
  for (ValueId id : regions.values) {
    if (regions.same_as[static_cast<size_t>(id)] != kNoValue || statistics.contains(id)) continue;
    missing.push_back(prepared.value(id).name);
  }
  return missing;
}

absl::flat_hash_map<ValueId, ChannelMoments> MomentsOf(const absl::flat_hash_map<ValueId, Statistics>& statistics) {
  absl::flat_hash_map<ValueId, ChannelMoments> moments;
  for (const auto& [id, s] : statistics) {
    if (HasMoments(s) && s.mean.size() > 1) moments[id] = {s.mean, s.deviation};
  }
  return moments;
}

void Rescale(const EqualizeReport& report, absl::flat_hash_map<ValueId, Statistics>* statistics) {
  // What a Clip cut is back: from the value in front of it, which is rescaled below, too.
  for (const RescaledValue& v : report.values) {
    const auto source = statistics->find(v.relu_of);
    if (v.relu_of == kNoValue || source == statistics->end()) continue;
    const auto old = statistics->find(v.value);
    const bool averages = old != statistics->end() && HasMoments(old->second);
    Statistics s = source->second;
    if (!averages) s = WithoutMoments(std::move(s));
    for (double& low : s.low) low = std::max(low, 0.0);
    for (double& high : s.high) high = std::max(high, 0.0);
    for (size_t c = 0; c < s.mean.size(); ++c) {
      const NormalMoments m = ClippedNormal({s.mean[c], s.deviation[c]}, 0, kInfinity);
      s.mean[c] = m.mean;
      s.deviation[c] = m.deviation;
    }
    (*statistics)[v.value] = std::move(s);
  }
  for (const RescaledValue& v : report.values) {
    const auto it = statistics->find(v.value);
    if (it == statistics->end()) continue;
    Statistics& s = it->second;
    if (s.low.size() != v.divided_by.size()) {
      statistics->erase(it);
      continue;
    }
    for (size_t c = 0; c < s.low.size(); ++c) {
      const auto moved = [&](double x) { return x / v.divided_by[c] - v.lowered_by[c]; };
      const double floor = s.low[c] >= 0 ? 0 : -kInfinity;  // a Relu's result stays above 0
      s.low[c] = std::max(floor, moved(s.low[c]));
      s.high[c] = std::max(floor, moved(s.high[c]));
      if (!HasMoments(s)) continue;
      s.mean[c] = moved(s.mean[c]);
      s.deviation[c] /= v.divided_by[c];
    }
  }
}

}  // namespace octet::compress
