// Parsing of networks.txt.
#include "bench/engine/network_list.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace octet::bench {
namespace {

absl::StatusOr<std::vector<Shape>> ParseShapes(absl::string_view text) {
  std::vector<Shape> shapes;
  for (absl::string_view one : absl::StrSplit(text, ';')) {
    Shape shape;
    for (absl::string_view word : absl::StrSplit(one, 'x')) {
      int64_t dim = 0;
      if (!absl::SimpleAtoi(word, &dim) || dim < 0) {
        return absl::InvalidArgumentError(absl::StrCat("'", one, "' is not a shape like 1x3x224x224"));
      }
      shape.push_back(dim);
    }
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

absl::StatusOr<NetworkEntry> ParseLine(absl::string_view line) {
  const std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (words.size() < 4 || words.size() > 5) {
    return absl::InvalidArgumentError("expected name, source, forms, batches[, shapes]");
  }
  NetworkEntry entry;
  entry.name = words[0];
  entry.source = words[1];
  if (entry.source != "generated" && entry.source != "shared") {
    return absl::InvalidArgumentError(absl::StrCat("source '", entry.source, "', expected generated or shared"));
  }
  for (absl::string_view form : absl::StrSplit(words[2], ',')) {
    if (form != "f32" && form != "int8" && form != "file") {
      return absl::InvalidArgumentError(absl::StrCat("form '", form, "', expected f32, int8 or file"));
    }
    entry.forms.emplace_back(form);
  }
  OCTET_ASSIGN_OR_RETURN(entry.batches, ParseBatches(words[3]));
  if (words.size() == 5) {
    OCTET_ASSIGN_OR_RETURN(entry.shapes, ParseShapes(words[4]));
  }
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> ParseBatches(absl::string_view text) {
  std::vector<int64_t> batches;
  for (absl::string_view word : absl::StrSplit(text, ',')) {
    int64_t batch = 0;
    if (!absl::SimpleAtoi(word, &batch) || batch < 1) {
      return absl::InvalidArgumentError(absl::StrCat("batch '", word, "', expected a number from 1"));
    }
    batches.push_back(batch);
  }
  return batches;
}

absl::StatusOr<std::vector<NetworkEntry>> ParseNetworkList(absl::string_view text) {
  std::vector<NetworkEntry> entries;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    absl::StatusOr<NetworkEntry> entry = ParseLine(line);
    if (!entry.ok()) return Annotate(entry.status(), absl::StrCat("line ", number));
    entries.push_back(*std::move(entry));
  }
  return entries;
}

}  // namespace octet::bench
