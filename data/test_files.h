// What the tests of data/ write: a temporary folder, plain, gz and zip files.
#ifndef OCTET_DATA_TEST_FILES_H_
#define OCTET_DATA_TEST_FILES_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <minizip/zip.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "data/npy.h"

namespace octet::data {

class DataTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/octet_data_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string Write(const std::string& name, const std::string& content) {
    const std::string path = dir_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  std::string WriteGz(const std::string& name, const std::string& content) {
    const std::string path = dir_ + "/" + name;
    gzFile file = gzopen(path.c_str(), "wb");
    EXPECT_EQ(gzwrite(file, content.data(), static_cast<unsigned>(content.size())),
              static_cast<int>(content.size()));
    EXPECT_EQ(gzclose(file), Z_OK);
    return path;
  }

  // Method 0 (stored) or Z_DEFLATED.
  std::string WriteZip(const std::string& name,
                       const std::vector<std::pair<std::string, std::string>>& entries,
                       int method) {
    const std::string path = dir_ + "/" + name;
    zipFile zip = zipOpen64(path.c_str(), APPEND_STATUS_CREATE);
    for (const auto& [entry, content] : entries) {
      zip_fileinfo info = {};
      EXPECT_EQ(zipOpenNewFileInZip64(zip, entry.c_str(), &info, nullptr, 0, nullptr, 0, nullptr,
                                      method, Z_DEFAULT_COMPRESSION, 0),
                ZIP_OK);
      EXPECT_EQ(zipWriteInFileInZip(zip, content.data(), static_cast<unsigned>(content.size())),
                ZIP_OK);
      EXPECT_EQ(zipCloseFileInZip(zip), ZIP_OK);
    }
    EXPECT_EQ(zipClose(zip, nullptr), ZIP_OK);
    return path;
  }

  static std::string ReadAll(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  std::string dir_;
};

// The bytes of values, as they lie in memory.
template <typename T>
std::string BytesOfValues(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// A .npy file of any version around a header text written by hand.
inline std::string NpyFile(const std::string& header, const std::string& elements,
                           int version = 1) {
  std::string out(kNpyMagic);
  out.push_back(static_cast<char>(version));
  out.push_back(0);
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) {
    out.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  }
  return out + header + elements;
}

inline std::string NpyF32(const Shape& shape, const std::vector<float>& values) {
  return NpyHeaderBytes(DType::kF32, shape) + BytesOfValues(values);
}

// Matches a status by code and a part of its message.
MATCHER_P2(FailsWith, code, text, "") {
  const absl::Status& status = arg;
  *result_listener << status.ToString();
  return status.code() == code && std::string(status.message()).find(text) != std::string::npos;
}

}  // namespace octet::data

#endif  // OCTET_DATA_TEST_FILES_H_
