// The search: measure, allocate, verify, repair.
#include "compress/search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "compress/allocate.h"
#include "compress/layer_times.h"

namespace octet::compress {
namespace {

constexpr double kDefaultDrop = 0.5, kDefaultSqnrDb = 30;
constexpr double kTimingSeconds = 0.5;  // of each candidate network
constexpr int kMaxRepairs = 6;
constexpr double kPays = 0.97;  // int8 must take less than this share of float's time to be chosen for its speed

bool HasLimit(const Target& t) {
  return std::isfinite(t.max_bytes) || std::isfinite(t.max_drop) || std::isfinite(t.max_seconds) ||
         std::isfinite(t.min_sqnr_db);
}

LayerScheme KeepFloat() {
  LayerScheme scheme;
  scheme.set_activations(LayerScheme::KEEP_FLOAT);
  return scheme;
}

class Searcher {
 public:
  Searcher(const CompressOptions& compress, const SearchOptions& options, Measurements measured)
      : compress_(compress), options_(options), target_(options.target), measured_(std::move(measured)),
        deadline_(absl::Now() + options.time_limit) {}

  absl::StatusOr<SearchResult> Run(const graph::Graph& graph, data::SampleReader& samples, const Recipe& base) {
    base_ = base;
    base_.clear_rules();
    OCTET_ASSIGN_OR_RETURN(compressor_, Compressor::Create(graph, samples, base, compress_));
    OCTET_ASSIGN_OR_RETURN(sample_, samples.Read(0));
    OCTET_RETURN_IF_ERROR(MakeCandidates());
    const absl::Status status = Work();
    // What was stopped after a result keeps the result.
    if (!status.ok() && (!absl::IsCancelled(status) || result_.trials.empty())) return status;
    Explain();
    return std::move(result_);
  }

 private:
  struct Scheme {
    std::string name;
    LayerScheme scheme;
  };

  size_t size() const { return compressor_->products().size(); }
  bool late() const { return absl::Now() > deadline_; }

  absl::Status MakeCandidates() {
    schemes_.push_back({"f32", KeepFloat()});
    for (const std::string& name : options_.candidates) {
      if (name == "f32") continue;
      OCTET_ASSIGN_OR_RETURN(const Recipe recipe, MakeRecipe(name));
      schemes_.push_back({name, recipe.layers()});
    }
    // A layer takes what the named scheme gives it: few inputs or few weights stay 8 bits.
    allowed_.assign(size(), {});
    for (size_t l = 0; l < size(); ++l) {
      const Product& p = compressor_->products()[l];
      for (size_t s = 0; s < schemes_.size(); ++s) {
        const bool narrow = schemes_[s].name != "f32" && schemes_[s].scheme.grid() != "int8";
        if (!narrow || p.inputs >= 8) allowed_[l].push_back(s);
      }
    }
    return absl::OkStatus();
  }

  absl::Status Work() {
    if (!HasLimit(target_)) (compressor_->has_classes() ? target_.max_drop : target_.min_sqnr_db) =
        compressor_->has_classes() ? kDefaultDrop : kDefaultSqnrDb;
    OCTET_ASSIGN_OR_RETURN(const LayerTimes times,
                           MeasureLayers(compressor_->float_graph(), sample_, compress_.threads, kTimingSeconds));
    result_.float_seconds = times.total;
    result_.float_bytes = options_.float_bytes > 0 ? static_cast<double>(options_.float_bytes)
                                                   : ConstantBytes(compressor_->float_graph());
    seconds_["f32"] = times;
    for (size_t s = 1; s < schemes_.size(); ++s) OCTET_RETURN_IF_ERROR(TryUniform(s));
    OCTET_RETURN_IF_ERROR(MeasureNoise());
    FillTable();
    OCTET_RETURN_IF_ERROR(std::isfinite(target_.max_bytes) || std::isfinite(target_.max_seconds) ? MeetLimits()
                                                                                                 : SaveTime());
    return FitInOrder();
  }

  // The chosen schemes once more, each layer behind the compressed ones before it.
  absl::Status FitInOrder() {
    Recipe recipe = result_.best.recipe;
    if (recipe.corrections().sequential() == compression::v1::Corrections::ON || late()) return absl::OkStatus();
    recipe.mutable_corrections()->set_sequential(compression::v1::Corrections::ON);
    return Try(recipe, result_.trial.label + " in order", choice_).status();
  }

