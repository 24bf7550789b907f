// What the repository holds, as messages of octet.v1.
#ifndef OCTET_SERVER_OCTET_VIEWS_H_
#define OCTET_SERVER_OCTET_VIEWS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/octet/v1/octet.pb.h"
#include "server/repository.h"
#include "server/scheduler.h"

namespace octet::server {

struct OctetViewSource {
  const Repository* repository = nullptr;
  const Scheduler* scheduler = nullptr;
};

// The models (empty name: all); `server` is the caller's to fill. Errors: kNotFound.
absl::StatusOr<v1::ListVariantsResponse> ListVariantsView(const OctetViewSource& source, const std::string& model,
                                                          absl::Time now);

// One version (empty: the latest that serves). Errors: kNotFound and those of Repository::Find.
absl::StatusOr<v1::Version> VersionView(const OctetViewSource& source, const std::string& model,
                                        const std::string& version, absl::Time now);

// The loaded version behind a request to the service. Errors: as above.
struct FoundVersion {
  std::shared_ptr<const ModelEntry> model;
  const VersionEntry* version = nullptr;  // of *model
};
absl::StatusOr<FoundVersion> FindVersion(const Repository& repository, const std::string& model,
                                         const std::string& version);

v1::OutputAgreement AgreementMessage(const std::string& output, const WindowSummary& summary);
void FillMemory(const ServedVariant& served, v1::Memory* memory);

// Protobuf's JSON with the proto's field names and zeros printed. Errors: kInternal.

}  // namespace octet::server

#endif  // OCTET_SERVER_OCTET_VIEWS_H_
