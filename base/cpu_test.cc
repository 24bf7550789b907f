// CPU budget from affinity and cgroup files of both versions.
#include "base/cpu.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace octet {
namespace {

void Write(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/octet_cgroup_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  std::string root_;
};

TEST_F(CgroupTest, ReadsVersion2OfTheGroupOrAnAncestor) {
  Write(root_ + "/pod/cpu.max", "150000 100000\n");
  Write(root_ + "/pod/box/cpu.max", "max 100000\n");
  EXPECT_DOUBLE_EQ(CgroupCpuQuota(root_, "0::/pod/box\n"), 1.5);
  EXPECT_DOUBLE_EQ(CgroupCpuQuota(root_, "0::/other\n"), 0);
}

TEST_F(CgroupTest, ReadsVersion1AndTheVisibleRootOfAContainer) {
  Write(root_ + "/cpu/cpu.cfs_quota_us", "50000\n");
  Write(root_ + "/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(CgroupCpuQuota(root_, "4:cpu,cpuacct:/docker/abc\n0::/\n"), 0.5);
  Write(root_ + "/cpu/cpu.cfs_quota_us", "-1\n");
  EXPECT_DOUBLE_EQ(CgroupCpuQuota(root_, "4:cpu,cpuacct:/docker/abc\n"), 0);
}

TEST(CpuBudgetTest, RoundsQuotaDownToWholeThreadsButNeverToZero) {
  EXPECT_EQ(BudgetFrom({0, 1, 2, 3}, 0).threads, 4);
  EXPECT_EQ(BudgetFrom({0, 1, 2, 3}, 2.5).threads, 2);
  EXPECT_EQ(BudgetFrom({0, 1, 2, 3}, 0.5).threads, 1);
  EXPECT_EQ(BudgetFrom({0, 1}, 8).threads, 2);
  EXPECT_EQ(BudgetFrom({}, 0).threads, 1);
}

TEST(CpuTest, ThisMachineIsDescribed) {
  EXPECT_FALSE(DetectCpuFeatures().isa.empty());
  EXPECT_GE(DetectCpuBudget().threads, 1);
  EXPECT_GT(ResidentBytes(), 1 << 20);
  EXPECT_GT(ResidentFileBytes(), 1 << 16);
  EXPECT_LT(ResidentFileBytes(), ResidentBytes());
  EXPECT_GT(MemoryLimitBytes(), ResidentBytes());
}

}  // namespace
}  // namespace octet
