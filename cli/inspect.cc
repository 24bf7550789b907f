// `octet inspect`: what a model becomes on this machine.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/distribution_report.h"
#include "cli/inputs.h"
#include "cli/inspect_report.h"
#include "engine/program.h"
#include "onnx/import.h"

ABSL_FLAG(int64_t, batch, 1, "inspect, bench: rows of one request");
ABSL_FLAG(std::string, shape, "", "inspect, bench: shapes of the inputs where free, e.g. 1x3x224x224;1x10 (default: free "
                                  "dimensions other than the batch are refused)");
ABSL_FLAG(bool, dispatch, false, "inspect: also print the implementations that refused, with their reasons");
ABSL_FLAG(bool, memory, false, "inspect: also print what loading and running the model holds in memory, and the bounds");
ABSL_FLAG(bool, passes, false, "inspect: also print what each pass rewrote or fused, and why others did not fire");
ABSL_FLAG(bool, profile, false, "inspect: also run the model for a second and print the time of every step");
ABSL_FLAG(bool, weights, false, "inspect: also print every packed copy of a constant");
ABSL_FLAG(bool, distribution, false,
          "inspect: only print what the file's distributions say; --json and --report write it to files");
ABSL_DECLARE_FLAG(int, threads);
ABSL_DECLARE_FLAG(std::string, json);
ABSL_DECLARE_FLAG(std::string, report);

