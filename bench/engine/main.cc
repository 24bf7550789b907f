// bench_engine: Octet against ONNX Runtime on the same files, alternating in one process. See bench/README.md.
#include <cstdio>
#include <filesystem>
#include <map>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/log/initialize.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/status.h"
#include "bench/engine/graph_counts.h"
#include "bench/engine/inputs.h"
#include "bench/engine/measure.h"
#include "bench/engine/network_list.h"
#include "bench/engine/onnxruntime_peer.h"
#include "bench/engine/profile.h"
#include "bench/engine/report.h"
#include "bench/generate/files.h"
#include "bench/peak/peaks.h"
#include "engine/program.h"
#include "onnx/import.h"

ABSL_FLAG(std::string, json, "", "file to write the results to");
ABSL_FLAG(std::string, list, OCTET_SOURCE_DIR "/bench/engine/networks.txt", "networks to run");
ABSL_FLAG(std::vector<std::string>, networks, {}, "only these networks of the list");
ABSL_FLAG(std::vector<std::string>, forms, {}, "only these forms: f32, int8, file");
ABSL_FLAG(std::string, batches, "", "these batch sizes instead of the list's, e.g. 1,8");
ABSL_FLAG(int, threads, 2, "threads of each engine");
ABSL_FLAG(std::vector<std::string>, onnxruntime, {}, "more libonnxruntime.so files beside Debian's; the fastest is judge");
ABSL_FLAG(double, seconds, 1.5, "counted time per engine, network and batch");
ABSL_FLAG(double, settle_ms, 20, "uncounted time at the start of each block of runs");
ABSL_FLAG(int, idle_runs, 15, "runs after 20 ms of idleness (0: not measured)");
ABSL_FLAG(bool, fresh, false, "generate and compress again instead of using the cache");
ABSL_FLAG(int, profile, 0, "print this many of Octet's steps, slowest first, instead of comparing");
ABSL_FLAG(bool, operators, false, "print what each engine made of the network: operators and implementations");

namespace octet::bench {
namespace {

struct Task {
  NetworkEntry entry;
  std::string path;    // of the file both engines open
  std::string folder;  // of stored inputs; may be empty
  std::string form;
};

std::string SharedFolder() { return absl::StrCat(OCTET_SOURCE_DIR, "/../shared/models"); }

class Bench {
 public:
  absl::Status Load() {
    std::vector<std::string> libraries = absl::GetFlag(FLAGS_onnxruntime);
    libraries.insert(libraries.begin(), OCTET_ONNXRUNTIME_SONAME);
    for (const std::string& library : libraries) {
      absl::StatusOr<std::unique_ptr<OnnxRuntime>> peer = OnnxRuntime::Load(library);
      if (!peer.ok()) {
        if (library != libraries[0]) return peer.status();  // asked for by name
        std::fprintf(stderr, "no ONNX Runtime of the system: %s\n", std::string(peer.status().message()).c_str());
        continue;
      }
      std::printf("peer: ONNX Runtime %s (%s)\n", (*peer)->version().c_str(), library.c_str());
      peers_.push_back(*std::move(peer));
    }
    if (peers_.empty()) return absl::NotFoundError("no ONNX Runtime to compare with");
    if (absl::GetFlag(FLAGS_profile) > 0) return absl::OkStatus();
    peaks_ = MeasurePeaks(threads_);
    std::printf("%s, %d threads; peaks: %s\n\n%s\n", DetectCpuFeatures().model_name.c_str(), threads_,
                PeaksString(peaks_).c_str(), TableHeader().c_str());
    return absl::OkStatus();
  }

  // Failures of one network are printed and counted; the others still run.
  absl::Status Run(const std::vector<NetworkEntry>& entries) {
    int failures = 0;
    for (const NetworkEntry& entry : entries) {
      for (const std::string& form : entry.forms) {
        if (!Selected(absl::GetFlag(FLAGS_forms), form)) continue;
        const absl::Status status = RunForm(entry, form);
        if (status.ok()) continue;
        ++failures;
        std::printf("%-23s %-5s failed: %s\n", entry.name.c_str(), form.c_str(), std::string(status.message()).c_str());
      }
    }
    if (failures > 0) return absl::UnknownError(absl::StrCat(failures, " of the networks' forms failed"));
    return absl::OkStatus();
  }

