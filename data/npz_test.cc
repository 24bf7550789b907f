// .npz files: stored and deflated, cached and streamed, matched by name, hostile ones.
#include "data/npz.h"

#include "data/readers.h"
#include "data/sample_reader.h"
#include "data/test_files.h"

namespace octet::data {
namespace {

using ::testing::ElementsAre;

constexpr int kStored = 0;
const auto kInvalid = absl::StatusCode::kInvalidArgument;

class NpzTest : public DataTest {};

TEST_F(NpzTest, ReadsStoredAndDeflatedArraysByInputName) {
  for (int method : {kStored, Z_DEFLATED}) {
    const std::string path = WriteZip("x.npz",
                                      {{"b.npy", NpyF32({2, 3}, {1, 2, 3, 4, 5, 6})},
                                       {"unused.npy", NpyF32({1}, {9})},
                                       {"a.npy", NpyF32({2}, {7, 8})}},
                                      method);
    auto reader = OpenSamples(path, {}, {"a", "b"});
    ASSERT_TRUE(reader.ok()) << reader.status();
    ASSERT_EQ((*reader)->size(), 2);
    for (int64_t i : {1, 0}) {
      auto sample = (*reader)->Read(i);
      ASSERT_TRUE(sample.ok()) << sample.status();
      ASSERT_EQ(sample->inputs.size(), 2u);
      EXPECT_THAT(sample->inputs[0].ToF32(), ElementsAre(7 + i));
      EXPECT_THAT(sample->inputs[1].ToF32(), ElementsAre(3 * i + 1, 3 * i + 2, 3 * i + 3));
    }
  }
}

TEST_F(NpzTest, StreamsWhatExceedsTheCache) {
  std::vector<float> values(3 * 50000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const std::string path = WriteZip("x.npz", {{"a.npy", NpyF32({3, 50000}, values)}}, Z_DEFLATED);
  auto entries = OpenNpz(path, /*cache_bytes=*/1000);
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_EQ((*entries)[0].source->size_bytes(), -1);
  std::vector<ArrayInput> arrays;
  arrays.push_back({"a", std::move((*entries)[0].source)});
  auto reader = OpenArrays(path, std::move(arrays));
  ASSERT_TRUE(reader.ok()) << reader.status();
  for (int64_t i : {0, 1, 2, 1, 1, 0, 2}) {
    auto sample = (*reader)->Read(i);
    ASSERT_TRUE(sample.ok()) << sample.status();
    const std::vector<float> row = sample->inputs[0].ToF32();
    EXPECT_EQ(row.front(), static_cast<float>(50000 * i));
    EXPECT_EQ(row.back(), static_cast<float>(50000 * i + 49999));
  }
}

TEST_F(NpzTest, TheOnlyArrayNeedsNoMatchingName) {
  const std::string path = WriteZip("x.npz", {{"arr_0.npy", NpyF32({2}, {7, 8})}}, kStored);
  EXPECT_TRUE(OpenSamples(path, {}, {"data"}).ok());
  EXPECT_THAT(OpenSamples(path, {}, {"data", "mask"}).status(), FailsWith(kInvalid, "'arr_0'"));
}

TEST_F(NpzTest, RefusesArraysThatDisagreeOrRepeat) {
  const std::string two = NpyF32({2}, {7, 8}), three = NpyF32({3}, {7, 8, 9});
  EXPECT_THAT(
      OpenSamples(WriteZip("d.npz", {{"a.npy", two}, {"b.npy", three}}, kStored), {}, {"a", "b"})
          .status(),
      FailsWith(kInvalid, "3 samples"));
  EXPECT_THAT(
      OpenSamples(WriteZip("r.npz", {{"a.npy", two}, {"a.npy", two}}, kStored), {}, {"a"}).status(),
      FailsWith(kInvalid, "twice"));
  EXPECT_THAT(OpenSamples(WriteZip("o.npz", {{"readme.txt", "hi"}}, kStored), {}, {"a"}).status(),
              FailsWith(kInvalid, "readme.txt"));
  EXPECT_THAT(
      OpenSamples(WriteZip("s.npz", {{"a.npy", two + "more"}}, Z_DEFLATED), {}, {"a"}).status(),
      FailsWith(kInvalid, "array 'a'"));
}

TEST_F(NpzTest, SurvivesEveryTruncationAndFlippedByte) {
  for (int method : {kStored, Z_DEFLATED}) {
    const std::string path = WriteZip("x.npz", {{"a.npy", NpyF32({2, 2}, {1, 2, 3, 4})}}, method);
    const std::string whole = ReadAll(path);
    for (size_t n = 0; n < whole.size(); ++n) {
      auto cut = OpenSamples(Write("cut.npz", whole.substr(0, n)), {}, {"a"});
      if (n + 2 < whole.size()) {  // the last two bytes are the length of an absent comment
        EXPECT_FALSE(cut.ok()) << n;
      }
      std::string flipped = whole;
      flipped[n] = static_cast<char>(~flipped[n]);
      auto reader = OpenSamples(Write("flip.npz", flipped), {}, {"a"});
      if (reader.ok()) {
        (*reader)->Read((*reader)->size() - 1).IgnoreError();
      }
    }
  }
}

TEST_F(NpzTest, RefusesCorruptContentByItsChecksum) {
  const std::string path =
      WriteZip("x.npz", {{"a.npy", NpyF32({64}, std::vector<float>(64, 1.5f))}}, Z_DEFLATED);
  std::string bytes = ReadAll(path);
  const size_t directory = bytes.find("PK\x01\x02");
  ASSERT_NE(directory, std::string::npos);
  bytes[directory + 16] = static_cast<char>(~bytes[directory + 16]);  // the CRC in the directory
  EXPECT_FALSE(OpenSamples(Write("crc.npz", bytes), {}, {"a"}).ok());
}

}  // namespace
}  // namespace octet::data
