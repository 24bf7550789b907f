// Loads the files of one version of a model into queues ready to serve; a file that fails stays as
// an entry with a reason.
#ifndef OCTET_SERVER_REPOSITORY_LOAD_H_
#define OCTET_SERVER_REPOSITORY_LOAD_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/model_settings.h"
#include "server/repository.h"

namespace octet::server {

// Used once, on one thread. The original is loaded first: the others are checked against it.
class VersionLoader {
 public:
  // `labels` names model and version; references and pointers outlive the loader.
  VersionLoader(const RepositoryOptions& options, const ModelSettings& settings,
                VariantLabels labels, Scheduler* scheduler, Metrics* metrics, Clock* clock)
      : options_(options),
        settings_(settings),
        labels_(std::move(labels)),
        folder_(options.root + "/" + labels_.model + "/" + labels_.version),
        scheduler_(scheduler),
        metrics_(metrics),
        clock_(clock) {}

  // Frees memory for the file that it is given; false when there is nothing left to free.
  using MakeRoom = std::function<bool(const std::string& path)>;

  // A file that the memory limit refuses is tried again while make_room frees something; a primary at last in place of
  // the reference that was loaded before it.
  // Errors: kNotFound (no model file), kInvalidArgument (the config names a variant that is not
  // there).
  absl::StatusOr<VersionEntry> Load(MakeRoom make_room);

  // The entry of a loaded version with its reference in memory, or with the reason why it cannot be. Requires: it is
  // not.
  VersionEntry LoadReference(VersionEntry entry);

 private:
  std::string OriginalPath() const;
  std::map<std::string, std::string> TwinFiles() const;  // variant -> path
  bool Wanted(absl::string_view variant) const;
  void LoadFile(const std::string& path, const std::string& named);
  absl::StatusOr<std::shared_ptr<const ServedVariant>> TryFile(const std::string& path,
                                                               const std::string& named,
                                                               std::string* variant);
  bool LetOwnReferenceGo(const std::string& path, absl::string_view named);
  absl::Status CheckDigest(const std::string& source_sha256);
  void OpenQueue(ServedVariant* served);
  void LogLoaded(const ServedVariant& served) const;
  absl::Status ChooseRoles();
  bool KeepsReference(const std::string& reference) const;
  void MakeControl();

  const RepositoryOptions& options_;
  const ModelSettings& settings_;
  const VariantLabels labels_;
  const std::string folder_;
  Scheduler* const scheduler_;
  Metrics* const metrics_;
  Clock* const clock_;
  MakeRoom make_room_;
  VersionEntry entry_;
  std::string original_variant_;  // of model.onnx; empty: there is none
  std::string original_sha256_;   // computed when first needed
};

}  // namespace octet::server

#endif  // OCTET_SERVER_REPOSITORY_LOAD_H_