  static double ConstantBytes(const graph::Graph& graph) {
    double bytes = 0;
    for (const graph::Value& v : graph.values) {
      if (v.is_constant()) bytes += static_cast<double>(v.data->size_bytes());
    }
    return bytes;
  }

  absl::StatusOr<double> FileBytes(const CompressResult& result) const {
    if (!options_.file_bytes) return ConstantBytes(result.graph);
    OCTET_ASSIGN_OR_RETURN(const int64_t bytes, options_.file_bytes(result));
    return static_cast<double>(bytes);
  }

  // Compresses by an allocation's recipe and takes its measure.
  absl::StatusOr<LayerTimes> Try(const Recipe& recipe, const std::string& label, const std::vector<size_t>& choice) {
    OCTET_ASSIGN_OR_RETURN(CompressResult compressed, compressor_->Run(recipe));
    OCTET_ASSIGN_OR_RETURN(LayerTimes times,
                           MeasureLayers(compressed.graph, sample_, compress_.threads, kTimingSeconds));
    Trial trial;
    trial.label = label;
    trial.seconds = times.total;
    OCTET_ASSIGN_OR_RETURN(trial.bytes, FileBytes(compressed));
    const OutputReport& output = compressed.report.outputs[0];
    trial.drop = 100 * (1 - output.top1_agreement);
    trial.sqnr_db = output.sqnr_db;
    trial.meets = Misses(trial) == 0;
    result_.trials.push_back(trial);
    if (result_.trials.size() == 1 || IsBetter(trial, result_.trial)) {
      result_.trial = trial;
      choice_ = choice;
      if (options_.keep) OCTET_RETURN_IF_ERROR(options_.keep(compressed, trial));
      result_.best = std::move(compressed);
    }
    return times;
  }

  // By how much a trial misses the target, as a sum of relative excesses; 0 when it meets it.
  double Misses(const Trial& t) const {
    double excess = 0;
    excess += std::max(0.0, t.bytes / target_.max_bytes - 1);
    excess += std::max(0.0, t.seconds / target_.max_seconds - 1);
    if (std::isfinite(target_.max_drop)) {
      // Without classes there is no drop to speak of: SQNR stands for it.
      const double drop = std::isnan(t.drop) ? std::max(0.0, kDefaultSqnrDb - t.sqnr_db) : t.drop;
      excess += std::max(0.0, (drop - target_.max_drop) / 100);
    }
    if (std::isfinite(target_.min_sqnr_db)) excess += std::max(0.0, (target_.min_sqnr_db - t.sqnr_db) / 100);
    return excess;
  }

  // Meeting the target comes first; then fidelity where bytes or time were limited, else time, bytes, fidelity.
  bool IsBetter(const Trial& a, const Trial& b) const {
    const double ma = Misses(a), mb = Misses(b);
    if (ma != mb) return ma < mb;
    if (std::isfinite(target_.max_bytes) || std::isfinite(target_.max_seconds)) return a.sqnr_db > b.sqnr_db;
    if (std::fabs(a.seconds / b.seconds - 1) > 0.05) return a.seconds < b.seconds;
    return std::fabs(a.bytes / b.bytes - 1) > 0.01 ? a.bytes < b.bytes : a.sqnr_db > b.sqnr_db;
  }

  Recipe RecipeOf(const std::vector<size_t>& choice) const {
    Recipe recipe = base_;
    bool narrow = false;
    *recipe.mutable_layers() = KeepFloat();
    for (size_t l = 0; l < choice.size(); ++l) {
      auto* rule = recipe.add_rules();
      rule->set_node(compressor_->products()[l].name);
      *rule->mutable_scheme() = schemes_[choice[l]].scheme;
      narrow = narrow || (choice[l] > 0 && schemes_[choice[l]].scheme.grid() != "int8");
    }
    if (narrow) recipe.mutable_corrections()->set_sequential(compression::v1::Corrections::ON);
    return recipe;
  }

  absl::Status TryUniform(size_t s) {
    std::vector<size_t> choice;
    for (const auto& allowed : allowed_) {
      choice.push_back(std::find(allowed.begin(), allowed.end(), s) != allowed.end() ? s : std::min<size_t>(1, s));
    }
    OCTET_ASSIGN_OR_RETURN(seconds_[schemes_[s].name], Try(RecipeOf(choice), schemes_[s].name, choice));
    return absl::OkStatus();
  }

