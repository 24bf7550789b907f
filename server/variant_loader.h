// One model file made ready: import, batching proof, program; and contexts of it.
#ifndef OCTET_SERVER_VARIANT_LOADER_H_
#define OCTET_SERVER_VARIANT_LOADER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/program.h"
#include "graph/ensemble.h"
#include "graph/graph.h"
#include "proto/model_config.pb.h"
#include "server/signature.h"

namespace octet::server {

// What a compressed file says about itself (docs/format.md).
struct RecordedFigures {
  struct Output {
    std::string name;
    std::optional<double> top1_agreement;  // absent: no classes
    double sqnr_db = 0, cosine = 0;
    int64_t samples = 0;
  };
  struct Layer {
    std::string node, op, scheme;
    double sqnr_db = 0;
  };
  std::vector<Output> outputs;
  std::vector<Layer> layers;
};
RecordedFigures ReadRecorded(const graph::Graph& graph);

struct LoadedFile {
  std::shared_ptr<engine::Program> program;
  bool quantized = false;     // some value is stored in integers with a scale
  std::string source_sha256;  // ai.octet.source_sha256: digest of the float original; empty when
                              // not recorded
  int64_t file_bytes = 0;
  RecordedFigures recorded;
  size_t extra_outputs = 0;  // of an ensemble: ModelSignature
};
// With `ensemble`, that many samples of the file's distributions as one program.
absl::StatusOr<LoadedFile> LoadModelFile(const std::string& path, const engine::CompileOptions& options = {},
                                         const graph::EnsembleOptions* ensemble = nullptr);

// Specialises the program for these shapes and binds a context; oneDNN's cache is emptied, so that
// what lives is what the program counts. The scheduler's ContextFactory.
absl::StatusOr<std::unique_ptr<engine::Context>> MakeEngineContext(
    engine::Program& program, absl::Span<const Shape> input_shapes, int threads);

// What clients see of the program. `configured_max_batch` <= 0 means `default_max_batch`.
// Errors: kUnimplemented for tensors whose type the protocol has no name for.
absl::StatusOr<ModelSignature> SignatureOf(const engine::Program& program,
                                           int64_t configured_max_batch, int64_t default_max_batch);

// Inputs and outputs that config.pbtxt names must exist with its types and fitting dims.
// Errors: kInvalidArgument naming the tensor, what the config and what the file says.
absl::Status CheckConfig(const inference::ModelConfig& config, const ModelSignature& signature);

// Variants of one model share names, types and ranks. Errors: kInvalidArgument naming the tensor.
absl::Status CheckTwins(const ModelSignature& reference, const ModelSignature& twin);

// The config as ModelConfig answers it: tensors, batch size and scheduling as they really are.
inference::ModelConfig EffectiveConfig(inference::ModelConfig config, const std::string& name,
                                       const ModelSignature& signature);

// True when every dimension but axis 0 of a batchable model is known, so that a batch can be
// prepared before requests.
bool ShapesKnown(const ModelSignature& signature);

// Gives memory that loading left in the heap back to the system.
void ReturnMemory();

}  // namespace octet::server

#endif  // OCTET_SERVER_VARIANT_LOADER_H_
