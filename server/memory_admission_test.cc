// The bound counts the file, its external data and nothing else; the limit is exact and explained.
#include "server/memory_admission.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace octet::server {
namespace {

namespace fs = std::filesystem;

class LoadPeakTest : public ::testing::Test {
 protected:
  LoadPeakTest() : folder_(fs::path(::testing::TempDir()) / absl::StrCat("octet_admission_", getpid())) {
    fs::create_directories(folder_);
  }
  ~LoadPeakTest() override { fs::remove_all(folder_); }
  std::string Write(const std::string& name, int bytes) {
    std::ofstream(folder_ / name) << std::string(static_cast<size_t>(bytes), 'x');
    return (folder_ / name).string();
  }
  const fs::path folder_;
};

TEST_F(LoadPeakTest, IsTwiceTheFile) {
  const std::string model = Write("model.onnx", 1000);
  Write("model.int8.onnx", 300);  // a variant of its own
  EXPECT_EQ(LoadPeakBytes(model), 2000);
}

TEST_F(LoadPeakTest, CountsExternalData) {
  const std::string model = Write("model.onnx", 1000);
  Write("model.onnx.data", 5000);
  EXPECT_EQ(LoadPeakBytes(model), 12000);
}

TEST_F(LoadPeakTest, AbsentFileIsZero) { EXPECT_EQ(LoadPeakBytes((folder_ / "none.onnx").string()), 0); }

TEST(AdmitLoadTest, AdmitsExactlyWhatFits) {
  EXPECT_EQ(LoadHeadroomBytes(1600), 100);
  EXPECT_TRUE(AdmitLoad("m", 1000, 500, 1600).ok());
  EXPECT_FALSE(AdmitLoad("m", 1001, 500, 1600).ok());
  EXPECT_TRUE(AdmitLoad("m", int64_t{1} << 50, 500, 0).ok());
}

TEST(AdmitLoadTest, SaysWhatDoesNotFit) {
  const absl::Status status = AdmitLoad("/models/a/1/model.onnx", 4000, 500, 1600);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(status), "memory_limit");
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(::testing::HasSubstr("/models/a/1/model.onnx"), ::testing::HasSubstr("4000"),
                               ::testing::HasSubstr("500"), ::testing::HasSubstr("1600")));
}

}  // namespace
}  // namespace octet::server
