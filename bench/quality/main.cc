// bench_quality: what compression costs on real networks, beside ONNX Runtime's own static quantizer. See
// bench/README.md.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/log/initialize.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/status.h"
#include "bench/quality/evaluate.h"
#include "bench/quality/peer.h"
#include "bench/quality/report.h"
#include "bench/quality/task.h"
#include "bench/quality/uncertainty.h"
#include "cli/compress_file.h"

ABSL_FLAG(std::string, json, "", "file to write the rows to");
ABSL_FLAG(std::string, markdown, "", "file to write the table to");
ABSL_FLAG(std::vector<std::string>, networks, {}, "only these networks");
ABSL_FLAG(std::vector<std::string>, schemes, {}, "these schemes instead of the list's");
ABSL_FLAG(std::string, list, OCTET_SOURCE_DIR "/bench/quality/schemes.txt", "schemes to measure");
ABSL_FLAG(std::string, fashion, "/usr/share/datasets/fashion-mnist", "folder of the Fashion-MNIST files");
ABSL_FLAG(std::string, shared, OCTET_SOURCE_DIR "/../shared", "folder with models/ and data/");
ABSL_FLAG(int64_t, max_calibration, 0, "use at most this many calibration samples (0: all)");
ABSL_FLAG(int64_t, max_evaluation, 0, "use at most this many evaluation samples (0: all)");
ABSL_FLAG(std::vector<std::string>, samples, (std::vector<std::string>{"2", "4", "8"}), "sizes of the ensembles of SCHEME-mc");
ABSL_FLAG(bool, uncertainty, false, "of classifiers, measure likelihood, calibration and what entropy tells, too");
ABSL_FLAG(double, distribution, 2, "samples whose mean the distributions of SCHEME-mc are fitted for");
ABSL_FLAG(int, distribution_bits, 8, "bits of their stored probabilities");
ABSL_FLAG(int, layers, 0, "show this many of each scheme's worst layers, and its notes");
ABSL_FLAG(int, threads, 0, "threads of one inference (0: the CPU budget)");
ABSL_FLAG(std::string, keep, "", "folder that keeps the compressed files and arrays (else they are removed)");

namespace octet::bench {
namespace {

constexpr char kPeerScheme[] = "ort-static";
constexpr absl::string_view kEnsembles = "-mc";  // of schemes that are measured as samples, too

bool Selected(const std::vector<std::string>& wanted, const std::string& name) {
  return wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end();
}

absl::StatusOr<std::vector<std::string>> Schemes() {
  if (const auto given = absl::GetFlag(FLAGS_schemes); !given.empty()) return given;
  OCTET_ASSIGN_OR_RETURN(const auto bytes, ReadFile(absl::GetFlag(FLAGS_list)));
  const absl::string_view text(reinterpret_cast<const char*>(bytes->data()), static_cast<size_t>(bytes->size_bytes()));
  std::vector<std::string> schemes;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (!line.empty()) schemes.emplace_back(line);
  }
  return schemes;
}

absl::Status WriteSamples(const std::string& path, const std::vector<Tensor>& samples) {
  Shape shape = samples[0].shape();
  shape.insert(shape.begin(), static_cast<int64_t>(samples.size()));
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(ByteSize(DType::kF32, shape)));
  std::byte* to = buffer.data();
  for (const Tensor& sample : samples) {
    std::memcpy(to, sample.data(), static_cast<size_t>(sample.size_bytes()));
    to += sample.size_bytes();
  }
  return data::WriteNpy(path, Tensor::FromBuffer(DType::kF32, std::move(shape), std::move(buffer)));
}

// A named scheme, or the recipe of a file (*.txtpb).
absl::StatusOr<compress::Recipe> RecipeOf(const std::string& scheme) {
  if (absl::EndsWith(scheme, kEnsembles)) {
    OCTET_ASSIGN_OR_RETURN(compress::Recipe recipe, RecipeOf(scheme.substr(0, scheme.size() - kEnsembles.size())));
    if (recipe.layers().has_distribution()) return recipe;
    OCTET_RETURN_IF_ERROR(compress::AddDistribution(absl::GetFlag(FLAGS_distribution),
                                                    absl::GetFlag(FLAGS_distribution_bits), &recipe));
    return recipe;
  }
  if (std::filesystem::path(scheme).extension() != ".txtpb") return compress::MakeRecipe(scheme);
  OCTET_ASSIGN_OR_RETURN(const std::shared_ptr<const Buffer> bytes, ReadFile(scheme));
  return compress::ParseRecipe(
      {reinterpret_cast<const char*>(bytes->data()), static_cast<size_t>(bytes->size_bytes())});
}

