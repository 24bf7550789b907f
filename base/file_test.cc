// Reading, atomic writing and digests of files.
#include "base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace octet {
namespace {

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/octet_file_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string dir_;
};

TEST_F(FileTest, WritesAndReadsBack) {
  const std::string path = dir_ + "/a";
  ASSERT_TRUE(WriteFileAtomically(path, "hello").ok());
  ASSERT_TRUE(WriteFileAtomically(path, "world!").ok());
  auto bytes = ReadFile(path);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>((*bytes)->data()), 6), "world!");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_), {}), 1) << "a temporary file was left";
}

TEST_F(FileTest, RefusalsNameThePath) {
  const auto missing = ReadFile(dir_ + "/missing");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(missing.status().message().find("missing"), std::string::npos);
  EXPECT_EQ(ReadFile(dir_).status().code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(WriteFileAtomically(dir_ + "/b", "12345").ok());
  EXPECT_EQ(ReadFile(dir_ + "/b", 4).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadFileRange(dir_ + "/b", 3, 3).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ReadFileRange(dir_ + "/b", INT64_MAX, 3).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(FileTest, FailedWriteLeavesNothing) {
  EXPECT_FALSE(WriteFileAtomically(dir_ + "/no/such/folder", "x").ok());
  EXPECT_TRUE(std::filesystem::is_empty(dir_));
}

TEST(Sha256Test, PublishedVector) {  // FIPS 180-4 example: "abc"
  const std::string abc = "abc";
  EXPECT_EQ(Sha256Hex(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(abc.data()), 3)),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace octet
