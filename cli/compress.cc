// `octet compress`: a float ONNX file and samples in, a compressed ONNX file and a report out.
#include <cmath>
#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/compress_file.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/pareto.h"
#include "kernels/onednn_product.h"

ABSL_FLAG(std::string, calibration, "", "compress, compare: samples (.npy, .npz, IDX, folder of images or .npy)");
ABSL_FLAG(std::string, input_range, "0:1", "compress: values of the inputs, LOW:HIGH, when there are no samples");
ABSL_FLAG(std::string, out, "", "compress: the file to write");
ABSL_FLAG(std::string, scheme, "auto", "compress: auto, or one of those that octet compress --list names");
ABSL_FLAG(bool, list, false, "compress: print the schemes");
ABSL_FLAG(std::string, recipe, "", "compress: a recipe file (proto/compression_recipe.proto as text) instead of --scheme");
ABSL_FLAG(std::string, target, "",
          "compress: what auto must keep: bytes<=2MB, drop<=0.5 (points of top-1 agreement), latency<=3ms, sqnr>=25, "
          "joined by commas");
ABSL_FLAG(std::string, candidates, "", "compress: schemes that auto chooses from, layer by layer");
ABSL_FLAG(absl::Duration, time_limit, absl::InfiniteDuration(), "compress: auto tries nothing new after this time");
ABSL_FLAG(std::string, plot, "", "compress, bench: SVG file: what auto tried, size against fidelity; latency against load");
ABSL_FLAG(std::string, ranges, "", "compress: ranges of activations: minmax, moving, percentile, entropy, mse or closed");
ABSL_FLAG(double, percentile, 0, "compress: share of values kept by --ranges=percentile (0: 0.99999)");
ABSL_FLAG(bool, bias_correction, true, "compress: correct the mean shift of rounded weights");
ABSL_FLAG(bool, equalize, false, "compress: equalize the channels of neighbouring layers first");
ABSL_FLAG(bool, migrate, false, "compress: move outliers of normalized activations into weights first");
ABSL_FLAG(bool, sequential, false, "compress: fit each layer behind the compressed layers before it");
ABSL_FLAG(std::string, wide_activations, "",
          "compress: where-needed (what suffers most from 8-bit activations reads reals, at some speed) or off; "
          "default: as the scheme says");
ABSL_FLAG(bool, reduced_range, false, "compress: 7-bit weights instead of int8, for CPUs without VNNI");
ABSL_FLAG(bool, reduced_range_where_needed, false,
          "compress: 7-bit weights in layers whose sums overflow on CPUs without VNNI");
ABSL_FLAG(std::string, keep_float, "", "compress: comma-separated names of nodes that stay f32; * for any characters");
ABSL_FLAG(double, held_back, 0, "compress: share of the samples used for comparison only (0: 0.2)");
ABSL_FLAG(int64_t, max_samples, 0, "compress, replay: use at most this many samples (0: all; replay: 256)");
ABSL_FLAG(uint64_t, seed, 0, "compress, bench: of everything that is drawn");
ABSL_FLAG(double, distribution_samples, 0,
          "compress: keep a distribution over codes below 8 bits, fitted for the mean of so many samples (2 or more)");
ABSL_FLAG(int, distribution_bits, 8, "compress: bits of a stored probability: 8 or 4");
ABSL_FLAG(std::string, image, "",
          "preprocessing of images: size=224,short=256,channels=bgr,scale=1,mean=104:117:123,std=1:1:1,order=nhwc");
ABSL_FLAG(int, threads, 0, "threads of one inference (0: the CPU budget)");

