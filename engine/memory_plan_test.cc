// Buffers alive together never overlap, and the arena stays near its lower bound.
#include "engine/memory_plan.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace octet::engine {
namespace {

void ExpectDisjoint(const std::vector<BufferLife>& buffers, const MemoryPlan& plan) {
  for (size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_EQ(plan.offsets[i] % 64, 0);
    EXPECT_LE(plan.offsets[i] + buffers[i].bytes, plan.arena_bytes);
    for (size_t j = 0; j < i; ++j) {
      const bool alive = buffers[i].first <= buffers[j].last && buffers[j].first <= buffers[i].last;
      const bool apart = plan.offsets[i] + buffers[i].bytes <= plan.offsets[j] ||
                         plan.offsets[j] + buffers[j].bytes <= plan.offsets[i];
      EXPECT_TRUE(!alive || apart || buffers[i].bytes == 0 || buffers[j].bytes == 0) << i << " " << j;
    }
  }
}

TEST(MemoryPlanTest, ChainUsesTwoBuffersOnly) {
  const std::vector<BufferLife> chain = {{1000, -1, 0}, {1000, 0, 1}, {1000, 1, 2}, {1000, 2, 3}};
  const MemoryPlan plan = PlanMemory(chain);
  ExpectDisjoint(chain, plan);
  EXPECT_EQ(plan.arena_bytes, 2048);
  EXPECT_EQ(plan.lower_bound_bytes, 2048);
}

TEST(MemoryPlanTest, RandomLivesStayDisjointAndNearTheBound) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const CounterRng rng(seed);
    std::vector<BufferLife> buffers;
    for (uint64_t i = 0; i < 100; ++i) {
      const int first = static_cast<int>(rng.Uniform(3 * i) * 80);
      buffers.push_back({static_cast<int64_t>(rng.Uniform(3 * i + 1) * 1e6), first,
                         first + static_cast<int>(rng.Uniform(3 * i + 2) * 6)});
    }
    const MemoryPlan plan = PlanMemory(buffers);
    ExpectDisjoint(buffers, plan);
    EXPECT_GE(plan.arena_bytes, plan.lower_bound_bytes) << "seed " << seed;
    EXPECT_LE(plan.arena_bytes, 1.1 * static_cast<double>(plan.lower_bound_bytes)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace octet::engine
