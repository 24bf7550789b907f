// IDX images and gz content: scaling, streaming, hostile headers.
#include "data/idx.h"

#include "data/readers.h"
#include "data/sample_reader.h"
#include "data/test_files.h"

namespace octet::data {
namespace {

using ::testing::ElementsAre;

const auto kInvalid = absl::StatusCode::kInvalidArgument;
const auto kLost = absl::StatusCode::kDataLoss;

std::string IdxFile(const std::vector<uint32_t>& dims, const std::string& bytes, char type = 8) {
  std::string out = {0, 0, type, static_cast<char>(dims.size())};
  for (uint32_t dim : dims) {
    for (int shift : {24, 16, 8, 0}) out.push_back(static_cast<char>(dim >> shift & 0xff));
  }
  return out + bytes;
}

class IdxTest : public DataTest {
 protected:
  absl::Status Open(const std::string& content) {
    return OpenSamples(Write("x-idx3-ubyte", content), {}, {"x"}).status();
  }
};

TEST_F(IdxTest, ImagesBecomeScaledTensorsPlainAndGz) {
  const std::string content =
      IdxFile({2, 2, 3}, std::string("\x00\x33\xff\x01\x02\x03\x04\x05\x06\x07\x08\x09", 12));
  for (const std::string& path :
       {Write("i-idx3-ubyte", content), WriteGz("i-idx3-ubyte.gz", content)}) {
    auto reader = OpenSamples(path, {}, {"x"});
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ((*reader)->size(), 2);
    auto sample = (*reader)->Read(0);
    ASSERT_TRUE(sample.ok()) << sample.status();
    EXPECT_EQ(sample->name, path + "[0]");
    EXPECT_THAT(sample->inputs[0].shape(), ElementsAre(1, 2, 3));
    const float scale = 1.0f / 255;
    EXPECT_THAT(sample->inputs[0].ToF32(),
                ElementsAre(0, 51 * scale, 255 * scale, 1 * scale, 2 * scale, 3 * scale));
    EXPECT_THAT((*reader)->Read(1)->inputs[0].ToF32()[5], 9 * scale);
    EXPECT_THAT((*reader)->Read(2).status(), FailsWith(kInvalid, "[2]"));
  }
}

TEST_F(IdxTest, TakesNormalisationAndOrder) {
  auto options = ImageOptions::Parse("scale=1,mean=10,std=2,order=nhwc");
  ASSERT_TRUE(options.ok()) << options.status();
  auto reader = OpenSamples(Write("i", IdxFile({1, 1, 2}, "\x0c\x08")), *options, {"x"});
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_THAT((*reader)->Read(0)->inputs[0].shape(), ElementsAre(1, 2, 1));
  EXPECT_THAT((*reader)->Read(0)->inputs[0].ToF32(), ElementsAre(1, -1));
}

TEST_F(IdxTest, StreamsGzBeyondTheCacheInAnyOrder) {
  std::string bytes(200 * 1000, 'a');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i / 1000);
  const std::string path = WriteGz("big.gz", IdxFile({200, 10, 100}, bytes));
  auto source = OpenContent(path, /*cache_bytes=*/5000);
  ASSERT_TRUE(source.ok());
  EXPECT_EQ((*source)->size_bytes(), -1);
  ImageOptions options;
  options.scale = 1;
  auto reader = OpenIdxImages(path, *std::move(source), options);
  ASSERT_TRUE(reader.ok()) << reader.status();
  for (int64_t i : {0, 1, 150, 199, 3, 3, 198}) {
    auto sample = (*reader)->Read(i);
    ASSERT_TRUE(sample.ok()) << sample.status();
    EXPECT_EQ(sample->inputs[0].ToF32().back(), static_cast<float>(i));
  }
}

TEST_F(IdxTest, StreamThatEndsEarlyNamesTheSampleAndRecovers) {
  const std::string path =
      WriteGz("short.gz", IdxFile({200, 10, 100}, std::string(150 * 1000, 'a')));
  auto source = OpenContent(path, /*cache_bytes=*/5000);
  ASSERT_TRUE(source.ok());
  auto reader = OpenIdxImages(path, *std::move(source), {});
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE((*reader)->Read(149).ok());
  EXPECT_THAT((*reader)->Read(150).status(), FailsWith(kLost, "short.gz[150]"));
  EXPECT_TRUE((*reader)->Read(20).ok());
}

TEST_F(IdxTest, RefusesHostileHeaders) {
  EXPECT_TRUE(Open(IdxFile({1, 2, 2}, "abcd")).ok());
  EXPECT_THAT(Open(IdxFile({2, 2, 2}, "abcd")), FailsWith(kLost, "needs 8 bytes"));
  EXPECT_THAT(Open(IdxFile({1, 2, 2}, "abcde")), FailsWith(kInvalid, "needs 4 bytes"));
  EXPECT_THAT(Open(IdxFile({0, 2, 2}, "")), FailsWith(kInvalid, "no samples"));
  EXPECT_THAT(Open(IdxFile({4}, "abcd")), FailsWith(kInvalid, "[N, H, W]"));
  EXPECT_THAT(Open(IdxFile({1, 1, 1}, "abcd", 13)), FailsWith(kInvalid, "element type 13"));
  EXPECT_FALSE(Open(IdxFile({0xffffffff, 0xffffffff, 0xffffffff}, "abcd")).ok());
  EXPECT_FALSE(Open(IdxFile({0x80000000, 0x80000000, 1}, "abcd")).ok());
  EXPECT_FALSE(Open(IdxFile({1, 2}, "").substr(0, 7)).ok());
}

TEST_F(IdxTest, RefusesCorruptGz) {
  const std::string path = WriteGz("x.gz", IdxFile({1, 8, 8}, std::string(64, 'q')));
  const std::string whole = ReadAll(path);
  EXPECT_TRUE(OpenSamples(path, {}, {"x"}).ok());
  for (size_t n = 2; n < whole.size(); ++n) {
    EXPECT_FALSE(OpenSamples(Write("cut.gz", whole.substr(0, n)), {}, {"x"}).ok()) << n;
  }
  std::string crc = whole;
  crc[crc.size() - 6] = static_cast<char>(~crc[crc.size() - 6]);
  EXPECT_THAT(OpenSamples(Write("crc.gz", crc), {}, {"x"}).status(),
              FailsWith(kLost, "corrupt gz"));
}

}  // namespace
}  // namespace octet::data
