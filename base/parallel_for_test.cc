// Every index is visited once, whatever the split.
#include "base/parallel_for.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace octet {
namespace {

void ExpectEachOnce(ParallelFor& loop, int64_t n, int64_t grain) {
  std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
  loop.Run(n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)]++;
  });
  for (int64_t i = 0; i < n; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], 1) << i << " of " << n;
}

TEST(ParallelForTest, VisitsEachIndexOnce) {
  SerialFor serial;
  OpenMpFor team(3);
  for (int64_t n : {0, 1, 2, 3, 7, 100}) {
    for (int64_t grain : {1, 4, 1000}) {
      ExpectEachOnce(serial, n, grain);
      ExpectEachOnce(team, n, grain);
    }
  }
}

}  // namespace
}  // namespace octet
