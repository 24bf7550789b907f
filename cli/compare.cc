// `octet compare`: what each compressed variant of a model costs and gains, measured side by side.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/compare_measure.h"
#include "cli/compare_outputs.h"
#include "cli/compare_subject.h"
#include "cli/comparison.h"
#include "cli/compress_file.h"
#include "cli/console.h"
#include "compress/layer_errors.h"
#include "data/sample_reader.h"

ABSL_FLAG(std::string, variants, "f32,int8",
          "compare: the variants, NAME or NAME=FILE; a scheme without a file is made from f32 with --calibration");
ABSL_FLAG(std::string, reference, "",
          "compare: the variant that others are compared with (default f32, else the first)");
ABSL_FLAG(std::string, server, "",
          "compare: host:port of a server that has the model; only what a client sees is measured");
ABSL_FLAG(std::string, report, "", "compare, inspect --distribution: write one HTML page with plots to this file");
ABSL_FLAG(std::string, batches, "1,2,4,8,16,32", "compare: batch sizes that are tried");
ABSL_FLAG(absl::Duration, time, absl::Seconds(2), "compare: counted runs per variant and batch size");
ABSL_FLAG(int64_t, samples, 1000, "compare: samples on which outputs are compared (0: all)");
ABSL_FLAG(int64_t, layer_samples, 32, "compare: samples on which layers are compared (0: layers are not compared)");
ABSL_FLAG(double, min_agreement, 0.99,
          "compare: a variant is recommended when the 95 % interval of its top-1 agreement lies above this");
ABSL_FLAG(double, min_sqnr, 20, "compare: the same for outputs that are no class scores: SQNR in dB");
ABSL_FLAG(std::string, goal, "throughput",
          "compare: what the recommended variant is best in: throughput, latency or bytes");
ABSL_DECLARE_FLAG(std::string, calibration);
ABSL_DECLARE_FLAG(std::string, data);
ABSL_DECLARE_FLAG(std::string, image);
ABSL_DECLARE_FLAG(std::string, json);
ABSL_DECLARE_FLAG(std::string, labels);
ABSL_DECLARE_FLAG(int64_t, max_samples);
ABSL_DECLARE_FLAG(int, rounds);
ABSL_DECLARE_FLAG(int, threads);

namespace octet::cli {
namespace {

namespace fs = std::filesystem;

struct VariantFile {
  std::string name, path;  // path: "" behind a server, or not there yet
};

// The folder with model.onnx: MODEL's highest version, MODEL itself, or the folder of the file MODEL.
absl::StatusOr<fs::path> VersionFolder(const std::string& model) {
  if (fs::is_regular_file(model)) return fs::path(model).parent_path();
  if (!fs::is_directory(model)) return absl::NotFoundError(absl::StrCat(model, " is no model file or folder"));
  int64_t highest = -1;
  fs::path found = model;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(model, error)) {
    int64_t version = 0;
    if (!entry.is_directory() || !absl::SimpleAtoi(entry.path().filename().string(), &version) || version <= highest)
      continue;
    highest = version;
    found = entry.path();
  }
  return found;
}

// "net.onnx" and int8 make "net.int8.onnx" beside it.
fs::path FileOf(const fs::path& folder, const std::string& stem, const std::string& variant) {
  return folder / (variant == "f32" ? absl::StrCat(stem, ".onnx") : absl::StrCat(stem, ".", variant, ".onnx"));
}

absl::StatusOr<std::vector<VariantFile>> FindFiles(const std::string& model, const std::vector<std::string>& variants) {
  OCTET_ASSIGN_OR_RETURN(const fs::path folder, VersionFolder(model));
  const std::string stem = fs::is_regular_file(model) ? fs::path(model).stem().string() : "model";
  std::vector<VariantFile> files;
  for (const std::string& text : variants) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
    VariantFile file{parts.first, parts.second};
    if (file.path.empty()) {
      const fs::path path = FileOf(folder, stem, file.name);
      if (fs::exists(path)) {
        file.path = path.string();
      } else if (absl::GetFlag(FLAGS_calibration).empty() || file.name == "f32") {
        return absl::NotFoundError(absl::StrCat("variant '", file.name, "' has no file: ", path.string(),
                                                " does not exist; give ", file.name,
                                                "=FILE, or --calibration DATA to make it"));
      }
    } else if (!fs::exists(file.path)) {
      return absl::NotFoundError(absl::StrCat("variant '", file.name, "': ", file.path, " does not exist"));
    }
    files.push_back(std::move(file));
  }
  return files;
}

