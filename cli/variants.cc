// `octet variants` and `octet set`: what a server's variants save and cost, and who answers.
#include <cstdio>
#include <string>
#include <utility>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "client/octet_client.h"
#include "google/protobuf/util/json_util.h"

ABSL_FLAG(bool, as_json, false, "variants: print the server's answer as JSON");
ABSL_FLAG(std::string, model_version, "", "set: version of the model (default: the latest)");
ABSL_FLAG(std::string, variant, "", "set guard, set windows: one variant instead of all");
ABSL_FLAG(std::string, sticky_parameter, "", "set weights: request parameter whose value chooses the variant");
ABSL_FLAG(std::string, min_top1_agreement, "", "set guard: least top-1 agreement, a ratio; 'none' ends it");
ABSL_FLAG(std::string, min_sqnr_db, "", "set guard: least SQNR in dB; 'none' ends it");
ABSL_FLAG(std::string, recovery, "", "set guard: automatic or manual");
ABSL_FLAG(std::string, compare_fraction, "", "set guard: share of answers that are compared");
ABSL_FLAG(bool, recover, false, "set guard: let the variant answer again, now");
ABSL_DECLARE_FLAG(std::string, address);
ABSL_DECLARE_FLAG(absl::Duration, timeout);

namespace octet::cli {
namespace {

constexpr char kSetUsage[] =
    "expected: set primary MODEL VARIANT | set weights MODEL VARIANT:SHARE,... | set guard MODEL [--min-top1-agreement "
    "R] "
    "[--min-sqnr-db DB] [--recovery automatic|manual] [--compare-fraction F] [--recover] | set windows MODEL";

absl::StatusOr<std::unique_ptr<client::OctetClient>> ConnectToServer() {
  return client::OctetClient::Connect(absl::GetFlag(FLAGS_address), absl::GetFlag(FLAGS_timeout));
}

std::string Milliseconds(double seconds) { return Fixed(seconds * 1e3, 2); }

std::string Interval(const v1::Estimate& e, double unit, int digits) {
  return absl::StrFormat("%.*f [%.*f, %.*f]", digits, e.value() * unit, digits, e.lower() * unit, digits,
                         e.upper() * unit);
}

std::vector<std::string> RowOf(const v1::Version& version, const v1::Variant& variant) {
  std::string role;
  if (variant.name() == version.primary()) role = "primary";
  if (variant.name() == version.reference()) role += role.empty() ? "reference" : ", reference";
  if (auto it = version.weights().find(variant.name()); it != version.weights().end()) {
    absl::StrAppendFormat(&role, "%s%g of traffic", role.empty() ? "" : ", ", it->second);
  }
  if (!variant.in_memory()) return {variant.name(), role, variant.reason(), "", "", "", "", "", ""};
  const v1::Latency& latency = variant.latency();
  return {variant.name(),
          role,
          variant.state(),
          Bytes(variant.memory().weights()),
          Bytes(variant.memory().activations()),
          Bytes(variant.memory().file()),
          absl::StrCat(variant.requests_ok()),
          latency.requests() == 0 ? "-" : Milliseconds(latency.p50_seconds()),
          latency.requests() == 0 ? "-" : Milliseconds(latency.p99_seconds())};
}

void PrintPair(const v1::Pair& pair) {
  std::printf("  %s against %s: %d compared, %d dropped, %d failed", pair.variant().c_str(), pair.reference().c_str(),
              static_cast<int>(pair.compared()), static_cast<int>(pair.dropped()), static_cast<int>(pair.failed()));
  if (pair.has_latency_ratio()) std::printf(", %.2f of its CPU time", pair.latency_ratio());
  if (pair.has_memory_ratio()) std::printf(", %.2f of its weights", pair.memory_ratio());
  std::printf("\n");
  for (const v1::OutputAgreement& output : pair.outputs()) {
    std::printf("    %s, %d rows:", output.output().c_str(), static_cast<int>(output.rows()));
    if (output.has_top1_agreement()) std::printf(" top-1 %% %s,", Interval(output.top1_agreement(), 100, 2).c_str());
    std::printf(" SQNR dB %s, cosine %.6f\n", Interval(output.sqnr_db(), 1, 2).c_str(), output.cosine());
  }
  if (pair.has_guard()) {
    std::printf("    guard: %s%s%s\n", pair.guard().tripped() ? "TRIPPED, the reference answers" : "watching",
                pair.guard().reason().empty() ? "" : ": ", pair.guard().reason().c_str());
  }
}

void PrintVersion(const v1::Version& version) {
  std::printf("%s version %s\n", version.model().c_str(), version.version().c_str());
  std::vector<std::vector<std::string>> rows;
  for (const v1::Variant& variant : version.variants()) rows.push_back(RowOf(version, variant));
  std::printf(
      "%s", Table({"variant", "role", "state", "weights", "activations", "file", "answered", "p50 ms", "p99 ms"}, rows)
                .c_str());
  for (const v1::Pair& pair : version.pairs()) PrintPair(pair);
  std::printf("\n");
}

absl::Status Print(absl::StatusOr<v1::Version> version) {
  if (!version.ok()) return version.status();
  PrintVersion(*version);
  return absl::OkStatus();
}

// Both kinds of settings name model and version.
template <typename Request>
Request For(const std::string& model) {
  Request request;
  request.set_model(model);
  request.set_version(absl::GetFlag(FLAGS_model_version));
  return request;
}

absl::StatusOr<double> NumberOf(const char* flag, const std::string& text) {
  double value = 0;
  if (absl::SimpleAtod(text, &value)) return value;
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": expected a number, found '", text, "'"));
}

