// Formatting of results.
#include "bench/engine/report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace octet::bench {
namespace {

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + "\"";
}

double IdleFactor(const Timing& t) { return t.median_ms > 0 ? t.idle_ms / t.median_ms : 0; }

std::string ResultJson(const Result& r) {
  return absl::StrFormat(
      "{\"network\":%s,\"variant\":%s,\"batch\":%d,\"threads\":%d,\"octet_ms\":%.5f,\"onnxruntime_ms\":%.5f,"
      "\"ratio\":%.4f,\"gops\":%.2f,\"peak_share\":%.4f,\"weights_bytes\":%d,\"weights_gbps\":%.3f,"
      "\"onnxruntime_version\":%s,\"sqnr_db\":%.1f,\"octet_p10_ms\":%.5f,\"octet_p90_ms\":%.5f,"
      "\"onnxruntime_p10_ms\":%.5f,\"onnxruntime_p90_ms\":%.5f,\"octet_after_idle_ms\":%.5f,"
      "\"octet_after_idle_worst_ms\":%.5f,\"onnxruntime_after_idle_ms\":%.5f,\"octet_runs\":%d}",
      Quoted(r.network), Quoted(r.variant), r.batch, r.threads, r.octet.median_ms, r.peer.median_ms, r.ratio(), r.gops,
      r.peak_share, r.weights_bytes, r.weights_gbps, Quoted(r.peer_version), r.sqnr_db, r.octet.p10_ms, r.octet.p90_ms,
      r.peer.p10_ms, r.peer.p90_ms, r.octet.idle_ms, r.octet.idle_worst_ms, r.peer.idle_ms, r.octet.runs);
}

}  // namespace

std::string TableHeader() {
  return absl::StrFormat("%-23s %-5s %5s  %9s %15s  %9s %15s %-7s %6s  %7s %5s %6s %6s  %5s %5s\n%s", "network", "form",
                         "batch", "octet ms", "(p10-p90)", "ORT ms", "(p10-p90)", "ORT", "ratio", "GOP/s", "peak%", "GB/s",
                         "SQNR", "idle", "ORT's", std::string(146, '-'));
}

std::string TableRow(const Result& r) {
  return absl::StrFormat("%-23s %-5s %5d  %9.3f %15s  %9.3f %15s %-7s %6.3f  %7.1f %5.1f %6.1f %6.1f  %5.2f %5.2f",
                         r.network, r.variant, r.batch, r.octet.median_ms,
                         absl::StrFormat("%.3f-%.3f", r.octet.p10_ms, r.octet.p90_ms), r.peer.median_ms,
                         absl::StrFormat("%.3f-%.3f", r.peer.p10_ms, r.peer.p90_ms), r.peer_version, r.ratio(), r.gops,
                         100 * r.peak_share, r.weights_gbps, r.sqnr_db, IdleFactor(r.octet), IdleFactor(r.peer));
}

std::string ToJson(const std::vector<Result>& results,
                   const std::vector<std::pair<std::string, std::string>>& machine) {
  const std::string facts = absl::StrJoin(machine, ",", [](std::string* out, const auto& fact) {
    absl::StrAppend(out, Quoted(fact.first), ":", Quoted(fact.second));
  });
  const std::string rows = absl::StrJoin(
      results, ",\n  ", [](std::string* out, const Result& r) { absl::StrAppend(out, ResultJson(r)); });
  return absl::StrCat("{\"machine\":{", facts, "},\n \"results\":[\n  ", rows, "\n ]}\n");
}

}  // namespace octet::bench
