// Parsing of Einsum equations.
#include "graph/einsum.h"

#include <algorithm>
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/shape.h"
#include "base/status.h"

namespace octet::graph {
namespace {

constexpr int kEllipsis = -1;
constexpr int kFirstEllipsisLabel =
    256;  // letters are their characters, dimensions under the ellipsis follow

// Letters and at most one kEllipsis. Errors name what is wrong with the term.
absl::StatusOr<Einsum::Labels> ParseTerm(absl::string_view term) {
  Einsum::Labels labels;
  bool ellipsis = false;
  for (size_t i = 0; i < term.size(); ++i) {
    if (absl::ascii_isspace(static_cast<unsigned char>(term[i]))) continue;
    if (absl::ascii_isalpha(static_cast<unsigned char>(term[i]))) {
      labels.push_back(term[i]);
    } else if (term.substr(i, 3) == "..." && !ellipsis) {
      labels.push_back(kEllipsis);
      ellipsis = true;
      i += 2;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("character ", i, " of the term '", absl::CHexEscape(term), "' is no label"));
    }
    if (labels.size() > static_cast<size_t>(kMaxRank) + 1) {
      return absl::InvalidArgumentError(absl::StrCat("a term of more than ", kMaxRank, " labels"));
    }
  }
  return labels;
}

// Replaces kEllipsis by the last `count` of `width` labels.
void ExpandEllipsis(Einsum::Labels* labels, size_t count, size_t width) {
  const auto at = std::find(labels->begin(), labels->end(), kEllipsis);
  if (at == labels->end()) return;
  Einsum::Labels dims;
  for (size_t i = width - count; i < width; ++i)
    dims.push_back(kFirstEllipsisLabel + static_cast<int>(i));
  labels->insert(labels->erase(at), dims.begin(), dims.end());
}

bool HasEllipsis(const Einsum::Labels& labels) {
  return std::find(labels.begin(), labels.end(), kEllipsis) != labels.end();
}

// The result of an equation without "->": the ellipsis, then letters that occur once.
Einsum::Labels ImplicitResult(const std::vector<Einsum::Labels>& operands) {
  std::map<int, int> count;
  for (const auto& labels : operands) {
    for (int label : labels) ++count[label];
  }
  Einsum::Labels result;
  for (const auto& [label, times] : count) {
    if (label == kEllipsis || times == 1) result.push_back(label);
  }
  return result;
}

absl::Status CheckResult(const Einsum& einsum) {
  for (size_t i = 0; i < einsum.result.size(); ++i) {
    const int label = einsum.result[i];
    const std::string name =
        label < kFirstEllipsisLabel ? std::string(1, static_cast<char>(label)) : "...";
    if (std::count(einsum.result.begin(), einsum.result.end(), label) != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("label ", name, " occurs twice in the result"));
    }
    const bool known =
        std::any_of(einsum.operands.begin(), einsum.operands.end(), [&](const auto& labels) {
          return std::find(labels.begin(), labels.end(), label) != labels.end();
        });
    if (!known)
      return absl::InvalidArgumentError(
          absl::StrCat("label ", name, " of the result is in no operand"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Einsum> ParseEinsum(absl::string_view equation, absl::Span<const size_t> ranks) {
  const std::vector<absl::string_view> sides = absl::StrSplit(equation, "->");
  const std::vector<absl::string_view> terms = absl::StrSplit(sides[0], ',');
  if (sides.size() > 2 || terms.size() != ranks.size()) {
    return absl::InvalidArgumentError(absl::StrCat("equation '", absl::CHexEscape(equation),
                                                   "' for ", ranks.size(), " operands"));
  }
  Einsum einsum;
  size_t width = 0;
  std::vector<size_t> hidden;  // dimensions under each operand's ellipsis
  for (size_t i = 0; i < terms.size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(Einsum::Labels labels, ParseTerm(terms[i]));
    const bool ellipsis = HasEllipsis(labels);
    const size_t letters = labels.size() - (ellipsis ? 1 : 0);
    if (ellipsis ? ranks[i] < letters : ranks[i] != letters) {
      return absl::InvalidArgumentError(absl::StrCat("term '", absl::CHexEscape(terms[i]),
                                                     "' for operand ", i, " of rank ", ranks[i]));
    }
    hidden.push_back(ranks[i] - letters);
    width = std::max(width, hidden.back());
    einsum.operands.push_back(std::move(labels));
  }
  if (sides.size() == 2) {
    OCTET_ASSIGN_OR_RETURN(einsum.result, ParseTerm(sides[1]));
  } else {
    einsum.result = ImplicitResult(einsum.operands);
  }
  for (size_t i = 0; i < terms.size(); ++i) ExpandEllipsis(&einsum.operands[i], hidden[i], width);
  ExpandEllipsis(&einsum.result, width, width);
  OCTET_RETURN_IF_ERROR(CheckResult(einsum));
  return einsum;
}

}  // namespace octet::graph
