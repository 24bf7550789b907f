// The named grids, and rounding to their levels against a scan of all of them.
#include "compress/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace octet::compress {
namespace {

Grid Named(absl::string_view name) {
  auto grid = MakeGrid(name);
  EXPECT_TRUE(grid.ok()) << grid.status();
  return *grid;
}

TEST(GridTest, FixedTablesAreAscendingAndFitTheirBits) {
  for (const std::string& name : GridNames()) {
    const Grid grid = Named(name);
    EXPECT_LE(grid.levels.size(), size_t{1} << grid.bits) << name;
    for (size_t i = 1; i < grid.levels.size(); ++i) EXPECT_LT(grid.levels[i - 1], grid.levels[i]) << name;
    const bool fitted = grid.kind == GridKind::kLearned || grid.kind == GridKind::kMultiBinary ||
                        grid.kind == GridKind::kVector;
    EXPECT_EQ(grid.levels.empty(), fitted) << name;
  }
}

TEST(GridTest, BitsPerWeightCountTheVector) {
  EXPECT_EQ(Named("vq2").bits_per_weight(), 2);
  EXPECT_EQ(Named("int3").bits_per_weight(), 3);
  EXPECT_EQ(Named("binary").bits_per_weight(), 1);
}

TEST(GridTest, SuffixAsksForPowersOfTwo) {
  const Grid grid = Named("int4-po2");
  EXPECT_EQ(grid.scales, Grid::Scales::kPowersOfTwo);
  EXPECT_EQ(grid.name, "int4-po2");
  EXPECT_EQ(grid.levels, Named("int4").levels);
}

TEST(GridTest, RejectsUnknownNamesAndListsTheKnown) {
  const absl::Status status = MakeGrid("int5").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::AllOf(testing::HasSubstr("int5"), testing::HasSubstr("kmeans3")));
  EXPECT_FALSE(MakeGrid("").ok());
  EXPECT_FALSE(MakeGrid("-po2").ok());
}

TEST(NearestLevelTest, EqualsAScanWithTiesToEvenThenLower) {
  for (const std::string& name : GridNames()) {
    const Grid grid = Named(name);
    if (grid.levels.empty()) continue;
    for (double x = -140; x <= 140; x += 0.125) {  // every midpoint is a multiple of 1/2
      int expected = 0;
      for (int i = 1; i < static_cast<int>(grid.levels.size()); ++i) {
        const int level = grid.levels[static_cast<size_t>(i)], kept = grid.levels[static_cast<size_t>(expected)];
        const double d = std::fabs(x - level), before = std::fabs(x - kept);
        if (d < before || (d == before && level % 2 == 0 && kept % 2 != 0)) expected = i;
      }
      ASSERT_EQ(NearestLevel(grid, x), expected) << name << " " << x;
    }
  }
}

TEST(NearestLevelTest, RoundsIntegersHalfToEven) {
  const Grid grid = Named("int8");
  for (double x = -126.5; x <= 126.5; x += 1) {
    EXPECT_EQ(grid.levels[static_cast<size_t>(NearestLevel(grid, x))], std::nearbyint(x)) << x;
  }
}

TEST(NeighboursTest, EncloseXAndMeetAtLevelsAndEnds) {
  const Grid grid = Named("log4");
  const int last = static_cast<int>(grid.levels.size()) - 1;
  for (double x = -70; x <= 70; x += 0.25) {
    const Neighbours n = NeighboursOf(grid, x);
    const int low = grid.levels[static_cast<size_t>(n.lower)], high = grid.levels[static_cast<size_t>(n.upper)];
    if (x <= grid.levels.front()) {
      EXPECT_EQ(n.upper, 0) << x;
    } else if (x >= grid.levels.back()) {
      EXPECT_EQ(n.lower, last) << x;
    } else {
      EXPECT_LE(low, x);
      EXPECT_LE(x, high);
      EXPECT_EQ(n.upper - n.lower, low == x ? 0 : 1) << x;
    }
  }
}

}  // namespace
}  // namespace octet::compress
