// Named recipes as protobuf text, and the rules they obey.
#include "compress/recipe.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>

#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "compress/grid.h"
#include "compress/ranges.h"

namespace octet::compress {
namespace {

using compression::v1::Rule;

struct NamedScheme {
  const char* name;
  const char* help;
  const char* text;
};

// What stays 8 bits below int8: the first layer and depthwise ones have too few inputs to share a scale, or to average errors
// over, and hold few weights; a small last layer decides directly.
#define OCTET_KEEP_EIGHT_BITS                                           \
  " rules { position: FIRST scheme { grid: 'int8' } }"                  \
  " rules { position: DEPTHWISE scheme { grid: 'int8' } }"              \
  " rules { position: LAST max_weights: 65536 scheme { grid: 'int8' } }"
#define OCTET_BY_MEASUREMENT " corrections { sequential: WHERE_NEEDED wide_activations: WHERE_NEEDED }"
#define OCTET_FOUR_BIT_GROUPS " group: 32 multiples: true weighted: true "

constexpr NamedScheme kSchemes[] = {
    {"int8", "8-bit weights per channel and activations; rounding and order of layers as held-back samples say",
     "layers { grid: 'int8' weighted: true rounding: ERROR_FEEDBACK_ORDERED target_damping: 0.1 }" OCTET_BY_MEASUREMENT},
    {"int8-nearest", "the same grid, all layers at once and rounded to nearest: the fastest to make", "layers { grid: 'int8' }"},
    {"int8-data-free", "int8 without samples: ranges from BatchNormalization, layers equalized, biases corrected analytically",
     "layers { grid: 'int8' } corrections { equalize: ON }"},
    {"int8-dynamic", "8-bit weights; each row of a matrix product is quantized as it arrives",
     "layers { grid: 'int8' activations: DYNAMIC }"},
    {"int4", "4-bit weights in groups of 32 with error feedback, 8-bit activations",
     "layers { grid: 'int4'" OCTET_FOUR_BIT_GROUPS
     "rounding: ERROR_FEEDBACK_ORDERED }" OCTET_BY_MEASUREMENT OCTET_KEEP_EIGHT_BITS},
    {"int4-nearest", "the same, rounded to nearest",
     "layers { grid: 'int4' group: 32 multiples: true }" OCTET_KEEP_EIGHT_BITS},
    {"int4-learned", "the same, with learned rounding",
     "layers { grid: 'int4'" OCTET_FOUR_BIT_GROUPS
     "rounding: LEARNED } corrections { sequential: ON }" OCTET_KEEP_EIGHT_BITS},
    {"int4-weights", "4-bit weights in groups of 32, float activations",
     "layers { grid: 'int4' activations: DYNAMIC" OCTET_FOUR_BIT_GROUPS "rounding: ERROR_FEEDBACK_ORDERED }"
     " rules { position: DEPTHWISE scheme { grid: 'int8' activations: DYNAMIC } }"},
    {"uint4", "affine 4-bit weights in groups of 32, float activations",
     "layers { grid: 'uint4' group: 32 activations: DYNAMIC scale: KQUANT weighted: true }"
     " rules { position: DEPTHWISE scheme { grid: 'int8' activations: DYNAMIC } }"},
    {"int6", "6-bit weights per channel, 8-bit activations", "layers { grid: 'int6' weighted: true }"},
    {"int3", "3-bit weights in groups of 32 with learned rounding",
     "layers { grid: 'int3'" OCTET_FOUR_BIT_GROUPS
     "rounding: LEARNED } corrections { sequential: ON }" OCTET_KEEP_EIGHT_BITS},
    {"int2", "2-bit weights in groups of 32 with learned rounding",
     "layers { grid: 'int2'" OCTET_FOUR_BIT_GROUPS
     "rounding: LEARNED } corrections { sequential: ON }" OCTET_KEEP_EIGHT_BITS},
    {"nf4", "16 quantiles of a normal distribution, per channel",
     "layers { grid: 'nf4' weighted: true rounding: ERROR_FEEDBACK_ORDERED } corrections { sequential: ON }"
     OCTET_KEEP_EIGHT_BITS},
    {"log4", "4-bit powers of two, per channel",
     "layers { grid: 'log4' weighted: true rounding: ERROR_FEEDBACK_ORDERED } corrections { sequential: ON }"
     OCTET_KEEP_EIGHT_BITS},
    {"kmeans4", "16 learned levels a layer, scaled per channel",
     "layers { grid: 'kmeans4' weighted: true rounding: ERROR_FEEDBACK_ORDERED } corrections { sequential: ON }"
     OCTET_KEEP_EIGHT_BITS},
    {"vq2", "256 learned vectors of four weights a layer: 2 bits a weight",
     "layers { grid: 'vq2' weighted: true } corrections { sequential: ON }" OCTET_KEEP_EIGHT_BITS},
    {"ternary", "-1, 0, +1 in groups of 32 with learned rounding",
     "layers { grid: 'ternary'" OCTET_FOUR_BIT_GROUPS
     "rounding: LEARNED } corrections { sequential: ON }" OCTET_KEEP_EIGHT_BITS},
    {"binary", "-1, +1 in groups of 32 with learned rounding",
     "layers { grid: 'binary'" OCTET_FOUR_BIT_GROUPS
     "rounding: LEARNED } corrections { sequential: ON }" OCTET_KEEP_EIGHT_BITS},
    {"binary2", "sums of two binary weights, per channel",
     "layers { grid: 'binary2' weighted: true rounding: LEARNED } corrections { sequential: ON }"
     OCTET_KEEP_EIGHT_BITS},
};
#undef OCTET_FOUR_BIT_GROUPS
#undef OCTET_BY_MEASUREMENT
#undef OCTET_KEEP_EIGHT_BITS

// Keeps the first error of a text.
class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    if (text.empty()) text = absl::StrCat("line ", line + 1, ", column ", column + 1, ": ", message);
  }
  std::string text;
};

