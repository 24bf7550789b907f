// The grids by name, and rounding to a table of levels.
#include "compress/grid.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace octet::compress {
namespace {

std::vector<int8_t> Integers(int low, int high) {
  std::vector<int8_t> levels;
  for (int i = low; i <= high; ++i) levels.push_back(static_cast<int8_t>(i));
  return levels;
}

// 0 and +/- 2^e for the largest e: with b bits 2^(b-1) - 1 magnitudes, at most 7 of which fit s8.
std::vector<int8_t> PowersOfTwo(int bits) {
  std::vector<int8_t> levels = {0};
  const int magnitudes = std::min((1 << (bits - 1)) - 1, 7);
  for (int i = 0; i < magnitudes; ++i) {
    const auto level = static_cast<int8_t>(64 >> i);
    levels.push_back(level);
    levels.push_back(static_cast<int8_t>(-level));
  }
  std::sort(levels.begin(), levels.end());
  return levels;
}

// Quantiles of a normal distribution scaled to +/- 1, times 127. Source: QLoRA, arXiv:2305.14314, appendix E.
std::vector<int8_t> NormalFloat() {
  const double quantiles[] = {-1,     -.69619, -.52507, -.39492, -.28444, -.18477, -.09105, 0,
                              .07958, .16093,  .24611,  .33792,  .44071,  .56262,  .72296,  1};
  std::vector<int8_t> levels;
  for (double q : quantiles) levels.push_back(static_cast<int8_t>(std::lround(q * 127)));
  return levels;
}

const std::vector<Grid>& AllGrids() {
  using Scales = Grid::Scales;
  static const auto* grids = new std::vector<Grid>{
      {"int8", GridKind::kInteger, 8, 1, Scales::kAny, Integers(-127, 127)},
      {"int7", GridKind::kInteger, 7, 1, Scales::kAny, Integers(-63, 63)},
      {"int6", GridKind::kInteger, 6, 1, Scales::kAny, Integers(-31, 31)},
      {"int4", GridKind::kInteger, 4, 1, Scales::kAny, Integers(-7, 7)},
      {"int3", GridKind::kInteger, 3, 1, Scales::kAny, Integers(-3, 3)},
      {"int2", GridKind::kInteger, 2, 1, Scales::kAny, Integers(-2, 1)},
      {"uint4", GridKind::kAffine, 4, 1, Scales::kAny, Integers(0, 15)},
      {"uint3", GridKind::kAffine, 3, 1, Scales::kAny, Integers(0, 7)},
      {"uint2", GridKind::kAffine, 2, 1, Scales::kAny, Integers(0, 3)},
      {"log4", GridKind::kLogarithmic, 4, 1, Scales::kAny, PowersOfTwo(4)},
      {"log3", GridKind::kLogarithmic, 3, 1, Scales::kAny, PowersOfTwo(3)},
      {"nf4", GridKind::kFixed, 4, 1, Scales::kAny, NormalFloat()},
      {"kmeans4", GridKind::kLearned, 4, 1, Scales::kAny, {}},
      {"kmeans3", GridKind::kLearned, 3, 1, Scales::kAny, {}},
      {"kmeans2", GridKind::kLearned, 2, 1, Scales::kAny, {}},
      {"vq2", GridKind::kVector, 8, 4, Scales::kAny, {}},
      {"ternary", GridKind::kFixed, 2, 1, Scales::kAny, {-1, 0, 1}},
      {"binary", GridKind::kFixed, 1, 1, Scales::kAny, {-1, 1}},
      {"binary2", GridKind::kMultiBinary, 2, 1, Scales::kAny, {}},
      {"binary3", GridKind::kMultiBinary, 3, 1, Scales::kAny, {}},
  };
  return *grids;
}

}  // namespace

std::vector<std::string> GridNames() {
  std::vector<std::string> names;
  for (const Grid& grid : AllGrids()) names.push_back(grid.name);
  return names;
}

absl::StatusOr<Grid> MakeGrid(absl::string_view name) {
  const bool powers = absl::EndsWith(name, "-po2");
  for (const Grid& grid : AllGrids()) {
    if (grid.name != absl::StripSuffix(name, "-po2")) continue;
    Grid found = grid;
    found.name = std::string(name);
    if (powers) found.scales = Grid::Scales::kPowersOfTwo;
    return found;
  }
  return absl::InvalidArgumentError(absl::StrCat("grid '", name, "', expected ", absl::StrJoin(GridNames(), ", "),
                                                 ", each also with -po2"));
}

Neighbours NeighboursOf(const Grid& grid, double x) {
  const std::vector<int8_t>& levels = grid.levels;
  const auto above = std::upper_bound(levels.begin(), levels.end(), x, [](double v, int8_t level) { return v < level; });
  const int last = static_cast<int>(levels.size()) - 1;
  const int lower = std::max(static_cast<int>(above - levels.begin()) - 1, 0);
  const bool outside = x < levels.front() || lower == last;
  return {lower, outside || levels[static_cast<size_t>(lower)] == x ? lower : lower + 1};
}

int NearestLevel(const Grid& grid, double x) {
  const Neighbours n = NeighboursOf(grid, x);
  const int low = grid.levels[static_cast<size_t>(n.lower)], high = grid.levels[static_cast<size_t>(n.upper)];
  const double below = x - low, over = high - x;
  if (below != over) return below < over ? n.lower : n.upper;
  return low % 2 != 0 && high % 2 == 0 ? n.upper : n.lower;
}

}  // namespace octet::compress
