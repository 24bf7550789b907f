// File-to-file compression.
#include "cli/compress_file.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/status.h"
#include "onnx/export.h"
#include "onnx/import.h"

namespace octet::cli {

absl::StatusOr<CompressedFile> CompressFile(const std::string& model, const std::string& calibration,
                                            const data::ImageOptions& image, const std::string& out,
                                            const compress::CompressOptions& options) {
  CompressedFile result;
  std::string digest;
  {
    OCTET_ASSIGN_OR_RETURN(const std::shared_ptr<const Buffer> bytes, ReadFile(model));
    result.float_bytes = bytes->size_bytes();
    digest = Sha256Hex({bytes->data(), static_cast<size_t>(bytes->size_bytes())});
  }
  OCTET_ASSIGN_OR_RETURN(const graph::Graph graph, onnx_io::ImportFile(model));
  std::vector<std::string> inputs;
  for (graph::ValueId id : graph.inputs) inputs.push_back(graph.value(id).name);
  OCTET_ASSIGN_OR_RETURN(const std::unique_ptr<data::SampleReader> samples,
                         data::OpenSamples(calibration, image, inputs));
  absl::StatusOr<compress::CompressResult> compressed = compress::Compress(graph, *samples, options);
  if (!compressed.ok()) return Annotate(compressed.status(), model);
  graph::Graph& g = compressed->graph;
  g.metadata["ai.octet.format"] = "1";
  g.metadata["ai.octet.variant"] = options.scheme;
  g.metadata["ai.octet.recipe"] = compress::RecipeString(options, compressed->report.calibration_samples);
  g.metadata["ai.octet.source_sha256"] = digest;
  g.metadata["ai.octet.measured.isa"] = DetectCpuFeatures().isa;
  for (const compress::OutputReport& o : compressed->report.outputs) {
    g.metadata[absl::StrCat("ai.octet.measured.", o.name)] =
        absl::StrFormat("top1_agreement=%.4f sqnr_db=%.2f cosine=%.6f samples=%d", o.top1_agreement, o.sqnr_db,
                        o.cosine, compressed->report.held_back_samples);
  }
  OCTET_ASSIGN_OR_RETURN(const std::string bytes, onnx_io::ExportModel(g));
  OCTET_RETURN_IF_ERROR(WriteFileAtomically(out, bytes));
  result.bytes = static_cast<int64_t>(bytes.size());
  result.report = std::move(compressed->report);
  return result;
}

}  // namespace octet::cli
