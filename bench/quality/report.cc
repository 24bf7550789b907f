// Formatting of rows.
#include "bench/quality/report.h"

#include <algorithm>

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

std::string RowJson(const Row& r) {
  const std::string head = absl::StrCat("{\"network\":", Quoted(r.network), ",\"scheme\":", Quoted(r.scheme));
  if (!r.error.empty()) return absl::StrCat(head, ",\"error\":", Quoted(r.error), "}");
  return absl::StrFormat("%s,\"metric\":%s,\"float\":%.4f,\"compressed\":%.4f,\"file_ratio\":%.4f,\"note\":%s}", head,
                         Quoted(r.metric), r.reference, r.compressed, r.file_ratio, Quoted(r.note));
}

void AddOnce(const std::string& word, std::vector<std::string>* words) {
  if (!word.empty() && std::find(words->begin(), words->end(), word) == words->end()) words->push_back(word);
}

// The row of these, an error's where there is one, or nullptr.
const Row* Find(const std::vector<Row>& rows, const std::string& network, const std::string& scheme,
                const std::string& metric) {
  for (const Row& r : rows) {
    if (r.network == network && r.scheme == scheme && (r.metric == metric || !r.error.empty())) return &r;
  }
  return nullptr;
}

std::string Cell(const Row* row, double Row::*field, int digits) {
  if (row == nullptr) return "-";
  return row->error.empty() ? absl::StrFormat("%.*f", digits, row->*field) : "failed";
}

// The lines of one network: one per metric, then the file ratios.
std::string NetworkLines(const std::vector<Row>& rows, const std::string& network,
                         const std::vector<std::string>& schemes) {
  std::vector<std::string> metrics;
  for (const Row& r : rows) {
    if (r.network == network) AddOnce(r.metric, &metrics);
  }
  std::string text;
  for (const std::string& metric : metrics) {
    const auto any = std::find_if(rows.begin(), rows.end(),
                                  [&](const Row& r) { return r.network == network && r.metric == metric; });
    absl::StrAppendFormat(&text, "| %s | %s | %.2f |", network, metric, any->reference);
    for (const std::string& s : schemes) {
      absl::StrAppend(&text, " ", Cell(Find(rows, network, s, metric), &Row::compressed, 2), " |");
    }
    absl::StrAppend(&text, "\n");
  }
  if (metrics.empty()) return "";
  absl::StrAppendFormat(&text, "| %s | file, share of the float file | 1 |", network);
  for (const std::string& s : schemes) {
    absl::StrAppend(&text, " ", Cell(Find(rows, network, s, metrics[0]), &Row::file_ratio, 3), " |");
  }
  return text + "\n";
}

}  // namespace

std::string RowsJson(const std::vector<Row>& rows) {
  return absl::StrCat("{\"rows\":[\n  ",
                      absl::StrJoin(rows, ",\n  ", [](std::string* out, const Row& r) { absl::StrAppend(out, RowJson(r)); }),
                      "\n]}\n");
}

std::string RowsMarkdown(const std::vector<Row>& rows) {
  std::vector<std::string> networks, schemes;
  for (const Row& r : rows) {
    AddOnce(r.network, &networks);
    AddOnce(r.scheme, &schemes);
  }
  std::string text = absl::StrCat("| Network | Metric | float | ", absl::StrJoin(schemes, " | "), " |\n|---|---|---|");
  for (size_t i = 0; i < schemes.size(); ++i) absl::StrAppend(&text, "---|");
  absl::StrAppend(&text, "\n");
  for (const std::string& n : networks) absl::StrAppend(&text, NetworkLines(rows, n, schemes));
  return text;
}

std::string RowLine(const Row& r) {
  if (!r.error.empty()) return absl::StrFormat("%-23s %-14s failed: %s", r.network, r.scheme, r.error);
  return absl::StrFormat("%-23s %-14s %-24s %9.3f %9.3f %7.4f  %s", r.network, r.scheme, r.metric, r.reference,
                         r.compressed, r.file_ratio, r.note);
}

}  // namespace octet::bench
