// A model's config.pbtxt and Octet's own settings in it.
#ifndef OCTET_SERVER_MODEL_SETTINGS_H_
#define OCTET_SERVER_MODEL_SETTINGS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/model_config.pb.h"
#include "server/comparison/guard.h"
#include "server/comparison/window.h"
#include "server/traffic.h"
#include "server/variant_name.h"

namespace octet::server {

// Live comparison of a model's variants with its reference.
struct ComparisonSettings {
  double fraction = 0;         // octet.compare.fraction: share of answered requests that are replayed
  double max_cpu_share = 0.1;  // octet.compare.max_cpu_share: of the server's compute threads
  WindowLimits window;         // octet.compare.window_rows, octet.compare.window_seconds
  GuardSettings guard;         // octet.guard.*
  // octet.reference.residency: whether a reference that nobody asks for by name stays in memory. kSampled: it is loaded
  // while collected requests are replayed.
  enum class Residency : uint8_t { kUnset, kAlways, kSampled, kNever } residency = Residency::kUnset;
  double max_entropy_nats = 0;  // octet.uncertainty.max_entropy
  int64_t ensemble_seed = 0;    // octet.ensemble.seed: of the samples of variants "...-mcT"
};

struct ModelSettings {
  inference::ModelConfig config;      // as written; empty when there is no file
  std::vector<std::string> variants;  // octet.variants: which to load; empty: all files
  std::string primary;                // octet.primary; empty: the variant of model.onnx
  std::string reference;              // octet.reference; empty: f32 when loaded
  ComparisonSettings comparison;
  TrafficSettings traffic;         // octet.weights, octet.sticky_parameter
  int64_t memory_limit_bytes = 0;  // octet.memory.limit_bytes: above it the reference is evicted; 0: none
  std::vector<std::string>
      warnings;  // unknown fields, settings of other servers that have no effect here
};

// Parses the text form. Errors: kInvalidArgument (syntax with line, wrong name, bad values),
// kUnimplemented (ensembles, sequences), each naming the field.
absl::StatusOr<ModelSettings> ParseModelSettings(const std::string& text, absl::string_view model);

// The residency that holds when the primary and the reference are these: as configured; else always where the reference
// is served for itself (it is the primary, listed in octet.variants, given traffic) or needed (comparison or guard),
// else never.
ComparisonSettings::Residency ResidencyOf(const ModelSettings& settings, absl::string_view primary,
                                          absl::string_view reference);

// Contradictions that only show once the roles are known. Errors: kInvalidArgument (a guard or a comparison without the
// reference; a primary or a weight whose variant is not kept in memory).
absl::Status CheckRoles(const ModelSettings& settings, absl::string_view primary, absl::string_view reference);

// The file's settings, or empty ones when it does not exist.
absl::StatusOr<ModelSettings> ReadModelSettings(const std::string& path, absl::string_view model);

// Which of the versions on disk to load, ascending, by the version policy (default: the latest).
std::vector<int64_t> VersionsToLoad(const inference::ModelVersionPolicy& policy,
                                    std::vector<int64_t> on_disk);

}  // namespace octet::server

#endif  // OCTET_SERVER_MODEL_SETTINGS_H_
