// A comparison of variants on samples, as octet.v1's Compare runs it: no gRPC.
#ifndef OCTET_SERVER_COMPARE_JOB_H_
#define OCTET_SERVER_COMPARE_JOB_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "proto/octet/v1/octet.pb.h"
#include "server/octet_views.h"
#include "server/scheduler.h"

namespace octet::server {

struct CompareJob {
  v1::CompareRequest request;
  FoundVersion found;
  std::string calibration;  // the model's calibration folder
  ContextFactory make_context;
  // Called before each sample; an error ends the job with it.
  std::function<absl::Status(int64_t done, int64_t total)> step;
};

// Runs on the calling thread with a team of one; memory does not grow with the number of samples.
// Errors: kInvalidArgument (samples or labels that do not fit), kNotFound (variant, calibration folder),
// kFailedPrecondition (a variant or the reference is not in memory), those of `step` and the engine.
absl::StatusOr<v1::CompareResult> RunCompareJob(const CompareJob& job);

}  // namespace octet::server

#endif  // OCTET_SERVER_COMPARE_JOB_H_