// One network at a time: its samples, its float predictions, and the rows of its schemes.
class Bench {
 public:
  explicit Bench(std::string work) : work_(std::move(work)) {}

  const std::vector<Row>& rows() const { return rows_; }

  // A failure becomes a row, so that the other networks still run.
  void Run(const Network& network, const std::vector<std::string>& schemes) {
    const absl::Status status = Prepare(network);
    if (absl::IsNotFound(status)) {
      std::fprintf(stderr, "%s: skipped: %s\n", network.name.c_str(), std::string(status.message()).c_str());
      return;
    }
    if (!status.ok()) {
      for (const std::string& scheme : schemes) Fail(scheme, status);
      return;
    }
    for (const std::string& scheme : schemes) {
      const absl::Time start = absl::Now();
      const absl::Status done = scheme == kPeerScheme ? RunPeer() : RunScheme(scheme);
      if (absl::IsUnavailable(done)) {
        std::fprintf(stderr, "%s: %s skipped: %s\n", name_.c_str(), scheme.c_str(), std::string(done.message()).c_str());
      } else if (!done.ok()) {
        Fail(scheme, done);
      }
      std::fprintf(stderr, "%s: %s took %.1f s\n", name_.c_str(), scheme.c_str(), absl::ToDoubleSeconds(absl::Now() - start));
    }
  }

 private:
  absl::Status Prepare(const Network& network) {
    name_ = network.name;
    folder_ = absl::StrCat(work_, "/", name_);
    std::filesystem::create_directories(folder_);
    OCTET_ASSIGN_OR_RETURN(task_, network.make({absl::GetFlag(FLAGS_fashion), absl::GetFlag(FLAGS_shared), folder_}));
    const auto cut = [](int64_t most, auto* list) {
      if (most > 0 && static_cast<int64_t>(list->size()) > most) list->resize(static_cast<size_t>(most));
    };
    cut(absl::GetFlag(FLAGS_max_calibration), &task_.calibration);
    cut(absl::GetFlag(FLAGS_max_evaluation), &task_.evaluation);
    cut(absl::GetFlag(FLAGS_max_evaluation), &task_.labels);
    OCTET_RETURN_IF_ERROR(WriteSamples(folder_ + "/calibration.npy", task_.calibration));
    OCTET_ASSIGN_OR_RETURN(reference_, Evaluate(task_.model, task_.evaluation, threads_));
    float_bytes_ = static_cast<int64_t>(std::filesystem::file_size(task_.model));
    std::fprintf(stderr, "%s: %d calibration and %d evaluation samples\n", name_.c_str(),
                 static_cast<int>(task_.calibration.size()), static_cast<int>(task_.evaluation.size()));
    return absl::OkStatus();
  }

  // Writes the compressed file and measures what was written.
  absl::Status RunScheme(const std::string& scheme) {
    compress::CompressOptions options;
    options.threads = threads_;
    cli::CompressJob job;
    job.model = task_.model;
    job.calibration = folder_ + "/calibration.npy";
    job.out = absl::StrCat(folder_, "/", std::filesystem::path(scheme).stem().string(), ".onnx");
    OCTET_ASSIGN_OR_RETURN(job.recipe, RecipeOf(scheme));
    OCTET_ASSIGN_OR_RETURN(const cli::CompressedFile file, cli::CompressFile(job, options));
    PrintWorstLayers(file.report);
    OCTET_ASSIGN_OR_RETURN(const Predictions found, Evaluate(job.out, task_.evaluation, threads_));
    OCTET_RETURN_IF_ERROR(AddRows(scheme, "", file.bytes, found));
    OCTET_RETURN_IF_ERROR(AddClassRows(scheme, job.out, file.bytes, found, nullptr));
    return absl::EndsWith(scheme, kEnsembles) ? RunEnsembles(scheme, job.out, file.bytes) : absl::OkStatus();
  }

  // Samples of one distribution, as one network.
  absl::Status RunEnsembles(const std::string& scheme, const std::string& file, int64_t bytes) {
    for (const std::string& text : absl::GetFlag(FLAGS_samples)) {
      int samples = 0;
      if (!absl::SimpleAtoi(text, &samples)) return absl::InvalidArgumentError(absl::StrCat("--samples: '", text, "' is no number"));
      graph::EnsembleOptions ensemble;
      ensemble.samples = samples;
      ensemble.outputs = task_.classes ? graph::EnsembleOptions::Outputs::kClasses : graph::EnsembleOptions::Outputs::kValues;
      OCTET_ASSIGN_OR_RETURN(Predictions found, Evaluate(file, task_.evaluation, threads_, &ensemble));
      const std::string name = absl::StrCat(scheme, samples);
      Predictions own = found;
      own.outputs.resize(reference_.outputs.size());
      OCTET_RETURN_IF_ERROR(AddRows(name, task_.classes ? "log probabilities" : "", bytes, own));
      OCTET_RETURN_IF_ERROR(AddClassRows(name, file, bytes, found, &ensemble));
    }
    return absl::OkStatus();
  }

