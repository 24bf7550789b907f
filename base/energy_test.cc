#include "base/energy.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace octet {
namespace {

namespace fs = std::filesystem;

class EnergyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / "octet_energy_test";
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }
  void Write(const std::string& domain, const std::string& file, int64_t value) {
    fs::create_directories(root_ / domain);
    std::ofstream(root_ / domain / file) << value << "\n";
  }
  fs::path root_;
};

TEST_F(EnergyTest, IsAbsentWithoutCounters) {
  EXPECT_FALSE(EnergyMeter(root_.string()).Joules().has_value());
  EXPECT_FALSE(EnergyMeter((root_ / "missing").string()).Joules().has_value());
}

TEST_F(EnergyTest, SumsPackagesAndNotTheirParts) {
  Write("intel-rapl:0", "energy_uj", 1000000);
  Write("intel-rapl:1", "energy_uj", 5000000);
  Write("intel-rapl:0:0", "energy_uj", 7);
  EnergyMeter meter(root_.string());
  Write("intel-rapl:0", "energy_uj", 3000000);
  Write("intel-rapl:1", "energy_uj", 5500000);
  Write("intel-rapl:0:0", "energy_uj", 1000000007);
  EXPECT_DOUBLE_EQ(*meter.Joules(), 2.5);
}

TEST_F(EnergyTest, FollowsACounterAroundItsEnd) {
  Write("intel-rapl:0", "energy_uj", 9000000);
  Write("intel-rapl:0", "max_energy_range_uj", 10000000);
  EnergyMeter meter(root_.string());
  Write("intel-rapl:0", "energy_uj", 500000);
  EXPECT_DOUBLE_EQ(*meter.Joules(), 1.5);
  Write("intel-rapl:0", "energy_uj", 600000);
  EXPECT_DOUBLE_EQ(*meter.Joules(), 1.6);
}

}  // namespace
}  // namespace octet
