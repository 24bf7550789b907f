// One variant that answers, in this process or behind a server: what `octet compare` measures.
#ifndef OCTET_CLI_COMPARE_SUBJECT_H_
#define OCTET_CLI_COMPARE_SUBJECT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "engine/program.h"
#include "graph/graph.h"

namespace octet::cli {

// What can be said of a variant without running it often. nullopt: not visible from here.
struct SubjectFacts {
  std::optional<int64_t> file_bytes;     // with external data
  std::optional<double> load_seconds;    // median: reading, importing, packing, making the plan for batch 1
  std::optional<int64_t> weights_bytes;  // packed, resident
  std::optional<int64_t> model_bytes;    // weights, activations of batch 1, scratchpad, code, metadata
};

// Thread-compatible: one thread at a time.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual const std::string& name() const = 0;
  virtual bool batchable() const = 0;
  virtual const SubjectFacts& facts() const = 0;
  virtual const std::vector<engine::Signature>& inputs() const = 0;

  // Readies a run on these inputs (cli/inputs.h); not measured.
  virtual absl::Status Prepare(const std::vector<Tensor>& inputs) = 0;
  virtual absl::Status Run() = 0;
  // Names in the model's order; contents of the last Run as f32.
  virtual const std::vector<std::string>& output_names() const = 0;
  virtual absl::StatusOr<std::vector<Tensor>> Outputs() = 0;

  // Of the shapes last prepared: bytes of the activation arena, and bytes of weights that one Run reads.
  virtual std::optional<int64_t> activations_bytes() const = 0;
  virtual std::optional<int64_t> walked_bytes() const = 0;
};

// Loads an ONNX file `loads` times (at least once) and keeps the last; `graph`, if not null, receives what was
// imported.
absl::StatusOr<std::unique_ptr<Subject>> LoadSubject(const std::string& name, const std::string& path, int threads,
                                                     int loads, graph::Graph* graph);

// `variant` of `model` on a server of the Open Inference Protocol; "" is the model as the server answers for it.
absl::StatusOr<std::unique_ptr<Subject>> ConnectSubject(const std::string& address, const std::string& model,
                                                        const std::string& variant);

}  // namespace octet::cli

#endif  // OCTET_CLI_COMPARE_SUBJECT_H_