  const Measurements::Layer* Find(const std::string& node, const std::string& scheme) const {
    for (const auto& m : measured_.layers()) {
      if (m.node() == node && m.scheme() == scheme) return &m;
    }
    return nullptr;
  }

  absl::Status MeasureNoise() {
    if (measured_.source() != compressor_->digest()) measured_.clear_layers();
    measured_.set_source(compressor_->digest());
    const auto total = static_cast<int64_t>(size() * (schemes_.size() - 1));
    int64_t done = 0;
    for (size_t s = 1; s < schemes_.size(); ++s) {
      for (size_t l = 0; l < size(); ++l) {
        OCTET_RETURN_IF_ERROR(Tick(compress_, "measuring layers", ++done, total));
        const Product& p = compressor_->products()[l];
        const bool allowed = std::find(allowed_[l].begin(), allowed_[l].end(), s) != allowed_[l].end();
        if (!allowed || late() || Find(p.name, schemes_[s].name) != nullptr) continue;
        OCTET_ASSIGN_OR_RETURN(const double sqnr,
                               compressor_->OutputSqnrOf(p, schemes_[s].scheme, options_.noise_samples));
        auto* layer = measured_.add_layers();
        layer->set_node(p.name);
        layer->set_scheme(schemes_[s].name);
        layer->set_noise(std::pow(10, -sqnr / 10));
        layer->set_bytes(static_cast<double>(compressor_->WeightsBytes(p, schemes_[s].scheme)));
        layer->set_seconds(SecondsOf(p, schemes_[s].name));
        if (options_.save) OCTET_RETURN_IF_ERROR(options_.save(measured_));
      }
    }
    return absl::OkStatus();
  }

  double SecondsOf(const Product& p, const std::string& scheme) const {
    const auto& steps = seconds_.at(scheme).steps;
    const auto it = steps.find(p.name);
    return it == steps.end() ? 0 : it->second;
  }

  // Candidates that were measured, per layer; the rest (out of time) is not chosen from.
  void FillTable() {
    for (size_t l = 0; l < size(); ++l) {
      const Product& p = compressor_->products()[l];
      table_.emplace_back();
      index_.emplace_back();
      table_[l].push_back({0, 4.0 * static_cast<double>(p.weights_elements), SecondsOf(p, "f32")});
      index_[l].push_back(0);
      for (size_t s : allowed_[l]) {
        const Measurements::Layer* m = s == 0 ? nullptr : Find(p.name, schemes_[s].name);
        if (m == nullptr) continue;
        table_[l].push_back({m->noise(), m->bytes(), m->seconds()});
        index_[l].push_back(s);
      }
    }
  }

  std::vector<size_t> SchemesOf(const Allocation& a) const {
    std::vector<size_t> choice;
    for (size_t l = 0; l < a.choice.size(); ++l) choice.push_back(index_[l][a.choice[l]]);
    return choice;
  }

  absl::StatusOr<Trial> TryAllocation(const Allocation& a) {
    const std::string label = absl::StrCat("mix ", ++mixes_);
    OCTET_RETURN_IF_ERROR(Try(RecipeOf(SchemesOf(a)), label, SchemesOf(a)).status());
    return result_.trials.back();
  }

  // Bytes and time limited: the estimates leave out what is no layer, so limits are tightened by what the trial exceeded.
  absl::Status MeetLimits() {
    // What is left of the bytes could make small layers float again; where int8 is faster that would cost time nobody asked for.
    for (size_t l = 0; l < table_.size(); ++l) {
      if (table_[l].size() < 2 || table_[l][1].seconds >= kPays * table_[l][0].seconds) continue;
      table_[l].erase(table_[l].begin());
      index_[l].erase(index_[l].begin());
    }
    const double rest_bytes = RestBytes();
    double bytes = target_.max_bytes - rest_bytes, seconds = target_.max_seconds;
    for (int i = 0; i < kMaxRepairs && !late(); ++i) {
      const Allocation a = LeastNoise(table_, std::max(bytes, 1.0), seconds);
      if (std::find(tried_.begin(), tried_.end(), a.choice) != tried_.end()) break;
      tried_.push_back(a.choice);
      OCTET_ASSIGN_OR_RETURN(const Trial trial, TryAllocation(a));
      const bool fits = trial.bytes <= target_.max_bytes && trial.seconds <= target_.max_seconds;
      if (fits) break;
      if (trial.bytes > target_.max_bytes) bytes *= target_.max_bytes / trial.bytes;
      if (trial.seconds > target_.max_seconds) {
        seconds = std::min(seconds, a.total.seconds) * target_.max_seconds / trial.seconds * 0.98;
      }
    }
    return absl::OkStatus();
  }

