// File-to-file compression.
#include "cli/compress_file.h"

#include <google/protobuf/text_format.h>

#include <cmath>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/status.h"
#include "onnx/export.h"
#include "onnx/import.h"

namespace octet::cli {
namespace {

using compress::CompressResult;

// The file's bytes of a compressed graph.
absl::StatusOr<std::string> Serialize(const CompressResult& result, const std::string& digest) {
  graph::Graph g = result.graph;
  g.metadata["ai.octet.format"] = "1";
  g.metadata["ai.octet.variant"] = result.recipe.name();
  g.metadata["ai.octet.recipe"] = compress::RecipeText(result.recipe);
  g.metadata["ai.octet.source_sha256"] = digest;
  g.metadata["ai.octet.measured.isa"] = DetectCpuFeatures().isa;
  for (const compress::OutputReport& o : result.report.outputs) {
    g.metadata[absl::StrCat("ai.octet.measured.", o.name)] =
        absl::StrFormat("top1_agreement=%.4f sqnr_db=%.2f cosine=%.6f samples=%d", o.top1_agreement, o.sqnr_db,
                        o.cosine, result.report.held_back_samples);
  }
  std::string warnings;
  for (const compress::Trap& trap : result.report.traps) {
    if (trap.where.find_first_of("\t\n") != std::string::npos) continue;
    absl::StrAppend(&warnings, compress::NameOf(trap.kind), "\t", trap.where, "\t", trap.text, "\n");
  }
  if (!warnings.empty()) g.metadata["ai.octet.warnings"] = warnings;
  std::string layers, overflows;
  for (const compress::LayerReport& layer : result.report.layers) {
    if (!std::isfinite(layer.sqnr_db) || layer.node.find_first_of("\t\n") != std::string::npos) continue;
    const double overflow = layer.overflow_share.value_or(0);
    if (overflow > 0) absl::StrAppendFormat(&overflows, "%s\t%.3g\n", layer.node, overflow);
    absl::StrAppendFormat(&layers, "%s\t%s\t%s\t%.2f\n", layer.node, layer.op, layer.scheme, layer.sqnr_db);
  }
  if (!layers.empty()) g.metadata["ai.octet.layers"] = layers;
  if (!overflows.empty()) g.metadata["ai.octet.s16_overflows"] = overflows;
  return onnx_io::ExportModel(g);
}

// Empty when there is no such file. What cannot be read may be hours of work: whoever owns it decides.
absl::StatusOr<compress::Measurements> ReadMeasurements(const std::string& path) {
  compress::Measurements measured;
  std::error_code ec;
  if (!std::filesystem::exists(path, ec)) return measured;
  OCTET_ASSIGN_OR_RETURN(const std::shared_ptr<const Buffer> bytes, ReadFile(path));
  const std::string text(reinterpret_cast<const char*>(bytes->data()), static_cast<size_t>(bytes->size_bytes()));
  if (!google::protobuf::TextFormat::ParseFromString(text, &measured)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " holds no measurements of an earlier search, or was cut short: remove it to measure anew"));
  }
  return measured;
}

absl::Status WriteMeasurements(const std::string& path, const compress::Measurements& measured) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(measured, &text);
  return WriteFileAtomically(path, text);
}

}  // namespace

absl::StatusOr<CompressedFile> CompressFile(const CompressJob& job, const compress::CompressOptions& options) {
  CompressedFile file;
  std::string digest;
  {
    OCTET_ASSIGN_OR_RETURN(const std::shared_ptr<const Buffer> bytes, ReadFile(job.model));
    file.float_bytes = bytes->size_bytes();
    digest = Sha256Hex({bytes->data(), static_cast<size_t>(bytes->size_bytes())});
  }
  OCTET_ASSIGN_OR_RETURN(const graph::Graph graph, onnx_io::ImportFile(job.model));
  const auto write = [&](const CompressResult& result) -> absl::Status {
    OCTET_ASSIGN_OR_RETURN(const std::string bytes, Serialize(result, digest));
    file.bytes = static_cast<int64_t>(bytes.size());
    file.recipe = result.recipe;
    file.report = result.report;
    return WriteFileAtomically(job.out, bytes);
  };
  if (job.calibration.empty()) {
    auto compressor = compress::Compressor::CreateDataFree(graph, job.recipe, job.data_free, options);
    if (!compressor.ok()) return Annotate(compressor.status(), job.model);
    absl::StatusOr<CompressResult> compressed = (*compressor)->Run(job.recipe);
    if (!compressed.ok()) return Annotate(compressed.status(), job.model);
    OCTET_RETURN_IF_ERROR(write(*compressed));
    return file;
  }
  std::vector<std::string> inputs;
  for (graph::ValueId id : graph.inputs) inputs.push_back(graph.value(id).name);
  OCTET_ASSIGN_OR_RETURN(const std::unique_ptr<data::SampleReader> samples,
                         data::OpenSamples(job.calibration, job.image, inputs));
  if (!job.search.has_value()) {
    absl::StatusOr<CompressResult> compressed = compress::Compress(graph, *samples, job.recipe, options);
    if (!compressed.ok()) return Annotate(compressed.status(), job.model);
    OCTET_RETURN_IF_ERROR(write(*compressed));
    return file;
  }
  const std::string state = job.out + ".measured";
  OCTET_ASSIGN_OR_RETURN(const compress::Measurements measured, ReadMeasurements(state));
  compress::SearchOptions search = *job.search;
  search.keep = [&](const CompressResult& result, const compress::Trial&) { return write(result); };
  search.save = [&](const compress::Measurements& now) { return WriteMeasurements(state, now); };
  search.float_bytes = file.float_bytes;
  search.file_bytes = [&](const CompressResult& result) -> absl::StatusOr<int64_t> {
    OCTET_ASSIGN_OR_RETURN(const std::string bytes, Serialize(result, digest));
    return static_cast<int64_t>(bytes.size());
  };
  absl::StatusOr<compress::SearchResult> found =
      compress::Search(graph, *samples, job.recipe, options, search, measured);
  if (!found.ok()) return Annotate(found.status(), job.model);
  if (!options.stop || !options.stop()) std::filesystem::remove(state);
  found->best.graph = {};
  file.search = *std::move(found);
  return file;
}

}  // namespace octet::cli