namespace octet::cli {
namespace {

void PrintSignature(const engine::Program& program) {
  for (const engine::Signature& s : program.inputs()) {
    std::printf("input   %s %s%s\n", s.name.c_str(), std::string(NameOf(s.dtype)).c_str(), ShapeString(s.shape).c_str());
  }
  for (const engine::Signature& s : program.outputs()) {
    std::printf("output  %s %s%s\n", s.name.c_str(), std::string(NameOf(s.dtype)).c_str(), ShapeString(s.shape).c_str());
  }
  const graph::BatchProof& proof = program.batch_proof();
  std::printf("batch   %s\n\n", proof.batchable
                                    ? (proof.freed ? "rows are independent (the file fixes 1; freed)"
                                                   : "rows are independent: requests are merged")
                                    : absl::StrCat("not merged: ", proof.obstacle).c_str());
}

void PrintSteps(const std::vector<engine::StepInfo>& steps) {
  std::vector<std::vector<std::string>> rows;
  int64_t multiply_adds = 0, reorders = 0;
  for (const engine::StepInfo& step : steps) {
    rows.push_back({step.op, step.src_types, step.dst_types, step.implementation,
                    step.multiply_adds > 0 ? Fixed(static_cast<double>(step.multiply_adds) / 1e6, 2) : "",
                    step.weights_bytes > 0 ? Bytes(step.weights_bytes) : ""});
    multiply_adds += step.multiply_adds;
    reorders += step.op == "Convert" ? 1 : 0;
  }
  std::printf("%s\n", Table({"step", "in", "out", "implementation", "M mult-adds", "weights"}, rows).c_str());
  std::printf("%d steps, %d of them conversions; %.2f million multiply-adds\n", static_cast<int>(steps.size()),
              static_cast<int>(reorders), static_cast<double>(multiply_adds) / 1e6);
}

// What the process held before the load, at its highest point and after it, in bytes.
struct LoadResidency {
  int64_t before = 0, peak = 0, after = 0;
};

void PrintMemory(const engine::Program& program, const engine::Specialisation& specialisation, int64_t file_bytes,
                 int64_t largest_initializer, const LoadResidency& resident) {
  const engine::MemoryReport memory = program.Memory();
  const engine::CacheReport cache = program.Cache();
  const int64_t arena = specialisation.arena_bytes(), bound = specialisation.arena_lower_bound_bytes();
  // What a load may hold at most: the file, its packed weights, one tensor on its way, and 64 MB for code and messages.
  const int64_t allowed = file_bytes + memory.weights + largest_initializer + (64 << 20);
  std::vector<std::vector<std::string>> rows = {
      {"file", Bytes(file_bytes), ""},
      {"weights, packed", Bytes(memory.weights), absl::StrCat(program.PackedCopies().size(), " copies (--weights)")},
      {"activations", Bytes(arena),
       absl::StrCat("lower bound by liveness ", Bytes(bound), " (",
                    Fixed(static_cast<double>(arena) / static_cast<double>(std::max<int64_t>(bound, 1)), 2), "x)")},
      {"scratchpad", Bytes(memory.scratchpad), "shared by all steps"},
      {"code", Bytes(memory.code), "estimate"},
      {"metadata", Bytes(memory.metadata), ""},
      {"peak of the load", Bytes(resident.peak - resident.before),
       absl::StrCat("allowed ", Bytes(allowed), ": file + weights + largest initializer ", Bytes(largest_initializer),
                    " + 64 MiB")},
      {"after the load", Bytes(resident.after - resident.before), "resident, with program code paged in"},
      {"other shapes", "", absl::StrCat("at most ", cache.max_specialisations, " kept, ", Bytes(cache.max_bytes),
                                        " of activations")}};
  std::printf("%s\n", Table({"memory", "bytes", ""}, rows).c_str());
}

int64_t LargestInitializer(const graph::Graph& graph) {
  int64_t largest = 0;
  for (const graph::Value& value : graph.values) {
    if (value.is_constant()) largest = std::max(largest, value.data->size_bytes());
  }
  return largest;
}

// "u2 of 3 levels, a scale for 64": how a constant with quant is stored.
std::string StoredForm(const graph::Value& value) {
  const QuantParams& quant = *value.quant;
  std::string form(NameOf(value.dtype));
  if (quant.vector > 1) {
    form = absl::StrCat("bytes for ", quant.vector, " weights");
  } else if (!quant.levels.empty()) {
    absl::StrAppend(&form, " of ", quant.levels.size(), " levels");
  }
  if (quant.block > 0) return absl::StrCat(form, ", a scale for ", quant.block);
  return absl::StrCat(form, quant.per_tensor() ? ", one scale" : ", a scale per channel");
}

// What the file stores weights as, the most bytes first.
void PrintStoredForms(const graph::Graph& graph) {
  std::map<std::string, std::pair<int, int64_t>> forms;  // constants, bytes
  for (const graph::Value& value : graph.values) {
    if (!value.is_constant() || !value.quant.has_value()) continue;
    auto& [count, bytes] = forms[StoredForm(value)];
    ++count;
    bytes += value.data->size_bytes();
  }
  std::vector<std::pair<std::string, std::pair<int, int64_t>>> sorted(forms.begin(), forms.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.second > b.second.second; });
  for (const auto& [form, sum] : sorted) {
    std::printf("stored  %s: %d constants, %s\n", form.c_str(), sum.first, Bytes(sum.second).c_str());
  }
}

absl::Status InspectDistribution(const graph::Graph& graph, const std::string& model) {
  absl::StatusOr<DistributionReport> report = ReportDistribution(graph);
  if (!report.ok()) return Annotate(report.status(), model);
  std::printf("%s", DistributionTable(*report).c_str());
  if (const std::string path = absl::GetFlag(FLAGS_json); !path.empty()) {
    OCTET_RETURN_IF_ERROR(WriteFileAtomically(path, DistributionJson(*report)));
  }
  if (const std::string path = absl::GetFlag(FLAGS_report); !path.empty()) {
    OCTET_RETURN_IF_ERROR(WriteFileAtomically(path, DistributionHtml(*report, model)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Inspect(const Words& words) {
  if (words.size() != 1) return absl::InvalidArgumentError("expected one model file");
  LoadResidency resident;
  ResetPeakResident();
  resident.before = ResidentBytes();
  OCTET_ASSIGN_OR_RETURN(graph::Graph graph, onnx_io::ImportFile(words[0]));
  if (absl::GetFlag(FLAGS_distribution)) return InspectDistribution(graph, words[0]);
  const int64_t largest_initializer = LargestInitializer(graph);
  std::vector<std::string> metadata;
  for (const auto& [key, value] : graph.metadata) metadata.push_back(absl::StrCat(key, " = ", value));
  std::sort(metadata.begin(), metadata.end());
  PrintStoredForms(graph);
  absl::StatusOr<std::shared_ptr<engine::Program>> program = engine::Program::Compile(std::move(graph));
  if (!program.ok()) return Annotate(program.status(), words[0]);
  PrintSignature(**program);
  OCTET_ASSIGN_OR_RETURN(const std::vector<Shape> given, ParseShapes(absl::GetFlag(FLAGS_shape)));
  OCTET_ASSIGN_OR_RETURN(const std::vector<Shape> shapes,
                         ShapesFor((*program)->inputs(), absl::GetFlag(FLAGS_batch), given));
  const int threads = absl::GetFlag(FLAGS_threads) > 0 ? absl::GetFlag(FLAGS_threads) : DetectCpuBudget().threads;
  auto specialisation = (*program)->Specialise(shapes, threads);
  if (!specialisation.ok()) return Annotate(specialisation.status(), words[0]);
  OCTET_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Context> context, engine::Context::Create(*specialisation));
  const std::vector<engine::StepInfo> first = (*specialisation)->Steps();
  const bool staged = std::any_of(first.begin(), first.end(), [](const auto& s) { return s.implementation == "staged"; });
  if (staged) {
    // What follows depends on data: shown for inputs that are zero.
    const absl::Status ran = context->Run();
    std::printf("stages: made as data decides; below for inputs of zeros%s\n\n",
                ran.ok() ? "" : absl::StrCat(" up to: ", ran.message()).c_str());
  }
  (*program)->ReleaseInitializers();
  resident.peak = PeakResidentBytes();
  resident.after = ResidentBytes();
  const std::vector<engine::StepInfo> steps = (*specialisation)->Steps();
  PrintSteps(steps);
  const engine::MemoryReport memory = (*program)->Memory();
  std::printf("memory: weights %s, activations %s (lower bound %s), scratchpad %s, code about %s\n",
              Bytes(memory.weights).c_str(), Bytes((*specialisation)->arena_bytes()).c_str(),
              Bytes((*specialisation)->arena_lower_bound_bytes()).c_str(), Bytes(memory.scratchpad).c_str(),
              Bytes(memory.code).c_str());
  std::printf("machine: %s, %d threads\n", DetectCpuFeatures().isa.c_str(), threads);
  for (const std::string& line : metadata) std::printf("metadata: %s\n", line.c_str());
  if (absl::GetFlag(FLAGS_dispatch)) {
    for (const engine::StepInfo& step : steps) {
      for (const std::string& refusal : step.refusals) {
        std::printf("refused: %s (%s): %s\n", step.op.c_str(), step.node.c_str(), refusal.c_str());
      }
    }
  }
  if (absl::GetFlag(FLAGS_passes)) PrintPasses(**program, **specialisation);
  if (absl::GetFlag(FLAGS_profile)) OCTET_RETURN_IF_ERROR(PrintProfile(**program, *context));
  if (absl::GetFlag(FLAGS_memory)) {
    std::error_code error;
    const auto file_bytes = static_cast<int64_t>(std::filesystem::file_size(words[0], error));
    PrintMemory(**program, **specialisation, error ? 0 : file_bytes, largest_initializer, resident);
  }
  if (absl::GetFlag(FLAGS_weights)) {
    for (const std::string& line : (*program)->PackedCopies()) std::printf("packed: %s\n", line.c_str());
  }
  return absl::OkStatus();
}

}  // namespace octet::cli