absl::StatusOr<std::string> DigestOf(const std::string& path) {
  OCTET_ASSIGN_OR_RETURN(const std::shared_ptr<const Buffer> bytes, ReadFile(path));
  return Sha256Hex({bytes->data(), static_cast<size_t>(bytes->size_bytes())});
}

// Compresses the variants that have no file into `folder`.
absl::Status MakeMissing(const std::string& source, const std::string& folder, int threads,
                         std::vector<VariantFile>* files) {
  for (VariantFile& file : *files) {
    if (!file.path.empty()) continue;
    std::fprintf(stderr, "compressing %s to %s\n", source.c_str(), file.name.c_str());
    CompressJob job;
    job.model = source;
    job.calibration = absl::GetFlag(FLAGS_calibration);
    job.out = absl::StrCat(folder, "/model.", file.name, ".onnx");
    OCTET_ASSIGN_OR_RETURN(job.image, data::ImageOptions::Parse(absl::GetFlag(FLAGS_image)));
    OCTET_ASSIGN_OR_RETURN(job.recipe, compress::MakeRecipe(file.name));
    if (absl::GetFlag(FLAGS_max_samples) > 0) {
      job.recipe.mutable_calibration()->set_samples(absl::GetFlag(FLAGS_max_samples));
    }
    compress::CompressOptions options;
    options.threads = threads;
    ProgressBar bar;
    options.progress = [&bar](const compress::Progress& p) { bar.Show(p); };
    OCTET_RETURN_IF_ERROR(CompressFile(job, options).status());
    file.path = job.out;
  }
  return absl::OkStatus();
}

// Shows "comparing outputs 12/100"; the progress of a stage.
std::function<absl::Status()> Steps(ProgressBar* bar, const std::string& stage, int64_t total) {
  auto done = std::make_shared<int64_t>(0);
  return [bar, stage, total, done] {
    compress::Progress progress;
    progress.stage = stage;
    progress.done = ++*done;
    progress.total = total;
    bar->Show(progress);
    return absl::OkStatus();
  };
}

absl::StatusOr<size_t> ReferenceAmong(const std::vector<VariantFile>& files) {
  std::string wanted = absl::GetFlag(FLAGS_reference);
  const bool named = !wanted.empty();
  if (!named) wanted = "f32";
  for (size_t i = 0; i < files.size(); ++i) {
    if (files[i].name == wanted) return i;
  }
  if (named) return absl::InvalidArgumentError(absl::StrCat("--reference=", wanted, " is none of --variants"));
  return size_t{0};
}

