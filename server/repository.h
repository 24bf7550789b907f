// The model repository: what lies on disk, what is loaded, and which variant a name means.
//
//   <root>/<model>/config.pbtxt               optional
//   <root>/<model>/<version>/model.onnx       the float original: variant f32 (int8 when it holds quantized operators)
//   <root>/<model>/<version>/model.<variant>.onnx
//
// Readers take a snapshot and never wait for a load: a new state is swapped in, the old one drained
// after.
#ifndef OCTET_SERVER_REPOSITORY_H_
#define OCTET_SERVER_REPOSITORY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/cpu.h"
#include "engine/program.h"
#include "proto/model_config.pb.h"
#include "server/clock.h"
#include "server/comparison/version_control.h"
#include "server/loader.h"
#include "server/metrics.h"
#include "server/model_settings.h"
#include "server/recorder.h"
#include "server/request.h"
#include "server/scheduler.h"
#include "server/signature.h"
#include "server/uncertainty_window.h"
#include "server/variant_loader.h"

namespace octet::server {

enum class ModelState : uint8_t { kLoading, kReady, kUnavailable };
absl::string_view NameOf(ModelState state);  // as RepositoryIndex spells it

// A loaded variant; immutable but for its queue and counts, which are thread-safe.
struct ServedVariant {
  VariantLabels labels;
  ModelSignature signature;
  std::shared_ptr<engine::Program> program;
  std::shared_ptr<VariantQueue> queue;
  std::shared_ptr<VariantRecorder> recorder;
  absl::Duration default_timeout = absl::InfiniteDuration();  // default_queue_policy
  int64_t file_bytes = 0;
  absl::Duration load_time;
  RecordedFigures recorded;                        // in the file, by whoever made it
  std::shared_ptr<UncertaintyWindow> uncertainty;  // of variants that draw several answers; else null
};

// What memory pressure took: it comes back when there is room for it again.
struct Eviction {
  absl::Time at;
  absl::Duration rest;  // before it may come back; longer after each load that failed
  int64_t held_bytes = 0, file_bytes = 0;
};

struct VariantEntry {
  ModelState state = ModelState::kLoading;
  std::string reason;  // why it is unavailable
  std::shared_ptr<const ServedVariant> served;
  std::optional<Eviction> evicted = std::nullopt;
};

// The entry of a variant that memory pressure (what it is short for: `pressure`) takes at `now`.
VariantEntry EvictedEntry(const ServedVariant& served, absl::string_view pressure, absl::Time now);

struct VersionEntry {
  std::map<std::string, VariantEntry> variants;
  std::string primary;    // as loaded: answers when the client names none
  std::string reference;  // what others are compared with; empty: none
  std::shared_ptr<VersionControl> control;  // both as they are now, traffic, comparison, guard; never null
};

struct ModelEntry {
  ModelState state = ModelState::kLoading;
  std::string reason;
  std::shared_ptr<const ModelSettings> settings;
  inference::ModelConfig config;  // effective, of the latest version's primary
  std::map<int64_t, VersionEntry> versions;
};

// Who answers a request, and the pair that its answer is compared in.
struct Route {
  std::shared_ptr<const ServedVariant> variant;
  std::shared_ptr<VersionControl> control;
  std::shared_ptr<Pair> pair;  // null: not compared
};

using RepositorySnapshot = std::map<std::string, std::shared_ptr<const ModelEntry>>;

struct RepositoryOptions {
  std::string root;
  int64_t default_max_batch = 32;
  int max_queued = 1024;
  int64_t max_activation_bytes = int64_t{2} << 30;  // server.h
  int64_t memory_limit_bytes = 0;                   // of the process (memory_admission.h); 0: none
  std::string isa;                                  // for the log
  int cpu_threads = 1;  // that compute: what octet.compare.max_cpu_share is a share of
  std::function<int64_t()> resident_bytes = ResidentBytes;
};

// Thread-safe.
class Repository {
 public:
  // All pointers outlive the repository; loads run on `loader`.
  Repository(RepositoryOptions options, Scheduler* scheduler, Metrics* metrics, Clock* clock,
             Loader* loader);
  ~Repository();

