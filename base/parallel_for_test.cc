// Every index is visited once, whatever the split; teams come and go.
#include "base/parallel_for.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/release_team.h"

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

int ThreadsOfProcess() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) ++count;
  return count;
}

TEST(ReleaseTeam, EndsTheTeamsThreadsUntilTheNextRegion) {
  // On a thread of its own: the main thread's team may be in use by other tests.
  std::thread owner([] {
    const int alone = ThreadsOfProcess();
    for (int round = 0; round < 3; ++round) {
      OpenMpFor loop(4);
      std::atomic<int> parts = 0;
      loop.Run(4, 1, [&](int64_t begin, int64_t end) { parts += static_cast<int>(end - begin); });
      EXPECT_EQ(parts, 4);
      EXPECT_EQ(ThreadsOfProcess(), alone + 3) << "round " << round;
      ReleaseTeam();
      // A thread that ends is listed until the kernel has taken it away.
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (ThreadsOfProcess() > alone && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
      EXPECT_EQ(ThreadsOfProcess(), alone) << "round " << round;
    }
  });
  owner.join();
}

}  // namespace
}  // namespace octet
