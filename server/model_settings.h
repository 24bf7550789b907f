// A model's config.pbtxt and Octet's own settings in it.
#ifndef OCTET_SERVER_MODEL_SETTINGS_H_
#define OCTET_SERVER_MODEL_SETTINGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/model_config.pb.h"

namespace octet::server {

struct ModelSettings {
  inference::ModelConfig config;      // as written; empty when there is no file
  std::vector<std::string> variants;  // octet.variants: which to load; empty: all files
  std::string primary;                // octet.primary; empty: the variant of model.onnx
  std::string reference;              // octet.reference; empty: f32 when loaded
  std::vector<std::string>
      warnings;  // unknown fields, settings of other servers that have no effect here
};

// [a-z0-9][a-z0-9-]*
bool IsVariantName(absl::string_view name);

// Parses the text form. Errors: kInvalidArgument (syntax with line, wrong name, bad values),
// kUnimplemented (ensembles, sequences), each naming the field.
absl::StatusOr<ModelSettings> ParseModelSettings(const std::string& text, absl::string_view model);

// The file's settings, or empty ones when it does not exist.
absl::StatusOr<ModelSettings> ReadModelSettings(const std::string& path, absl::string_view model);

// Which of the versions on disk to load, ascending, by the version policy (default: the latest).
std::vector<int64_t> VersionsToLoad(const inference::ModelVersionPolicy& policy,
                                    std::vector<int64_t> on_disk);

}  // namespace octet::server

#endif  // OCTET_SERVER_MODEL_SETTINGS_H_