  absl::Status Write(const std::string& path) const {
    const std::vector<std::pair<std::string, std::string>> machine = {
        {"cpu", DetectCpuFeatures().model_name},
        {"isa", peaks_.int8_instruction},
        {"compiler", absl::StrCat("GCC ", __VERSION__)},
        {"int8_gops", absl::StrCat(peaks_.int8_gops)},
        {"f32_gflops", absl::StrCat(peaks_.f32_gflops)},
        {"memory_gbps", absl::StrCat(peaks_.memory_gbps)}};
    return WriteFileAtomically(path, ToJson(results_, machine));
  }

  static bool Selected(const std::vector<std::string>& wanted, const std::string& name) {
    return wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end();
  }

 private:
  absl::Status RunForm(const NetworkEntry& entry, const std::string& form) {
    Task task{entry, "", "", form};
    if (entry.source == "shared") {
      const std::string folder = absl::StrCat(SharedFolder(), "/", entry.name);
      task.path = folder + "/model.onnx";
      task.folder = folder + "/test_data_set_0";
      if (!std::filesystem::exists(task.path)) {
        std::printf("%-23s %-5s skipped: %s is absent\n", entry.name.c_str(), form.c_str(), folder.c_str());
        return absl::OkStatus();
      }
    } else {
      OCTET_ASSIGN_OR_RETURN(task.path, GeneratedFile(entry.name, absl::GetFlag(FLAGS_fresh) && form == "f32"));
    }
    if (form == "int8") {
      OCTET_RETURN_IF_ERROR(Compress(&task));
    }
    std::vector<int64_t> batches = entry.batches;
    if (const std::string text = absl::GetFlag(FLAGS_batches); !text.empty()) {
      OCTET_ASSIGN_OR_RETURN(batches, ParseBatches(text));
    }
    for (int64_t batch : batches) OCTET_RETURN_IF_ERROR(RunBatch(task, batch));
    return absl::OkStatus();
  }

  absl::Status Compress(Task* task) {
    OCTET_ASSIGN_OR_RETURN(graph::Graph graph, onnx_io::ImportFile(task->path));
    OCTET_ASSIGN_OR_RETURN(auto program, engine::Program::Compile(std::move(graph)));
    OCTET_ASSIGN_OR_RETURN(const std::vector<Tensor> sample,
                           MakeInputs(program->inputs(), task->entry.shapes, 1, task->folder));
    OCTET_ASSIGN_OR_RETURN(task->path, CompressedFile(task->entry.name, task->path, sample, threads_,
                                                      absl::GetFlag(FLAGS_fresh)));
    return absl::OkStatus();
  }

  absl::Status RunBatch(const Task& task, int64_t batch) {
    OCTET_ASSIGN_OR_RETURN(graph::Graph graph, onnx_io::ImportFile(task.path));
    for (graph::ValueId id : graph.inputs) {
      const auto& shape = graph.value(id).shape;
      if (batch > 1 && shape.has_value() && !shape->empty() && (*shape)[0] == 1) return absl::OkStatus();
    }
    OCTET_ASSIGN_OR_RETURN(auto program, engine::Program::Compile(std::move(graph)));
    OCTET_ASSIGN_OR_RETURN(const std::vector<Tensor> inputs,
                           MakeInputs(program->inputs(), task.entry.shapes, batch, task.folder));
    OCTET_ASSIGN_OR_RETURN(const std::unique_ptr<OctetRunner> octet, MakeOctetRunner(*program, inputs, threads_));
    if (const int lines = absl::GetFlag(FLAGS_profile); lines > 0) {
      OCTET_ASSIGN_OR_RETURN(auto times, ProfileSteps(octet->specialisation(), absl::Seconds(absl::GetFlag(FLAGS_seconds))));
      std::printf("%s %s batch %d: %s\n", task.entry.name.c_str(), task.form.c_str(), static_cast<int>(batch),
                  ProfileString(std::move(times), lines).c_str());
      return absl::OkStatus();
    }
    std::vector<NamedTensor> named;
    for (size_t i = 0; i < inputs.size(); ++i) named.push_back({program->inputs()[i].name, inputs[i]});
    std::vector<std::unique_ptr<Runner>> peers;
    const bool show = absl::GetFlag(FLAGS_operators);
    if (show) PrintSteps(octet->specialisation().Steps());
    for (const std::unique_ptr<OnnxRuntime>& peer : peers_) {
      std::string optimised;
      if (show) {
        OCTET_ASSIGN_OR_RETURN(const std::string folder, CacheFolder());
        optimised = absl::StrCat(folder, "/optimised.", peer->version(), ".onnx");
      }
      OCTET_ASSIGN_OR_RETURN(auto runner, peer->Open(task.path, named, threads_, optimised));
      peers.push_back(std::move(runner));
      if (show) OCTET_RETURN_IF_ERROR(PrintOperators(peer->version(), optimised));
    }
    return Measure(task, batch, *octet, peers);
  }