  // Scans the root and loads every model in the background; initial_load_done() when through.
  // Errors: kNotFound, kFailedPrecondition when the root is no folder.
  absl::Status LoadAll();
  bool initial_load_done() const;
  void AwaitInitialLoad() const;

  // (Re)loads or unloads one model in the background; `done` is called on the loader's thread. A
  // reload that fails leaves what was loaded. Errors given to done: kNotFound, those of loading.
  void Load(const std::string& model, std::function<void(absl::Status)> done);
  void Unload(const std::string& model, std::function<void(absl::Status)> done);

  // Loads that have not begun fail with kUnavailable from now on.
  void StopLoading() { stopping_ = true; }

  // The variant that answers for a name "model" or "model@variant", a version ("" = latest) and the
  // request parameter `variant` ("" = none). Errors: kNotFound, kInvalidArgument (two different
  // variants), kUnavailable (loading), kFailedPrecondition (its load failed: reason quoted).
  absl::StatusOr<std::shared_ptr<const ServedVariant>> Find(absl::string_view name,
                                                            absl::string_view version,
                                                            absl::string_view variant) const;

  // The same for a request, whose parameters may hold the sticky key: one that names no variant goes where traffic
  // weights send it, or to the reference when the guard has tripped. Errors: those of Find; kInvalidArgument (a sticky
  // parameter that is neither text nor a whole number).
  absl::StatusOr<Route> RouteOf(absl::string_view name, absl::string_view version, absl::string_view variant,
                                const Parameters& parameters) const;

  // Brings the reference of a version into memory, or lets it go, in the background; nothing when it already is as
  // wished. A reference that answers (as primary, by weight, for a tripped variant) stays. `pressure`: what memory is
  // short of; empty: it was there for a while only.
  void LoadReference(const std::string& model, const std::string& version);
  void EvictReference(const std::string& model, const std::string& version, const std::string& pressure);

  // Evicts references while a model holds more than its octet.memory.limit_bytes, or the process more than
  // `limit_bytes`; otherwise brings one back that was evicted so, when it fits below both limits with the headroom of
  // memory_admission.h and has rested.
  void RelievePressure(int64_t resident_bytes, int64_t limit_bytes);
  int64_t reference_evictions() const { return evictions_.load(std::memory_order_relaxed); }

  // The model that a name's part before '@' means. Errors: kNotFound.
  absl::StatusOr<std::shared_ptr<const ModelEntry>> FindModel(absl::string_view name) const;

  RepositorySnapshot snapshot() const;
  std::vector<std::shared_ptr<const ServedVariant>> Served() const;

 private:
  absl::StatusOr<std::vector<std::string>> ScanModels() const;
  absl::Status LoadNow(const std::string& model);
  absl::StatusOr<ModelEntry> LoadModel(const std::string& model);
  struct Located {
    std::shared_ptr<const ModelEntry> model;
    const VersionEntry* version = nullptr;
    absl::string_view variant;  // that the name or parameter asks for; empty: none
    std::string what;           // "model 'x'"
  };
  absl::StatusOr<Located> Locate(absl::string_view name, absl::string_view version, absl::string_view variant) const;
  void ChangeReference(const std::string& model, const std::string& version, bool resident,
                       const std::string& pressure);
  void RestoreOne(int64_t resident_bytes, int64_t limit_bytes);
  // Lets the reference go that is needed least: one that is there for samples only, else the one asked for longest ago.
  // On the loader's thread. False when there is none.
  bool EvictLeastUsed(const std::string& pressure);
  void Swap(const std::string& model, std::shared_ptr<const ModelEntry> entry);
  void Retire(std::shared_ptr<const ModelEntry> entry);

  const RepositoryOptions options_;
  Scheduler* const scheduler_;
  Metrics* const metrics_;
  Clock* const clock_;
  Loader* const loader_;

  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> evictions_{0};
  mutable absl::Mutex mu_;
  mutable absl::CondVar loaded_;
  RepositorySnapshot models_ ABSL_GUARDED_BY(mu_);
  int initial_loads_ ABSL_GUARDED_BY(mu_) = 0;  // still to do
  bool initial_started_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_REPOSITORY_H_
