// A sample of the server's state as metric families.
#ifndef OCTET_SERVER_METRICS_SAMPLED_H_
#define OCTET_SERVER_METRICS_SAMPLED_H_

#include <vector>

#include "prometheus/metric_family.h"
#include "server/metrics.h"

namespace octet::server {

std::vector<prometheus::MetricFamily> FamiliesOf(const MetricsSample& sample, const BuildLabels& build);

}  // namespace octet::server

#endif  // OCTET_SERVER_METRICS_SAMPLED_H_
