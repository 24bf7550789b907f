// ai.octet.measured.* and ai.octet.layers of a file's metadata.
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/variant_loader.h"

namespace octet::server {

// What cannot be read is left out: a file of another maker, or of a later version, serves all the same.
RecordedFigures ReadRecorded(const graph::Graph& graph) {
  RecordedFigures recorded;
  for (const auto& [key, text] : graph.metadata) {
    absl::string_view name = key;
    if (key == "ai.octet.layers") {
      for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
        const std::vector<std::string> words = absl::StrSplit(line, '\t');
        RecordedFigures::Layer layer;
        if (words.size() < 4 || !absl::SimpleAtod(words[3], &layer.sqnr_db) || !std::isfinite(layer.sqnr_db)) continue;
        layer.node = words[0];
        layer.op = words[1];
        layer.scheme = words[2];
        recorded.layers.push_back(std::move(layer));
      }
      continue;
    }
    if (!absl::ConsumePrefix(&name, "ai.octet.measured.") || name == "isa") continue;
    RecordedFigures::Output output;
    output.name = std::string(name);
    bool sqnr = false, cosine = false;
    for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
      const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
      double value = 0;
      if (!absl::SimpleAtod(parts.second, &value) || !std::isfinite(value)) continue;  // NaN: no classes
      if (parts.first == "top1_agreement") output.top1_agreement = value;
      if (parts.first == "samples") output.samples = static_cast<int64_t>(value);
      if (parts.first == "sqnr_db") sqnr = true, output.sqnr_db = value;
      if (parts.first == "cosine") cosine = true, output.cosine = value;
    }
    if (sqnr && cosine) recorded.outputs.push_back(std::move(output));
  }
  return recorded;
}

}  // namespace octet::server