namespace octet::cli {
namespace {

using compression::v1::Corrections;

absl::StatusOr<compress::Recipe> ReadRecipe(const std::string& path) {
  OCTET_ASSIGN_OR_RETURN(const std::shared_ptr<const Buffer> bytes, ReadFile(path));
  absl::StatusOr<compress::Recipe> recipe = compress::ParseRecipe(
      {reinterpret_cast<const char*>(bytes->data()), static_cast<size_t>(bytes->size_bytes())});
  if (!recipe.ok()) return Annotate(recipe.status(), path);
  return recipe;
}

// What flags say wins over the recipe.
absl::Status ApplyFlags(compress::Recipe* recipe) {
  if (const std::string ranges = absl::GetFlag(FLAGS_ranges); !ranges.empty()) {
    recipe->mutable_ranges()->set_method(ranges);
  }
  if (const double p = absl::GetFlag(FLAGS_percentile); p != 0) recipe->mutable_ranges()->set_percentile(p);
  if (const double share = absl::GetFlag(FLAGS_held_back); share != 0) {
    recipe->mutable_calibration()->set_held_back(share);
  }
  if (const int64_t most = absl::GetFlag(FLAGS_max_samples); most != 0) {
    recipe->mutable_calibration()->set_samples(most);
  }
  if (const uint64_t seed = absl::GetFlag(FLAGS_seed); seed != 0) recipe->set_seed(seed);
  Corrections* corrections = recipe->mutable_corrections();
  if (!absl::GetFlag(FLAGS_bias_correction)) {
    corrections->set_bias(Corrections::OFF);
    corrections->set_bias_measured(Corrections::OFF);
  }
  if (absl::GetFlag(FLAGS_equalize)) corrections->set_equalize(Corrections::ON);
  if (absl::GetFlag(FLAGS_migrate)) corrections->set_migrate(Corrections::ON);
  if (absl::GetFlag(FLAGS_sequential)) corrections->set_sequential(Corrections::ON);
  if (const std::string wide = absl::GetFlag(FLAGS_wide_activations); wide == "where-needed" || wide == "off") {
    corrections->set_wide_activations(wide == "off" ? Corrections::OFF : Corrections::WHERE_NEEDED);
  } else if (!wide.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--wide_activations ", wide, ", expected where-needed or off"));
  }
  if (absl::GetFlag(FLAGS_reduced_range_where_needed)) corrections->set_reduced_range(Corrections::WHERE_NEEDED);
  if (absl::GetFlag(FLAGS_reduced_range)) corrections->set_reduced_range(Corrections::ON);
  // In front of other rules: the first that matches decides.
  compress::Recipe kept;
  if (const double samples = absl::GetFlag(FLAGS_distribution_samples); samples != 0) {
    OCTET_RETURN_IF_ERROR(compress::AddDistribution(samples, absl::GetFlag(FLAGS_distribution_bits), recipe));
  }
  const std::string keep_float = absl::GetFlag(FLAGS_keep_float);
  for (absl::string_view name : absl::StrSplit(keep_float, ',', absl::SkipEmpty())) {
    auto* rule = kept.add_rules();
    rule->set_node(std::string(name));
    rule->mutable_scheme()->set_activations(compress::LayerScheme::KEEP_FLOAT);
  }
  kept.mutable_rules()->MergeFrom(recipe->rules());
  recipe->mutable_rules()->Swap(kept.mutable_rules());
  return compress::ValidateRecipe(*recipe);
}

absl::StatusOr<compress::Range> ParseRange(const std::string& text) {
  const std::vector<std::string> ends = absl::StrSplit(text, ':');
  compress::Range range;
  if (ends.size() != 2 || !absl::SimpleAtod(ends[0], &range.low) || !absl::SimpleAtod(ends[1], &range.high) ||
      !(range.low < range.high)) {
    return absl::InvalidArgumentError(absl::StrCat("--input-range ", text, ", expected LOW:HIGH"));
  }
  return range;
}

absl::StatusOr<CompressJob> JobFromFlags(const std::string& model) {
  CompressJob job;
  job.model = model;
  job.calibration = absl::GetFlag(FLAGS_calibration);
  job.out = absl::GetFlag(FLAGS_out);
  if (job.out.empty()) return absl::InvalidArgumentError("--out is missing");
  OCTET_ASSIGN_OR_RETURN(job.image, data::ImageOptions::Parse(absl::GetFlag(FLAGS_image)));
  const bool data_free = job.calibration.empty();
  OCTET_ASSIGN_OR_RETURN(job.data_free.input, ParseRange(absl::GetFlag(FLAGS_input_range)));
  const std::string scheme = absl::GetFlag(FLAGS_scheme), file = absl::GetFlag(FLAGS_recipe);
  const std::string target = absl::GetFlag(FLAGS_target);
  if (!file.empty()) {
    OCTET_ASSIGN_OR_RETURN(job.recipe, ReadRecipe(file));
  } else if (scheme == "auto" && data_free) {
    OCTET_ASSIGN_OR_RETURN(job.recipe, compress::MakeRecipe("int8-data-free"));
  } else if (scheme == "auto") {
    job.recipe.set_name("auto");
    job.search.emplace();
    OCTET_ASSIGN_OR_RETURN(job.search->target, compress::ParseTarget(target));
    const std::string candidates = absl::GetFlag(FLAGS_candidates);
    if (!candidates.empty()) {
      job.search->candidates = absl::StrSplit(candidates, ',', absl::SkipEmpty());
    } else if (target.find("bytes") == std::string::npos) {
      job.search->candidates = {"int8"};  // narrower weights save bytes; at batch 1 of small networks int8 is as fast
    }
    job.search->time_limit = absl::GetFlag(FLAGS_time_limit);
  } else {
    OCTET_ASSIGN_OR_RETURN(job.recipe, compress::MakeRecipe(scheme));
  }
  if (!job.search.has_value() && !target.empty()) {
    return absl::InvalidArgumentError("--target needs --scheme=auto and no --recipe: a recipe leaves nothing to choose");
  }
  OCTET_RETURN_IF_ERROR(ApplyFlags(&job.recipe));
  return job;
}

void PrintTrials(const compress::SearchResult& search) {
  std::vector<std::vector<std::string>> rows = {
      {"f32", Bytes(static_cast<int64_t>(search.float_bytes)), Fixed(search.float_seconds * 1e3, 3), "0.00", "-", ""}};
  for (const compress::Trial& t : search.trials) {
    rows.push_back({t.label, Bytes(static_cast<int64_t>(t.bytes)), Fixed(t.seconds * 1e3, 3), Fixed(t.drop, 2),
                    Fixed(t.sqnr_db, 1),
                    absl::StrCat(t.meets ? "meets" : "misses", t.label == search.trial.label ? ", chosen" : "")});
  }
  std::printf("%s\n", Table({"tried", "file", "ms (1)", "drop, points", "SQNR dB", "target"}, rows).c_str());
  std::vector<std::vector<std::string>> layers;
  for (const compress::LayerChoice& l : search.layers) layers.push_back({l.node, l.scheme, l.reason});
  std::printf("%s\n", Table({"layer", "scheme", "why"}, layers).c_str());
  if (!search.trial.meets) std::printf("No network that was tried meets the target; the one that misses it least was written.\n\n");
}

// What sums of pairs in 16 bits do to the network on CPUs without VNNI: a warning where this is one.
void PrintOverflows(const compress::CompressReport& report) {
  int overflowing = 0;
  const compress::LayerReport* worst = nullptr;
  for (const compress::LayerReport& l : report.layers) {
    if (l.overflow_share.value_or(0) == 0) continue;
    ++overflowing;
    if (worst == nullptr || *l.overflow_share > *worst->overflow_share) worst = &l;
  }
  if (worst == nullptr) return;
  const bool here = !kernels::HasVnni();
  std::printf(
      "%s%d of %d layers overflow 16-bit sums of pairs%s, up to %.2g %% of the sums of '%s' (column s16 overflow)%s "
      "--reduced_range_where_needed or --reduced_range\n",
      here ? "warning: " : "", overflowing, static_cast<int>(report.layers.size()),
      here ? ": this CPU has no VNNI" : " on CPUs without VNNI", 100 * *worst->overflow_share, worst->node.c_str(),
      here ? ": compress with" : "; for such CPUs compress with");
}

void PrintReport(const CompressedFile& file) {
  const compress::CompressReport& r = file.report;
  std::vector<std::vector<std::string>> layers;
  for (const compress::LayerReport& l : r.layers) {
    const std::string overflow = l.overflow_share.has_value() ? absl::StrFormat("%.2g", 100 * *l.overflow_share) : "-";
    layers.push_back({l.node, l.op, l.scheme, absl::StrCat(l.weights_elements), Bytes(l.weights_bytes), overflow,
                      Fixed(l.sqnr_db, 1)});
  }
  const std::vector<std::string> head = {"layer (worst first)", "op",      "scheme", "weights", "bytes",
                                         "s16 overflow %",      "SQNR dB"};
  std::printf("%s\n", Table(head, layers).c_str());
  for (const std::string& name : r.kept_float) std::printf("%s stays float\n", name.c_str());
  for (const std::string& note : r.notes) std::printf("%s\n", note.c_str());
  for (const compress::Trap& trap : r.traps) std::printf("warning: '%s': %s\n", trap.where.c_str(), trap.text.c_str());
  PrintOverflows(r);
  std::vector<std::vector<std::string>> outputs;
  for (const compress::OutputReport& o : r.outputs) {
    outputs.push_back({o.name, Fixed(100 * o.top1_agreement, 2), Fixed(o.sqnr_db, 1), Fixed(o.cosine, 5)});
  }
  std::printf("%s\n", Table({"output", "top-1 agreement %", "SQNR dB", "cosine"}, outputs).c_str());
  auto ratio = [](int64_t a, int64_t b) {
    return Fixed(b == 0 ? NAN : static_cast<double>(a) / static_cast<double>(b), 3);
  };
  std::printf("%s", Table({"", "float", "compressed", "ratio"},
                          {{"file", Bytes(file.float_bytes), Bytes(file.bytes), ratio(file.bytes, file.float_bytes)},
                           {"weights", Bytes(r.float_weights_bytes), Bytes(r.weights_bytes),
                            ratio(r.weights_bytes, r.float_weights_bytes)}})
                        .c_str());
  if (r.calibration_samples == 0) {
    std::printf("\nwithout samples: ranges are BatchNormalization's, nothing was compared with float\n");
    return;
  }
  std::printf("\ncalibrated on %d samples, compared with float on %d held back\n",
              static_cast<int>(r.calibration_samples), static_cast<int>(r.held_back_samples));
}

}  // namespace

absl::Status Compress(const Words& words) {
  if (absl::GetFlag(FLAGS_list)) {
    std::printf("  auto            chosen layer by layer for a target\n%s\n", compress::SchemeHelp().c_str());
    return absl::OkStatus();
  }
  if (words.size() != 1) return absl::InvalidArgumentError("expected one model file");
  OCTET_ASSIGN_OR_RETURN(const CompressJob job, JobFromFlags(words[0]));
  const InterruptGuard guard;
  compress::CompressOptions options;
  options.threads = absl::GetFlag(FLAGS_threads) > 0 ? absl::GetFlag(FLAGS_threads) : DetectCpuBudget().threads;
  options.stop = InterruptGuard::interrupted;
  ProgressBar bar;
  options.progress = [&bar](const compress::Progress& p) { bar.Show(p); };
  OCTET_ASSIGN_OR_RETURN(const CompressedFile file, CompressFile(job, options));
  if (file.search.has_value()) PrintTrials(*file.search);
  PrintReport(file);
  if (const std::string plot = absl::GetFlag(FLAGS_plot); !plot.empty() && file.search.has_value()) {
    OCTET_RETURN_IF_ERROR(WriteFileAtomically(plot, ParetoSvg(*file.search, job.model)));
  }
  return absl::OkStatus();
}

}  // namespace octet::cli