  absl::Status Measure(const Task& task, int64_t batch, OctetRunner& octet,
                       const std::vector<std::unique_ptr<Runner>>& peers) {
    std::vector<Runner*> runners = {&octet};
    for (const auto& peer : peers) runners.push_back(peer.get());
    MeasureOptions options;
    options.time = absl::Seconds(absl::GetFlag(FLAGS_seconds));
    options.settle = absl::Milliseconds(absl::GetFlag(FLAGS_settle_ms));
    options.idle_runs = absl::GetFlag(FLAGS_idle_runs);
    OCTET_ASSIGN_OR_RETURN(const std::vector<Timing> timings, Alternate(runners, options));
    Result r;
    r.network = task.entry.name;
    r.variant = task.form == "file" ? "int8" : task.form;
    r.batch = batch;
    r.threads = threads_;
    r.octet = timings[0];
    size_t best = 0;
    for (size_t p = 1; p < peers.size(); ++p) {
      if (timings[p + 1].median_ms < timings[best + 1].median_ms) best = p;
    }
    r.peer = timings[best + 1];
    r.peer_version = peers_[best]->version();
    OCTET_ASSIGN_OR_RETURN(const auto expected, peers[best]->Outputs());
    OCTET_ASSIGN_OR_RETURN(const auto found, octet.Outputs());
    OCTET_ASSIGN_OR_RETURN(r.sqnr_db, OutputSqnrDb(expected, found));
    r.gops = 2e-6 * static_cast<double>(octet.multiply_adds()) / r.octet.median_ms;
    r.peak_share = r.gops / (r.variant == "f32" ? peaks_.f32_gflops : peaks_.int8_gops);
    r.weights_bytes = octet.Memory().weights;
    r.weights_gbps = 1e-6 * static_cast<double>(r.weights_bytes) / r.octet.median_ms;
    results_.push_back(r);
    std::printf("%s\n", TableRow(r).c_str());
    std::fflush(stdout);
    return absl::OkStatus();
  }

  static void PrintSteps(const std::vector<engine::StepInfo>& steps) {
    std::map<std::string, int> counts;
    for (const engine::StepInfo& s : steps) ++counts[absl::StrCat(s.op, " by ", s.implementation)];
    std::printf("octet, %d steps:\n", static_cast<int>(steps.size()));
    for (const auto& [what, count] : counts) std::printf("  %4d %s\n", count, what.c_str());
  }

  static absl::Status PrintOperators(const std::string& version, const std::string& path) {
    OCTET_ASSIGN_OR_RETURN(const auto counts, CountOperators(path));
    std::printf("onnxruntime %s: %s\n", version.c_str(), absl::StrJoin(counts, ", ", absl::PairFormatter(" ")).c_str());
    return absl::OkStatus();
  }

  const int threads_ = absl::GetFlag(FLAGS_threads);
  std::vector<std::unique_ptr<OnnxRuntime>> peers_;
  Peaks peaks_;
  std::vector<Result> results_;
};

absl::Status Main() {
  OCTET_ASSIGN_OR_RETURN(const auto text, ReadFile(absl::GetFlag(FLAGS_list)));
  absl::StatusOr<std::vector<NetworkEntry>> entries = ParseNetworkList(
      {reinterpret_cast<const char*>(text->data()), static_cast<size_t>(text->size_bytes())});
  if (!entries.ok()) return Annotate(entries.status(), absl::GetFlag(FLAGS_list));
  std::vector<NetworkEntry> wanted;
  for (const NetworkEntry& entry : *entries) {
    if (Bench::Selected(absl::GetFlag(FLAGS_networks), entry.name)) wanted.push_back(entry);
  }
  if (wanted.empty()) return absl::NotFoundError("the list has none of these networks");
  Bench bench;
  OCTET_RETURN_IF_ERROR(bench.Load());
  const absl::Status status = bench.Run(wanted);
  if (const std::string path = absl::GetFlag(FLAGS_json); !path.empty()) {
    OCTET_RETURN_IF_ERROR(bench.Write(path));
  }
  return status;
}

}  // namespace
}  // namespace octet::bench

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("bench_engine: Octet against ONNX Runtime; --help=main lists the flags");
  absl::ParseCommandLine(argc, argv);
  absl::InitializeLog();
  const absl::Status status = octet::bench::Main();
  if (status.ok()) return 0;
  std::fprintf(stderr, "bench_engine: %s\n", std::string(status.message()).c_str());
  return 1;
}
