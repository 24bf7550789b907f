// What the repository's variants and pairs show at this moment, for /metrics.
#ifndef OCTET_SERVER_SAMPLE_H_
#define OCTET_SERVER_SAMPLE_H_

#include <optional>

#include "absl/time/time.h"
#include "server/metrics.h"
#include "server/repository.h"
#include "server/scheduler.h"

namespace octet::server {

// Fills sample->variants, pairs and reference_evictions.
void SampleRepository(const Repository& repository, const Scheduler& scheduler, absl::Time now, MetricsSample* sample);

// The share of requests naming no variant that is meant for `variant`.
double TrafficShare(const VersionControl& control, const std::string& variant);

// Weights of the variant / of the reference; nullopt unless both are in memory.
std::optional<double> MemoryRatio(const VersionEntry& version, const std::string& variant);

}  // namespace octet::server

#endif  // OCTET_SERVER_SAMPLE_H_
