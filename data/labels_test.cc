// Labels from every format, and what is refused.
#include "data/sample_reader.h"
#include "data/test_files.h"

namespace octet::data {
namespace {

using ::testing::ElementsAre;

const auto kInvalid = absl::StatusCode::kInvalidArgument;

class LabelsTest : public DataTest {};

TEST_F(LabelsTest, ReadsIdxPlainAndGz) {
  const std::string content("\x00\x00\x08\x01\x00\x00\x00\x03\x09\x00\xff", 11);
  EXPECT_THAT(ReadLabels(Write("l-idx1-ubyte", content)).value(), ElementsAre(9, 0, 255));
  EXPECT_THAT(ReadLabels(WriteGz("l-idx1-ubyte.gz", content)).value(), ElementsAre(9, 0, 255));
  EXPECT_FALSE(ReadLabels(Write("cut", content.substr(0, 10))).ok());
  EXPECT_THAT(
      ReadLabels(
          Write("images", std::string("\x00\x00\x08\x03\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00"
                                      "\x00\x01z",
                                      17)))
          .status(),
      FailsWith(kInvalid, "[1, 1, 1]"));
}

TEST_F(LabelsTest, ReadsNpyIntegersOnly) {
  ASSERT_TRUE(WriteNpy(dir_ + "/l.npy", Tensor::FromS64({2, 1}, {3, -1})).ok());
  EXPECT_THAT(ReadLabels(dir_ + "/l.npy").value(), ElementsAre(3, -1));
  EXPECT_THAT(ReadLabels(Write("f.npy", NpyF32({2}, {1, 2}))).status(), FailsWith(kInvalid, "f32"));
  ASSERT_TRUE(WriteNpy(dir_ + "/m.npy", Tensor::FromS64({1, 2}, {3, 4})).ok());
  EXPECT_THAT(ReadLabels(dir_ + "/m.npy").status(), FailsWith(kInvalid, "[1, 2]"));
}

TEST_F(LabelsTest, ReadsTheLastColumnOfText) {
  EXPECT_THAT(ReadLabels(Write("l.txt", "5\n7\n\n-2")).value(), ElementsAre(5, 7, -2));
  EXPECT_THAT(ReadLabels(Write("l.csv", "file,label\r\na.jpg, 5\r\n\"b,1.jpg\",6\r\n")).value(),
              ElementsAre(5, 6));
  EXPECT_THAT(ReadLabels(Write("w.csv", "file,label\na.jpg,5\nb.jpg,cat\n")).status(),
              FailsWith(kInvalid, "line 3: 'cat'"));
  EXPECT_THAT(ReadLabels(Write("big.txt", "1\n99999999999999999999\n")).status(),
              FailsWith(kInvalid, "line 2"));
}

TEST_F(LabelsTest, RefusesEmptyBinaryAndMissingFiles) {
  EXPECT_THAT(ReadLabels(Write("e.txt", "")).status(), FailsWith(kInvalid, "no labels"));
  EXPECT_THAT(ReadLabels(Write("h.txt", "label\n")).status(), FailsWith(kInvalid, "no labels"));
  EXPECT_THAT(ReadLabels(Write("b.bin", std::string("\x01\x00\x02", 3))).status(),
              FailsWith(kInvalid, "neither"));
  EXPECT_THAT(ReadLabels(dir_ + "/none").status(), FailsWith(absl::StatusCode::kNotFound, "none"));
  EXPECT_FALSE(ReadLabels(dir_).ok());
}

}  // namespace
}  // namespace octet::data