absl::StatusOr<Bounds> ParseBounds() {
  Bounds bounds;
  bounds.min_agreement = absl::GetFlag(FLAGS_min_agreement);
  bounds.min_sqnr_db = absl::GetFlag(FLAGS_min_sqnr);
  if (!(bounds.min_agreement >= 0 && bounds.min_agreement < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--min-agreement=", bounds.min_agreement, ": expected 0 to below 1"));
  }
  const std::string goal = absl::GetFlag(FLAGS_goal);
  if (goal == "latency") {
    bounds.goal = Goal::kLatency;
  } else if (goal == "bytes") {
    bounds.goal = Goal::kBytes;
  } else if (goal != "throughput") {
    return absl::InvalidArgumentError(absl::StrCat("--goal=", goal, ": expected throughput, latency or bytes"));
  }
  return bounds;
}

absl::StatusOr<TimingOptions> ParseTiming() {
  TimingOptions timing;
  timing.time = absl::GetFlag(FLAGS_time);
  timing.rounds = std::max(2, 2 * absl::GetFlag(FLAGS_rounds));
  timing.own_process = absl::GetFlag(FLAGS_server).empty();
  timing.batches.clear();
  for (absl::string_view text : absl::StrSplit(absl::GetFlag(FLAGS_batches), ',', absl::SkipEmpty())) {
    int64_t batch = 0;
    if (!absl::SimpleAtoi(text, &batch) || batch < 1 || batch > 4096) {
      return absl::InvalidArgumentError(absl::StrCat("--batches: '", text, "', expected numbers from 1 to 4096"));
    }
    timing.batches.push_back(batch);
  }
  timing.batches.push_back(1);
  std::sort(timing.batches.begin(), timing.batches.end());
  timing.batches.erase(std::unique(timing.batches.begin(), timing.batches.end()), timing.batches.end());
  return timing;
}

// What is measured, and what it was measured with.
struct Opened {
  std::vector<std::unique_ptr<Subject>> subjects;
  std::vector<graph::Graph> graphs;  // of local files
};

absl::Status Open(const std::vector<VariantFile>& files, const std::string& model, Comparison* c, Opened* opened) {
  const std::string server = absl::GetFlag(FLAGS_server);
  std::string digest;
  if (server.empty()) {
    OCTET_ASSIGN_OR_RETURN(digest, DigestOf(files[c->reference].path));
  }
  opened->graphs.resize(files.size());
  for (size_t i = 0; i < files.size(); ++i) {
    absl::StatusOr<std::unique_ptr<Subject>> subject =
        server.empty() ? LoadSubject(files[i].name, files[i].path, c->threads, 3, &opened->graphs[i])
                       : ConnectSubject(server, model, files[i].name);
    OCTET_RETURN_IF_ERROR(subject.status());
    if (server.empty()) {
      const auto& metadata = opened->graphs[i].metadata;
      const auto source = metadata.find("ai.octet.source_sha256");
      if (i != c->reference && files[c->reference].name == "f32" && source != metadata.end() &&
          source->second != digest) {
        return WithReason(absl::FailedPreconditionError(
                              absl::StrCat(files[i].path, " was made from another file: its source has SHA-256 ",
                                           source->second, ", ", files[c->reference].path, " has ", digest)),
                          "stale_twin");
      }
    }
    c->variants.push_back({});
    c->variants.back().name = files[i].name;
    c->variants.back().path = files[i].path;
    c->variants.back().facts = (*subject)->facts();
    opened->subjects.push_back(*std::move(subject));
  }
  return absl::OkStatus();
}

void NameAbsent(Comparison* c, bool labels) {
  if (!c->server.empty()) {
    c->absent = {
        "load time, activations, bytes walked, CPU seconds and joules per inference, per-layer SQNR and histograms: "
        "a client cannot see them; latency includes the connection"};
    if (!c->variants[c->reference].facts.weights_bytes.has_value()) {
      c->absent.push_back("bytes of weights and models in 4 GB: this server does not tell them");
    }
  } else if (!c->variants[0].single.joules.has_value()) {
    c->absent.push_back("joules per inference: this machine has no readable counter in /sys/class/powercap");
  }
  if (!labels) c->absent.push_back("top-1 and top-5: no --labels");
}

absl::Status Measure(const Opened& opened, data::SampleReader& samples, const std::vector<int64_t>& labels,
                     const TimingOptions& timing, Comparison* c) {
  std::vector<Subject*> subjects;
  for (const auto& subject : opened.subjects) subjects.push_back(subject.get());
  std::vector<std::vector<Tensor>> first;
  for (int64_t i = 0; i < std::min(samples.size(), timing.batches.back()); ++i) {
    OCTET_ASSIGN_OR_RETURN(data::Sample sample, samples.Read(i));
    first.push_back(std::move(sample.inputs));
  }
  OCTET_RETURN_IF_ERROR(MeasureSpeed(subjects, first, timing, &c->variants));
  ProgressBar bar;
  OCTET_RETURN_IF_ERROR(CompareOutputs(subjects, c->reference, samples, c->samples, labels,
                                       Steps(&bar, "comparing outputs", c->samples), &c->variants));
  if (c->layer_samples == 0) return absl::OkStatus();
  std::vector<const graph::Graph*> others;
  for (size_t i = 0; i < opened.graphs.size(); ++i) {
    if (i != c->reference) others.push_back(&opened.graphs[i]);
  }
  std::vector<int64_t> indices(static_cast<size_t>(c->layer_samples));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  OCTET_ASSIGN_OR_RETURN(c->layers,
                         compress::CompareLayers(opened.graphs[c->reference], others, samples, indices, c->threads,
                                                 Steps(&bar, "comparing layers", c->layer_samples)));
  return absl::OkStatus();
}

absl::Status Write(const Comparison& c, const Bounds& bounds) {
  const Recommendation recommendation = Recommend(c, bounds);
  std::printf("%s: %s%s, %d samples of %s\n\n%s\n", c.model.c_str(), c.machine.c_str(),
              c.server.empty() ? absl::StrCat(", ", c.threads, " threads").c_str() : "", static_cast<int>(c.samples),
              c.data.c_str(), ComparisonTable(c).c_str());
  std::printf("recommended: %s\n", recommendation.reason.c_str());
  for (const std::string& line : recommendation.rejected) std::printf("  not %s\n", line.c_str());
  if (const std::string json = absl::GetFlag(FLAGS_json); !json.empty()) {
    OCTET_RETURN_IF_ERROR(WriteFileAtomically(json, ComparisonJson(c, recommendation, bounds)));
  }
  if (const std::string report = absl::GetFlag(FLAGS_report); !report.empty()) {
    OCTET_RETURN_IF_ERROR(WriteFileAtomically(report, ComparisonHtml(c, recommendation, bounds)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Compare(const Words& words) {
  if (words.size() != 1) return absl::InvalidArgumentError("expected one model: a file, a folder, or a server's name");
  if (absl::GetFlag(FLAGS_data).empty()) return absl::InvalidArgumentError("--data is missing");
  OCTET_ASSIGN_OR_RETURN(const Bounds bounds, ParseBounds());
  OCTET_ASSIGN_OR_RETURN(const TimingOptions timing, ParseTiming());
  Comparison c;
  c.model = words[0];
  c.data = absl::GetFlag(FLAGS_data);
  c.server = absl::GetFlag(FLAGS_server);
  c.threads = absl::GetFlag(FLAGS_threads) > 0 ? absl::GetFlag(FLAGS_threads) : DetectCpuBudget().threads;
  c.machine = c.server.empty() ? absl::StrCat(DetectCpuFeatures().model_name, " (", DetectCpuFeatures().isa, ")")
                               : absl::StrCat("server at ", c.server);
  c.baseline_bytes = c.server.empty() ? ResidentBytes() : 0;
  const std::vector<std::string> names = absl::StrSplit(absl::GetFlag(FLAGS_variants), ',', absl::SkipEmpty());
  if (names.size() < 2) return absl::InvalidArgumentError("--variants: expected two or more, separated by commas");
  std::vector<VariantFile> files;
  if (c.server.empty()) {
    OCTET_ASSIGN_OR_RETURN(files, FindFiles(words[0], names));
  } else {
    for (const std::string& name : names) files.push_back({name, ""});
  }
  OCTET_ASSIGN_OR_RETURN(c.reference, ReferenceAmong(files));
  std::string folder = (fs::temp_directory_path() / "octet-compare-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", folder));
  const absl::Cleanup remove = [&] { fs::remove_all(folder); };
  if (c.server.empty()) OCTET_RETURN_IF_ERROR(MakeMissing(files[c.reference].path, folder, c.threads, &files));

  Opened opened;
  OCTET_RETURN_IF_ERROR(Open(files, words[0], &c, &opened));
  OCTET_ASSIGN_OR_RETURN(const data::ImageOptions image, data::ImageOptions::Parse(absl::GetFlag(FLAGS_image)));
  std::vector<std::string> inputs;
  for (const engine::Signature& input : opened.subjects[c.reference]->inputs()) inputs.push_back(input.name);
  OCTET_ASSIGN_OR_RETURN(const auto samples, data::OpenSamples(c.data, image, inputs));
  std::vector<int64_t> labels;
  if (!absl::GetFlag(FLAGS_labels).empty()) {
    OCTET_ASSIGN_OR_RETURN(labels, data::ReadLabels(absl::GetFlag(FLAGS_labels)));
    if (static_cast<int64_t>(labels.size()) != samples->size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--labels has ", labels.size(), " labels, --data ", samples->size(), " samples"));
    }
  }
  const int64_t wanted = absl::GetFlag(FLAGS_samples);
  c.samples = wanted > 0 ? std::min(wanted, samples->size()) : samples->size();
  c.layer_samples = c.server.empty() ? std::clamp<int64_t>(absl::GetFlag(FLAGS_layer_samples), 0, c.samples) : 0;
  OCTET_RETURN_IF_ERROR(Measure(opened, *samples, labels, timing, &c));
  NameAbsent(&c, !labels.empty());
  return Write(c, bounds);
}

}  // namespace octet::cli