// `pattern` with * for any characters.
bool Matches(absl::string_view pattern, absl::string_view text) {
  const size_t star = pattern.find('*');
  if (star == absl::string_view::npos) return pattern == text;
  if (!absl::StartsWith(text, pattern.substr(0, star))) return false;
  const absl::string_view rest = pattern.substr(star + 1);
  for (size_t i = star; i <= text.size(); ++i) {
    if (Matches(rest, text.substr(i))) return true;
  }
  return false;
}

bool Matches(const Rule& rule, const Product& p) {
  if (!rule.node().empty() && !Matches(rule.node(), p.name)) return false;
  if (!rule.op().empty() && rule.op() != p.op) return false;
  if (rule.max_weights() > 0 && p.weights_elements > rule.max_weights()) return false;
  switch (rule.position()) {
    case Rule::FIRST:
      return p.first;
    case Rule::LAST:
      return p.last;
    case Rule::DEPTHWISE:
      return p.depthwise;
    default:
      return true;
  }
}

absl::Status ValidateScheme(const LayerScheme& s, absl::string_view where) {
  if (s.activations() == LayerScheme::KEEP_FLOAT) return absl::OkStatus();
  const auto bad = [&](auto... parts) { return absl::InvalidArgumentError(absl::StrCat("recipe: ", where, ": ", parts...)); };
  const absl::StatusOr<Grid> grid = MakeGrid(s.grid().empty() ? "int8" : s.grid());
  if (!grid.ok()) return bad(grid.status().message());
  if (s.group() < -1 || (s.group() > 0 && s.group() % 8 != 0)) {
    return bad("group ", s.group(), ", expected -1 (tensor), 0 (channel) or a multiple of 8");
  }
  if (s.group() > 0 && grid->vector > 1) return bad("grid ", s.grid(), " has scales per channel, found group ", s.group());
  if (s.multiples() && s.group() <= 0) return bad("multiples without a group");
  const bool affine = grid->kind == GridKind::kAffine;
  if (affine && s.group() <= 0) return bad("affine grid ", s.grid(), " needs a group");
  if (affine && s.activations() != LayerScheme::DYNAMIC) return bad("affine grid ", s.grid(), " needs DYNAMIC activations");
  if (grid->vector > 1 && s.rounding() > LayerScheme::NEAREST) return bad("grid ", s.grid(), " rounds to nearest only");
  if (s.draws() != 0 && s.rounding() != LayerScheme::STOCHASTIC) return bad("draws without STOCHASTIC rounding");
  if (s.draws() < 0 || s.draws() > 1024) return bad("draws ", s.draws(), ", expected 1 to 1024");
  if (!(s.target_damping() >= 0 && s.target_damping() <= 1e6)) {
    return bad("target_damping ", s.target_damping(), ", expected 0 to 1000000");
  }
  if (!s.has_distribution()) return absl::OkStatus();
  const double samples = s.distribution().samples();
  const int bits = s.distribution().bits();
  if (!(samples >= 2 && samples <= 1e6)) return bad("distribution for ", samples, " samples, expected 2 to 1000000");
  if (bits != 0 && bits != 4 && bits != 8) return bad("distribution of ", bits, " bits, expected 4 or 8");
  if (grid->vector > 1) return bad("grid ", s.grid(), " has codes of vectors, which have no distribution");
  if (!s.distribution().has_local()) return absl::OkStatus();
  const LayerScheme::Distribution::Local& local = s.distribution().local();
  if (grid->kind != GridKind::kFixed || grid->levels.size() > 3) {
    return bad("local reparameterisation of grid ", s.grid(), ", expected ternary or binary");
  }
  if (local.steps() < 0 || local.rows() < 0 || !(local.learning_rate() >= 0 && local.learning_rate() <= 1) ||
      !(local.entropy() >= 0)) {
    return bad("local reparameterisation in ", local.steps(), " steps on ", local.rows(), " rows at rate ",
               local.learning_rate(), ", entropy ", local.entropy(), ", expected none negative and a rate of at most 1");
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> SchemeNames() {
  std::vector<std::string> names;
  for (const NamedScheme& s : kSchemes) names.push_back(s.name);
  return names;
}

std::string SchemeHelp() {
  return absl::StrJoin(kSchemes, "\n", [](std::string* out, const NamedScheme& s) {
    absl::StrAppend(out, "  ", s.name, std::string(16 - std::string(s.name).size(), ' '), s.help);
  });
}

absl::StatusOr<Recipe> MakeRecipe(absl::string_view scheme) {
  for (const NamedScheme& s : kSchemes) {
    if (scheme != s.name) continue;
    absl::StatusOr<Recipe> recipe = ParseRecipe(s.text);
    CHECK_OK(recipe.status()) << s.name;
    recipe->set_name(s.name);
    return recipe;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("scheme '", scheme, "', expected auto, ", absl::StrJoin(SchemeNames(), ", ")));
}

absl::StatusOr<Recipe> ParseRecipe(absl::string_view text) {
  Recipe recipe;
  google::protobuf::TextFormat::Parser parser;
  FirstError error;
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFromString(std::string(text), &recipe)) {
    return absl::InvalidArgumentError(absl::StrCat("recipe: ", error.text));
  }
  OCTET_RETURN_IF_ERROR(ValidateRecipe(recipe));
  return recipe;
}

std::string RecipeText(const Recipe& recipe) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string text;
  printer.PrintToString(recipe, &text);
  if (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

absl::Status ValidateRecipe(const Recipe& r) {
  OCTET_RETURN_IF_ERROR(ValidateScheme(r.layers(), "layers"));
  bool local = r.layers().distribution().has_local();
  for (int i = 0; i < r.rules_size(); ++i) {
    OCTET_RETURN_IF_ERROR(ValidateScheme(r.rules(i).scheme(), absl::StrCat("rule ", i + 1)));
    local = local || r.rules(i).scheme().distribution().has_local();
  }
  if (local && r.corrections().sequential() != compression::v1::Corrections::ON) {
    return absl::InvalidArgumentError("recipe: local reparameterisation needs corrections { sequential: ON }");
  }
  if (!r.ranges().method().empty()) OCTET_RETURN_IF_ERROR(ParseRangeMethod(r.ranges().method()).status());
  const double percentile = r.ranges().percentile(), held_back = r.calibration().held_back();
  if (percentile != 0 && !(percentile > 0.5 && percentile <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("recipe: percentile ", percentile, ", expected in (0.5, 1]"));
  }
  if (held_back != 0 && !(held_back > 0 && held_back < 1)) {
    return absl::InvalidArgumentError(absl::StrCat("recipe: held-back share ", held_back, ", expected between 0 and 1"));
  }
  if (r.calibration().samples() < 0 || r.calibration().positions() < 0) {
    return absl::InvalidArgumentError("recipe: calibration counts must not be negative");
  }
  const compression::v1::Corrections& set = r.corrections();
  for (const auto value : {set.bias(), set.bias_measured(), set.equalize(), set.migrate(), set.ensemble_temperature()}) {
    if (value == compression::v1::Corrections::WHERE_NEEDED) {
      return absl::InvalidArgumentError(
          "recipe: WHERE_NEEDED is for sequential, reduced_range and wide_activations only, expected ON or OFF");
    }
  }
  if (set.wide_activations() == compression::v1::Corrections::ON) {
    return absl::InvalidArgumentError("recipe: wide_activations ON, expected WHERE_NEEDED or OFF");
  }
  const std::string& name = r.name();
  const bool legal = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
  if (!legal || (!name.empty() && name[0] == '-')) {
    return absl::InvalidArgumentError(absl::StrCat("recipe: name '", name, "', expected [a-z0-9][a-z0-9-]*"));
  }
  return absl::OkStatus();
}

LayerScheme SchemeOf(const Recipe& recipe, const Product& product) {
  LayerScheme scheme = recipe.layers();
  for (const Rule& rule : recipe.rules()) {
    if (!Matches(rule, product)) continue;
    scheme = rule.scheme();
    break;
  }
  if (scheme.grid().empty()) scheme.set_grid("int8");
  if (scheme.activations() == LayerScheme::ACTIVATIONS_UNSPECIFIED) scheme.set_activations(LayerScheme::STATIC);
  if (scheme.scale() == LayerScheme::SCALE_UNSPECIFIED) scheme.set_scale(LayerScheme::MSE);
  if (scheme.rounding() == LayerScheme::ROUNDING_UNSPECIFIED) scheme.set_rounding(LayerScheme::NEAREST);
  return scheme;
}

absl::Status AddDistribution(double samples, int bits, Recipe* recipe) {
  bool any = false;
  const auto add = [&](LayerScheme* s) {
    if (s->activations() == LayerScheme::KEEP_FLOAT || s->grid().empty()) return;
    const absl::StatusOr<Grid> grid = MakeGrid(s->grid());
    if (!grid.ok() || grid->bits >= 8 || grid->vector > 1) return;
    s->mutable_distribution()->set_samples(samples);
    s->mutable_distribution()->set_bits(bits);
    any = true;
  };
  add(recipe->mutable_layers());
  for (Rule& rule : *recipe->mutable_rules()) add(rule.mutable_scheme());
  if (!any) {
    return absl::InvalidArgumentError(
        absl::StrCat("recipe '", recipe->name(), "' has no grid of single weights below 8 bits to make distributions of"));
  }
  return ValidateRecipe(*recipe);
}

bool NeedsMoments(const LayerScheme& s) {
  return s.activations() != LayerScheme::KEEP_FLOAT && (s.weighted() || s.rounding() > LayerScheme::NEAREST || s.has_distribution());
}

std::string Describe(const LayerScheme& s) {
  if (s.activations() == LayerScheme::KEEP_FLOAT) return "f32";
  std::string text = s.grid();
  if (s.group() != 0) absl::StrAppend(&text, s.group() < 0 ? " per tensor" : absl::StrCat(" g", s.group()));
  if (s.rounding() == LayerScheme::ERROR_FEEDBACK) text += " error-feedback";
  if (s.rounding() == LayerScheme::ERROR_FEEDBACK_ORDERED) text += " ordered error-feedback";
  if (s.rounding() == LayerScheme::LEARNED) text += " learned";
  if (s.rounding() == LayerScheme::STOCHASTIC) absl::StrAppend(&text, " best of ", std::max(s.draws(), 1));
  if (s.has_distribution()) absl::StrAppend(&text, s.distribution().has_local() ? " local distribution" : " distribution");
  if (s.activations() == LayerScheme::DYNAMIC) text += ", dynamic";
  return text;
}

std::vector<NamedOrder> OrdersOf(const Recipe& recipe) {
  Recipe at_once = recipe;
  at_once.mutable_corrections()->set_sequential(compression::v1::Corrections::OFF);
  Recipe nearest = at_once;
  bool differs = false;
  const auto round = [&](LayerScheme* scheme) {
    if (scheme->activations() == LayerScheme::KEEP_FLOAT || (!scheme->grid().empty() && scheme->grid() != "int8")) return;
    if (!NeedsMoments(*scheme)) return;
    differs = true;
    scheme->set_rounding(LayerScheme::NEAREST);
    scheme->clear_weighted();
    scheme->clear_draws();
    scheme->clear_target_damping();
  };
  round(nearest.mutable_layers());
  for (compression::v1::Rule& rule : *nearest.mutable_rules()) round(rule.mutable_scheme());
  Recipe in_order = recipe;
  in_order.mutable_corrections()->set_sequential(compression::v1::Corrections::ON);
  std::vector<NamedOrder> orders = {{"all layers at once", std::move(at_once)}};
  if (differs) orders.push_back({"8-bit layers to nearest", std::move(nearest)});
  orders.push_back({"in order", std::move(in_order)});
  return orders;
}

}  // namespace octet::compress