  // What class probabilities are worth. Without labels the float network's classes count as true.
  absl::Status AddClassRows(const std::string& scheme, const std::string& file, int64_t bytes, const Predictions& found,
                            const graph::EnsembleOptions* ensemble) {
    if (!task_.classes || !absl::GetFlag(FLAGS_uncertainty)) return absl::OkStatus();
    const std::vector<int64_t> labels = task_.labels.empty() ? MostProbable(reference_.outputs[0]) : task_.labels;
    const PredictedOutput reference = LogProbabilities(reference_.outputs[0]), p = LogProbabilities(found.outputs[0]);
    const double ratio = static_cast<double>(bytes) / static_cast<double>(float_bytes_);
    const auto add = [&](const char* metric, double of_float, double of_found) {
      Add({name_, scheme, metric, of_float, of_found, ratio, "", ""});
    };
    add("NLL nats", NegativeLogLikelihood(reference, labels), NegativeLogLikelihood(p, labels));
    add("Brier", BrierScore(reference, labels), BrierScore(p, labels));
    add("ECE %", CalibrationErrorPercent(reference, labels), CalibrationErrorPercent(p, labels));
    add("accuracy at 90 % coverage %", SelectiveAccuracyPercent(reference, labels, 0.9),
        SelectiveAccuracyPercent(p, labels, 0.9));
    if (!task_.tuning.empty()) {
      // Confidence calibrated on labelled samples, each network's own way: what is left is what it knows.
      OCTET_ASSIGN_OR_RETURN(const Predictions own, Evaluate(task_.model, task_.tuning, threads_));
      OCTET_ASSIGN_OR_RETURN(const Predictions other, Evaluate(file, task_.tuning, threads_, ensemble));
      const auto at_best = [&](const Predictions& tuning, const PredictedOutput& measured) {
        return AtTemperature(measured, BestTemperature(LogProbabilities(tuning.outputs[0]), task_.tuning_labels));
      };
      const PredictedOutput a = at_best(own, reference), b = at_best(other, p);
      add("NLL nats, calibrated", NegativeLogLikelihood(a, labels), NegativeLogLikelihood(b, labels));
      add("Brier, calibrated", BrierScore(a, labels), BrierScore(b, labels));
      add("ECE %, calibrated", CalibrationErrorPercent(a, labels), CalibrationErrorPercent(b, labels));
    }
    for (const Task::Foreign& foreign : task_.foreign) {
      const std::string metric = absl::StrCat("ROC area, entropy, ", foreign.name, " %");
      OCTET_ASSIGN_OR_RETURN(const Predictions of_float, Evaluate(task_.model, foreign.samples, threads_));
      OCTET_ASSIGN_OR_RETURN(const Predictions of_found, Evaluate(file, foreign.samples, threads_, ensemble));
      add(metric.c_str(),
          AreaUnderRocPercent(Entropies(reference), Entropies(LogProbabilities(of_float.outputs[0]))),
          AreaUnderRocPercent(Entropies(p), Entropies(LogProbabilities(of_found.outputs[0]))));
    }
    return absl::OkStatus();
  }

  void PrintWorstLayers(const compress::CompressReport& report) const {
    const size_t lines = std::min(report.layers.size(), static_cast<size_t>(std::max(0, absl::GetFlag(FLAGS_layers))));
    for (size_t i = 0; i < lines; ++i) {
      const compress::LayerReport& l = report.layers[i];
      std::fprintf(stderr, "%s: %6.1f dB %s %s\n", name_.c_str(), l.sqnr_db, l.op.c_str(), l.node.c_str());
    }
    if (lines == 0) return;
    for (const std::string& note : report.notes) std::fprintf(stderr, "%s: %s\n", name_.c_str(), note.c_str());
  }

