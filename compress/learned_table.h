// A table of levels fitted to a tensor while its groups keep scales of their own.
#ifndef OCTET_COMPRESS_LEARNED_TABLE_H_
#define OCTET_COMPRESS_LEARNED_TABLE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"
#include "compress/level_histogram.h"
#include "compress/level_table.h"

namespace octet::compress {

struct TableOptions {
  int largest = 127;            // magnitude of levels
  bool powers_of_two = false;   // scales
  // The best table for weights in units of their scales, with levels in [-largest, largest].
  std::function<std::vector<int8_t>(const LevelHistogram& histogram, int largest)> choose;
};

// Alternates between the table for given scales and the scales for a given table, three rounds, and returns the best
// table met. The first scales are the groups' root mean squares, spread over the levels so that the largest normalised
// weight is the largest level, and with clipping from there down to a quarter of it: the best of these. Group g counts
// with its scale squared.
std::vector<int8_t> LearnTable(absl::Span<const Segment> groups, const TableOptions& options);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_LEARNED_TABLE_H_
