// What the repository holds, as messages of the Open Inference Protocol.
#ifndef OCTET_SERVER_PROTOCOL_VIEWS_H_
#define OCTET_SERVER_PROTOCOL_VIEWS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/grpc_service.pb.h"
#include "server/repository.h"

namespace octet::server {

inference::ServerMetadataResponse ServerMetadataView(absl::string_view version);

// Errors: those of Repository::Find.
absl::StatusOr<inference::ModelMetadataResponse> ModelMetadataView(const Repository& repository,
                                                                   const std::string& name,
                                                                   const std::string& version);
absl::StatusOr<inference::ModelConfigResponse> ModelConfigView(const Repository& repository,
                                                               const std::string& name,
                                                               const std::string& version);

// Empty name: every model. A model's entry sums its variants; each model@variant follows with its
// own counts and memory. Errors: kNotFound.
absl::StatusOr<inference::ModelStatisticsResponse> ModelStatisticsView(const Repository& repository,
                                                                       const std::string& name,
                                                                       const std::string& version);

// Every model and each model@variant with its state. `ready_only` leaves out what is not READY.
inference::RepositoryIndexResponse RepositoryIndexView(const Repository& repository,
                                                       bool ready_only);

// False for a known model or variant that is not ready. Errors: kNotFound, kInvalidArgument.
absl::StatusOr<bool> ModelReadyView(const Repository& repository, const std::string& name,
                                    const std::string& version);

}  // namespace octet::server

#endif  // OCTET_SERVER_PROTOCOL_VIEWS_H_
