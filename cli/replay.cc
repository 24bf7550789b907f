// `octet replay`: a server compares its variants over the model's calibration folder (octet.v1's Compare).
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "client/octet_client.h"

ABSL_DECLARE_FLAG(int64_t, max_samples);
ABSL_DECLARE_FLAG(std::string, address);
ABSL_DECLARE_FLAG(std::string, image);
ABSL_DECLARE_FLAG(std::string, model_version);
ABSL_DECLARE_FLAG(absl::Duration, timeout);

namespace octet::cli {
namespace {

constexpr int64_t kMostSamples = 256;  // without --max_samples

std::vector<std::string> RowOf(const v1::ComparedVariant& variant) {
  std::string agreement = "reference", sqnr = "-", cosine = "-";
  if (!variant.outputs().empty()) {
    const v1::OutputAgreement& output = variant.outputs(0);
    agreement = output.has_top1_agreement()
                    ? absl::StrFormat("%.2f %% [%.2f, %.2f]", 100 * output.top1_agreement().value(),
                                      100 * output.top1_agreement().lower(), 100 * output.top1_agreement().upper())
                    : "-";
    sqnr = Fixed(output.sqnr_db().value(), 2);
    cosine = Fixed(output.cosine(), 6);
  }
  return {variant.variant(),
          Bytes(variant.memory().file()),
          Bytes(variant.memory().weights()),
          Fixed(variant.p50_cpu_seconds() * 1e3, 3),
          Fixed(variant.p99_cpu_seconds() * 1e3, 3),
          agreement,
          sqnr,
          cosine};
}

}  // namespace

absl::Status Replay(const Words& words) {
  if (words.empty() || words.size() > 2) {
    return absl::InvalidArgumentError("expected: replay MODEL [VARIANT,...] --address HOST:PORT");
  }
  v1::CompareRequest request;
  request.set_model(words[0]);
  request.set_version(absl::GetFlag(FLAGS_model_version));
  if (words.size() == 2) {
    for (absl::string_view variant : absl::StrSplit(words[1], ',')) request.add_variants(std::string(variant));
  }
  request.set_max_samples(absl::GetFlag(FLAGS_max_samples) > 0 ? absl::GetFlag(FLAGS_max_samples) : kMostSamples);
  request.set_image_options(absl::GetFlag(FLAGS_image));
  OCTET_ASSIGN_OR_RETURN(const auto client,
                         client::OctetClient::Connect(absl::GetFlag(FLAGS_address), absl::GetFlag(FLAGS_timeout)));
  OCTET_ASSIGN_OR_RETURN(const v1::CompareResult result,
                         client->Compare(request, [](const v1::CompareProgress& progress) {
                           std::fprintf(stderr, "%d of %d samples\n", static_cast<int>(progress.samples_done()),
                                        static_cast<int>(progress.samples_total()));
                           return true;
                         }));
  std::vector<std::vector<std::string>> rows;
  for (const v1::ComparedVariant& variant : result.variants()) rows.push_back(RowOf(variant));
  std::printf(
      "%d samples, against %s\n%s", static_cast<int>(result.samples()), result.reference().c_str(),
      Table({"variant", "file", "weights", "p50 CPU ms", "p99 CPU ms", "top-1 agreement", "SQNR dB", "cosine"}, rows)
          .c_str());
  return absl::OkStatus();
}

}  // namespace octet::cli