  // What a file holds beside the weights of products, taken from the float file.
  double RestBytes() const {
    double weights = 0;
    for (const Product& p : compressor_->products()) weights += 4.0 * static_cast<double>(p.weights_elements);
    return std::max(0.0, result_.float_bytes - weights);
  }

  // Only fidelity is limited: the fastest network that keeps it, by bisection over the path of allocations.
  absl::Status SaveTime() {
    auto paying = table_;
    for (auto& layer : paying) {
      for (size_t c = 1; c < layer.size(); ++c) layer[c].seconds /= kPays;
    }
    const std::vector<Allocation> path = Path(paying, 0, 1);
    size_t low = 0, high = path.size() - 1;  // path[low] is taken to keep it
    OCTET_ASSIGN_OR_RETURN(Trial trial, TryAllocation(path[high]));
    if (trial.meets) return absl::OkStatus();
    while (high - low > 1 && !late()) {
      const size_t middle = (low + high) / 2;
      OCTET_ASSIGN_OR_RETURN(trial, TryAllocation(path[middle]));
      (trial.meets ? low : high) = middle;
    }
    return Repair(path[high]);
  }

  // Gives the noisiest layers the next wider candidate while the target is missed.
  absl::Status Repair(Allocation a) {
    for (int i = 0; i < kMaxRepairs && !late() && !result_.trial.meets; ++i) {
      size_t worst = a.choice.size();
      double gain = 0;
      for (size_t l = 0; l < a.choice.size(); ++l) {
        const double saved = table_[l][a.choice[l]].noise - (a.choice[l] > 0 ? table_[l][a.choice[l] - 1].noise : 0);
        if (a.choice[l] > 0 && saved > gain) {
          gain = saved;
          worst = l;
        }
      }
      if (worst == a.choice.size()) break;
      --a.choice[worst];
      OCTET_RETURN_IF_ERROR(TryAllocation(a).status());
    }
    return absl::OkStatus();
  }

  void Explain() {
    if (table_.empty()) FillTable();
    for (size_t l = 0; l < choice_.size(); ++l) {
      const Product& p = compressor_->products()[l];
      const std::string& name = schemes_[choice_[l]].name;
      const double before = SecondsOf(p, "f32"), after = seconds_.contains(name) ? SecondsOf(p, name) : before;
      const Measurements::Layer* m = Find(p.name, name);
      std::string reason = absl::StrFormat("%.3f ms instead of %.3f in float", after * 1e3, before * 1e3);
      if (m != nullptr) absl::StrAppendFormat(&reason, ", alone %.1f dB at the output", -10 * std::log10(m->noise()));
      if (choice_[l] == 0) {
        const double int8 = seconds_.contains("int8") ? SecondsOf(p, "int8") : before;
        reason = int8 > kPays * before
                     ? absl::StrFormat("int8 does not pay: %.3f ms, float %.3f", int8 * 1e3, before * 1e3)
                     : absl::StrFormat("kept wide for fidelity: int8 would take %.3f of %.3f ms", int8 * 1e3, before * 1e3);
      }
      result_.layers.push_back({p.name, name, std::move(reason)});
    }
  }

  const CompressOptions& compress_;
  const SearchOptions& options_;
  Target target_;
  Measurements measured_;
  const absl::Time deadline_;
  Recipe base_;
  std::unique_ptr<Compressor> compressor_;
  data::Sample sample_;
  std::vector<Scheme> schemes_;                 // 0: float
  std::vector<std::vector<size_t>> allowed_;    // per layer, indices into schemes_
  absl::flat_hash_map<std::string, LayerTimes> seconds_;
  std::vector<std::vector<Candidate>> table_;   // per layer; 0: float
  std::vector<std::vector<size_t>> index_;      // per layer and candidate: index into schemes_
  std::vector<std::vector<size_t>> tried_;
  std::vector<size_t> choice_;                  // of result_.best, indices into schemes_
  int mixes_ = 0;
  SearchResult result_;
};

}  // namespace

absl::StatusOr<SearchResult> Search(const graph::Graph& graph, data::SampleReader& samples, const Recipe& base,
                                    const CompressOptions& compress, const SearchOptions& options,
                                    Measurements measured) {
  return Searcher(compress, options, std::move(measured)).Run(graph, samples, base);
}

}  // namespace octet::compress