  // All settings of the peer; the best on the evaluation samples, in its favour, is its row.
  absl::Status RunPeer() {
    OCTET_RETURN_IF_ERROR(WriteSamples(folder_ + "/evaluation.npy", task_.evaluation));
    OCTET_ASSIGN_OR_RETURN(const auto results, RunOrtStatic(OCTET_SOURCE_DIR "/bench/quality/ort_static.py", task_.model, folder_));
    const PeerResult* best = nullptr;
    std::vector<double> best_values;  // equal in the first metric, the next one decides
    for (const PeerResult& r : results) {
      if (!r.error.empty()) {
        std::fprintf(stderr, "%s: %s %s failed: %s\n", name_.c_str(), kPeerScheme, r.setting.c_str(), r.error.c_str());
        continue;
      }
      OCTET_RETURN_IF_ERROR(CheckShapes(r.predictions));
      std::vector<double> values;
      std::string text;
      for (const Metric& m : task_.metrics) {
        values.push_back(m.value(task_, reference_, r.predictions));
        absl::StrAppend(&text, " ", m.name, " ", values.back());
      }
      std::fprintf(stderr, "%s: %s %s:%s\n", name_.c_str(), kPeerScheme, r.setting.c_str(), text.c_str());
      if (best != nullptr && values <= best_values) continue;
      best = &r;
      best_values = values;
    }
    if (best == nullptr) return absl::InternalError(absl::StrCat("every setting failed: ", results[0].error));
    return AddRows(kPeerScheme, best->setting, best->bytes, best->predictions);
  }

  absl::Status CheckShapes(const Predictions& found) const {
    bool equal = found.samples == reference_.samples && found.outputs.size() == reference_.outputs.size();
    for (size_t o = 0; equal && o < found.outputs.size(); ++o) {
      equal = found.outputs[o].shape == reference_.outputs[o].shape;
    }
    if (equal) return absl::OkStatus();
    return absl::InternalError("the compressed network's outputs differ from the float one's in number or shape");
  }

  absl::Status AddRows(const std::string& scheme, const std::string& note, int64_t bytes, const Predictions& found) {
    OCTET_RETURN_IF_ERROR(CheckShapes(found));
    for (const Metric& metric : task_.metrics) {
      if (note == "log probabilities" && metric.name == "SQNR dB") continue;  // of logits
      Add({name_, scheme, metric.name, metric.value(task_, reference_, reference_), metric.value(task_, reference_, found),
           static_cast<double>(bytes) / static_cast<double>(float_bytes_), note, ""});
    }
    return absl::OkStatus();
  }

  void Fail(const std::string& scheme, const absl::Status& status) {
    Row row;
    row.network = name_;
    row.scheme = scheme;
    row.error = std::string(status.message());
    Add(row);
  }

  void Add(const Row& row) {
    rows_.push_back(row);
    std::fprintf(stderr, "%s\n", RowLine(row).c_str());
  }

  const std::string work_;
  const int threads_ = absl::GetFlag(FLAGS_threads) > 0 ? absl::GetFlag(FLAGS_threads) : DetectCpuBudget().threads;
  std::vector<Row> rows_;
  std::string name_, folder_;
  Task task_;
  Predictions reference_;
  int64_t float_bytes_ = 0;
};

absl::StatusOr<std::string> WorkFolder() {
  if (const std::string keep = absl::GetFlag(FLAGS_keep); !keep.empty()) return keep;
  std::string folder = (std::filesystem::temp_directory_path() / "octet-quality-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", folder));
  return folder;
}

absl::Status Main() {
  OCTET_ASSIGN_OR_RETURN(const std::vector<std::string> schemes, Schemes());
  const std::vector<std::string> wanted = absl::GetFlag(FLAGS_networks);
  for (const std::string& name : wanted) {
    const auto& all = Networks();
    if (std::none_of(all.begin(), all.end(), [&](const Network& n) { return n.name == name; })) {
      return absl::NotFoundError(absl::StrCat("there is no network '", name, "'"));
    }
  }
  OCTET_ASSIGN_OR_RETURN(const std::string work, WorkFolder());
  absl::Cleanup remove = [&] {
    if (absl::GetFlag(FLAGS_keep).empty()) std::filesystem::remove_all(work);
  };
  Bench bench(work);
  for (const Network& network : Networks()) {
    if (Selected(wanted, network.name)) bench.Run(network, schemes);
  }
  std::printf("%s", RowsMarkdown(bench.rows()).c_str());
  if (const std::string path = absl::GetFlag(FLAGS_json); !path.empty()) {
    OCTET_RETURN_IF_ERROR(WriteFileAtomically(path, RowsJson(bench.rows())));
  }
  if (const std::string path = absl::GetFlag(FLAGS_markdown); !path.empty()) {
    OCTET_RETURN_IF_ERROR(WriteFileAtomically(path, RowsMarkdown(bench.rows())));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace octet::bench

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("bench_quality: what compression costs on real networks; --help=main lists the flags");
  absl::ParseCommandLine(argc, argv);
  absl::InitializeLog();
  const absl::Status status = octet::bench::Main();
  if (status.ok()) return 0;
  std::fprintf(stderr, "bench_quality: %s\n", std::string(status.message()).c_str());
  return 1;
}