absl::StatusOr<v1::SetWeightsRequest> WeightsRequest(const std::string& model, const std::string& text) {
  auto request = For<v1::SetWeightsRequest>(model);
  for (absl::string_view item : absl::StrSplit(text, ',')) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(item, absl::MaxSplits(':', 1));
    OCTET_ASSIGN_OR_RETURN(const double share, NumberOf("weights", parts.second));
    (*request.mutable_weights())[parts.first] = share;
  }
  if (!absl::GetFlag(FLAGS_sticky_parameter).empty()) {
    request.set_sticky_parameter(absl::GetFlag(FLAGS_sticky_parameter));
  }
  return request;
}

// The guard as it is, with what the flags change.
absl::StatusOr<v1::SetGuardRequest> GuardRequest(client::OctetClient& client, const std::string& model) {
  auto request = For<v1::SetGuardRequest>(model);
  request.set_variant(absl::GetFlag(FLAGS_variant));
  request.set_recover(absl::GetFlag(FLAGS_recover));
  const std::string fraction = absl::GetFlag(FLAGS_compare_fraction);
  if (!fraction.empty()) {
    OCTET_ASSIGN_OR_RETURN(const double value, NumberOf("compare-fraction", fraction));
    request.set_compare_fraction(value);
  }
  const std::string top1 = absl::GetFlag(FLAGS_min_top1_agreement), sqnr = absl::GetFlag(FLAGS_min_sqnr_db);
  const std::string recovery = absl::GetFlag(FLAGS_recovery);
  if (top1.empty() && sqnr.empty() && recovery.empty()) return request;
  v1::ListVariantsRequest list;
  list.set_model(model);
  OCTET_ASSIGN_OR_RETURN(const v1::ListVariantsResponse now, client.ListVariants(list));
  for (const v1::Version& version : now.models(0).versions()) {
    if (!request.version().empty() && version.version() != request.version()) continue;
    for (const v1::Pair& pair : version.pairs()) {
      if ((request.variant().empty() || pair.variant() == request.variant()) && pair.has_guard()) {
        *request.mutable_settings() = pair.guard().settings();
      }
    }
  }
  v1::GuardSettings& settings = *request.mutable_settings();
  if (top1 == "none") {
    settings.clear_min_top1_agreement();
  } else if (!top1.empty()) {
    OCTET_ASSIGN_OR_RETURN(const double value, NumberOf("min-top1-agreement", top1));
    settings.set_min_top1_agreement(value);
  }
  if (sqnr == "none") {
    settings.clear_min_sqnr_db();
  } else if (!sqnr.empty()) {
    OCTET_ASSIGN_OR_RETURN(const double value, NumberOf("min-sqnr-db", sqnr));
    settings.set_min_sqnr_db(value);
  }
  if (!recovery.empty() && recovery != "automatic" && recovery != "manual") {
    return absl::InvalidArgumentError(absl::StrCat("--recovery: expected automatic or manual, found '", recovery, "'"));
  }
  if (recovery == "automatic") settings.set_recovery(v1::GuardSettings::AUTOMATIC);
  if (recovery == "manual") settings.set_recovery(v1::GuardSettings::MANUAL);
  return request;
}

}  // namespace

absl::Status Variants(const Words& words) {
  if (words.size() > 1) return absl::InvalidArgumentError(absl::StrCat("unexpected word '", words[1], "'"));
  if (!words.empty()) absl::SetFlag(&FLAGS_address, words[0]);
  OCTET_ASSIGN_OR_RETURN(const auto client, ConnectToServer());
  OCTET_ASSIGN_OR_RETURN(const v1::ListVariantsResponse response, client->ListVariants({}));
  if (absl::GetFlag(FLAGS_as_json)) {
    google::protobuf::util::JsonPrintOptions options;
    options.always_print_primitive_fields = options.preserve_proto_field_names = options.add_whitespace = true;
    std::string json;
    if (!google::protobuf::util::MessageToJsonString(response, &json, options).ok()) {
      return absl::InternalError("the answer cannot be printed as JSON");
    }
    std::printf("%s", json.c_str());
    return absl::OkStatus();
  }
  for (const v1::Model& model : response.models()) {
    if (model.versions().empty()) {
      std::printf("%s: %s %s\n\n", model.name().c_str(), model.state().c_str(), model.reason().c_str());
    }
    for (const v1::Version& version : model.versions()) PrintVersion(version);
  }
  return absl::OkStatus();
}

absl::Status Set(const Words& words) {
  if (words.size() < 2) return absl::InvalidArgumentError(kSetUsage);
  const std::string &what = words[0], &model = words[1];
  OCTET_ASSIGN_OR_RETURN(const auto client, ConnectToServer());
  if (what == "primary" && words.size() == 3) {
    auto request = For<v1::SetPrimaryRequest>(model);
    request.set_variant(words[2]);
    return Print(client->SetPrimary(request));
  }
  if (what == "weights" && words.size() == 3) {
    OCTET_ASSIGN_OR_RETURN(const v1::SetWeightsRequest request, WeightsRequest(model, words[2]));
    return Print(client->SetWeights(request));
  }
  if (what == "guard" && words.size() == 2) {
    OCTET_ASSIGN_OR_RETURN(const v1::SetGuardRequest request, GuardRequest(*client, model));
    return Print(client->SetGuard(request));
  }
  if (what == "windows" && words.size() == 2) {
    auto request = For<v1::ResetWindowsRequest>(model);
    request.set_variant(absl::GetFlag(FLAGS_variant));
    return Print(client->ResetWindows(request));
  }
  return absl::InvalidArgumentError(kSetUsage);
}

}  // namespace octet::cli
