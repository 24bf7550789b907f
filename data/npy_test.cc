// .npy files: every type, every version, hostile headers, samples by position.
#include "data/npy.h"

#include <limits>

#include "data/sample_reader.h"
#include "data/test_files.h"

namespace octet::data {
namespace {

using ::testing::ElementsAre;

class NpyTest : public DataTest {
 protected:
  absl::Status ReadStatus(const std::string& content) {
    return ReadNpy(Write("x.npy", content)).status();
  }
};

TEST_F(NpyTest, ReadsEveryTypeAsNumpyWritesIt) {
  struct Case {
    const char* descr;
    DType dtype;
    std::string bytes;  // of the value 1, then 0
  };
  const Case cases[] = {
      {"<f4", DType::kF32, BytesOfValues<float>({1, 0})},
      {"<f8", DType::kF64, BytesOfValues<double>({1, 0})},
      {"<f2", DType::kF16, BytesOfValues<uint16_t>({0x3c00, 0})},
      {"|i1", DType::kS8, BytesOfValues<int8_t>({1, 0})},
      {"<i1", DType::kS8, BytesOfValues<int8_t>({1, 0})},
      {"|u1", DType::kU8, BytesOfValues<uint8_t>({1, 0})},
      {"<i2", DType::kS16, BytesOfValues<int16_t>({1, 0})},
      {"<u2", DType::kU16, BytesOfValues<uint16_t>({1, 0})},
      {"<i4", DType::kS32, BytesOfValues<int32_t>({1, 0})},
      {"<u4", DType::kU32, BytesOfValues<uint32_t>({1, 0})},
      {"<i8", DType::kS64, BytesOfValues<int64_t>({1, 0})},
      {"<u8", DType::kU64, BytesOfValues<uint64_t>({1, 0})},
      {"|b1", DType::kBool, BytesOfValues<uint8_t>({7, 0})},
  };
  for (const Case& c : cases) {
    for (int version : {1, 2, 3}) {
      const std::string header =
          "{'descr': '" + std::string(c.descr) + "', 'fortran_order': False, 'shape': (2,), }  \n";
      auto tensor = ReadNpy(Write("x.npy", NpyFile(header, c.bytes, version)));
      ASSERT_TRUE(tensor.ok()) << c.descr << " " << tensor.status();
      EXPECT_EQ(tensor->dtype(), c.dtype);
      EXPECT_THAT(tensor->shape(), ElementsAre(2));
      EXPECT_THAT(tensor->ToF64(), ElementsAre(1, 0)) << c.descr;
    }
  }
}

TEST_F(NpyTest, ReadsAnyKeyOrderScalarsAndPython2Integers) {
  auto tensor =
      ReadNpy(Write("x.npy", NpyFile("{\"shape\":(1L, 2L),'fortran_order':False,'descr':'<f4'}",
                                     BytesOfValues<float>({3, 4}))));
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_THAT(tensor->shape(), ElementsAre(1, 2));
  tensor = ReadNpy(Write("x.npy", NpyFile("{'descr': '<f4', 'fortran_order': False, 'shape': ()}",
                                          BytesOfValues<float>({5}))));
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_TRUE(tensor->shape().empty());
  EXPECT_EQ(tensor->ToF32()[0], 5);
}

TEST_F(NpyTest, WritesWhatNumpyWrites) {
  // The bytes of numpy.save("x.npy", numpy.arange(6, dtype="f4").reshape(2, 3)), numpy 2.2.
  std::string expected("\x93NUMPY\x01\x00v\x00", 10);
  expected += "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  expected.resize(127, ' ');
  expected += "\n" + BytesOfValues<float>({0, 1, 2, 3, 4, 5});
  const std::string path = dir_ + "/x.npy";
  ASSERT_TRUE(WriteNpy(path, Tensor::FromF32({2, 3}, {0, 1, 2, 3, 4, 5})).ok());
  EXPECT_EQ(ReadAll(path), expected);
}

TEST_F(NpyTest, RoundTripsShapesAndTypes) {
  const std::string path = dir_ + "/x.npy";
  for (const Shape& shape :
       {Shape{}, Shape{0}, Shape{5}, Shape{2, 0, 3}, Shape{2, 3, 4}, Shape(12, 1)}) {
    std::vector<int64_t> values(static_cast<size_t>(NumElements(shape)));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = std::numeric_limits<int64_t>::min() + int64_t(i);
    ASSERT_TRUE(WriteNpy(path, Tensor::FromS64(shape, values)).ok());
    auto back = ReadNpy(path);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->shape(), shape);
    EXPECT_EQ(back->ToS64(), values);
  }
  // bf16 1.0 and 4-bit integers have no numpy type: widened, exactly.
  ASSERT_TRUE(WriteNpy(path, Tensor::FromValues<uint16_t>(DType::kBF16, {1}, {0x3f80})).ok());
  EXPECT_EQ(ReadNpy(path)->dtype(), DType::kF32);
  EXPECT_EQ(ReadNpy(path)->ToF32()[0], 1.0f);
  const uint8_t nibbles[] = {0xf7, 0x08};
  ASSERT_TRUE(WriteNpy(path, Tensor::FromValues<uint8_t>(DType::kS4, {3}, nibbles)).ok());
  EXPECT_EQ(ReadNpy(path)->dtype(), DType::kS8);
  EXPECT_THAT(ReadNpy(path)->ToS64(), ElementsAre(7, -1, -8));
}

TEST_F(NpyTest, RefusesHostileHeaders) {
  const auto with = [](const std::string& descr, const std::string& order,
                       const std::string& shape) {
    return NpyFile(
        "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + "}",
        std::string(16, 'x'));
  };
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  const auto kLost = absl::StatusCode::kDataLoss;
  EXPECT_TRUE(ReadStatus(with("'<f4'", "False", "(2, 2)")).ok());
  EXPECT_THAT(ReadStatus(with("'>f4'", "False", "(2, 2)")), FailsWith(kInvalid, ">f4"));
  EXPECT_THAT(ReadStatus(with("'<c8'", "False", "(2,)")), FailsWith(kInvalid, "<c8"));
  EXPECT_THAT(ReadStatus(with("'|O'", "False", "(2,)")), FailsWith(kInvalid, "|O"));
  EXPECT_THAT(ReadStatus(with("[('a', '<f4')]", "False", "(2,)")),
              FailsWith(kInvalid, "structured"));
  EXPECT_THAT(ReadStatus(with("'<f4'", "True", "(2, 2)")), FailsWith(kInvalid, "Fortran"));
  EXPECT_THAT(ReadStatus(with("'<f4'", "1", "(2, 2)")), FailsWith(kInvalid, "fortran_order is 1"));
  EXPECT_THAT(ReadStatus(with("'<f4'", "False", "(2, 3)")), FailsWith(kLost, "needs 24 bytes"));
  EXPECT_THAT(ReadStatus(with("'<f4'", "False", "(2, 1)")), FailsWith(kInvalid, "needs 8 bytes"));
  EXPECT_THAT(ReadStatus(with("'<f4'", "False", "(-2, 2)")), FailsWith(kInvalid, "dimension"));
  EXPECT_THAT(ReadStatus(with("'<f4'", "False", "(2.5, 2)")), FailsWith(kInvalid, "not closed"));
  EXPECT_THAT(ReadStatus(with("'<f4'", "False", "4")), FailsWith(kInvalid, "tuple"));
  EXPECT_THAT(ReadStatus(with("'<f4'", "False", "(99999999999999999999,)")),
              FailsWith(kInvalid, "2^63"));
  EXPECT_FALSE(ReadStatus(with("'<f4'", "False", "(4294967296, 4294967296, 1)")).ok());
  EXPECT_FALSE(ReadStatus(with("'<f8'", "False", "(4611686018427387904,)")).ok());
  EXPECT_THAT(ReadStatus(with("'<f4'", "False", "(1,1,1,1,1,1,1,1,1,1,1,1,4)")),
              FailsWith(kInvalid, "12 dimensions"));
  EXPECT_THAT(ReadStatus(with("'<f4'", "False", "(4,), 'shape': (4,)")),
              FailsWith(kInvalid, "repeated"));
  EXPECT_THAT(ReadStatus(NpyFile("{'descr': '<f4'}", "")), FailsWith(kInvalid, "lacks"));
  EXPECT_THAT(ReadStatus(NpyFile("{'descr': '<f4", "")), FailsWith(kInvalid, "does not end"));
  EXPECT_THAT(ReadStatus(NpyFile("{} x", "")), FailsWith(kInvalid, "follows"));
  EXPECT_THAT(ReadStatus(NpyFile("", "")), FailsWith(kInvalid, "dictionary"));
  EXPECT_THAT(ReadStatus(NpyFile("{}", "", 4)), FailsWith(kInvalid, "version 4"));
}

TEST_F(NpyTest, RefusesEveryTruncation) {
  const std::string whole = NpyF32({2, 2}, {1, 2, 3, 4});
  for (size_t n = 0; n < whole.size(); ++n) {
    const absl::Status status = ReadStatus(whole.substr(0, n));
    EXPECT_FALSE(status.ok()) << n;
    EXPECT_NE(std::string(status.message()).find("x.npy"), std::string::npos) << status;
  }
  std::string long_header = NpyFile("{}", "", 2);
  long_header[11] = '\xff';  // claims a header of 4 GB
  EXPECT_THAT(ReadStatus(long_header), FailsWith(absl::StatusCode::kInvalidArgument, "limit"));
}

TEST_F(NpyTest, SamplesAreSlicesOfAxis0) {
  const std::string path = Write("x.npy", NpyF32({3, 2}, {0, 1, 2, 3, 4, 5}));
  auto reader = OpenSamples(path, {}, {"input"});
  ASSERT_TRUE(reader.ok()) << reader.status();
  ASSERT_EQ((*reader)->size(), 3);
  for (int64_t i : {2, 0, 1, 2}) {
    auto sample = (*reader)->Read(i);
    ASSERT_TRUE(sample.ok()) << sample.status();
    EXPECT_EQ(sample->name, path + "[" + std::to_string(i) + "]");
    ASSERT_EQ(sample->inputs.size(), 1u);
    EXPECT_THAT(sample->inputs[0].shape(), ElementsAre(2));
    EXPECT_THAT(sample->inputs[0].ToF32(), ElementsAre(2 * i, 2 * i + 1));
  }
  EXPECT_THAT((*reader)->Read(3).status(), FailsWith(absl::StatusCode::kInvalidArgument, "[3]"));
  EXPECT_THAT((*reader)->Read(-1).status(), FailsWith(absl::StatusCode::kInvalidArgument, "[-1]"));
}

TEST_F(NpyTest, SamplesTurnFloatsIntoF32AndKeepIntegers) {
  const std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2)}";
  auto reader =
      OpenSamples(Write("d.npy", NpyFile(header, BytesOfValues<double>({0.5, -2}))), {}, {"x"});
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->Read(0)->inputs[0].dtype(), DType::kF32);
  EXPECT_THAT((*reader)->Read(0)->inputs[0].ToF32(), ElementsAre(0.5, -2));
  ASSERT_TRUE(WriteNpy(dir_ + "/i.npy", Tensor::FromS64({2}, {7, 8})).ok());
  auto integers = OpenSamples(dir_ + "/i.npy", {}, {"x"});
  ASSERT_TRUE(integers.ok());
  EXPECT_EQ((*integers)->Read(1)->inputs[0].dtype(), DType::kS64);
  EXPECT_TRUE((*integers)->Read(1)->inputs[0].shape().empty());
  EXPECT_THAT((*integers)->Read(1)->inputs[0].ToS64(), ElementsAre(8));
}

TEST_F(NpyTest, RefusesEmptySetsAndWrongInputCounts) {
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(OpenSamples(Write("e.npy", NpyF32({0, 4}, {})), {}, {"x"}).status(),
              FailsWith(kInvalid, "no samples"));
  EXPECT_THAT(OpenSamples(Write("s.npy", NpyF32({}, {1})), {}, {"x"}).status(),
              FailsWith(kInvalid, "scalar"));
  EXPECT_THAT(OpenSamples(Write("x.npy", NpyF32({1}, {1})), {}, {"a", "b"}).status(),
              FailsWith(kInvalid, "2 inputs"));
  EXPECT_THAT(OpenSamples(Write("x.txt", "hello"), {}, {"x"}).status(),
              FailsWith(kInvalid, "unknown format"));
  EXPECT_THAT(OpenSamples(Write("empty", ""), {}, {"x"}).status(),
              FailsWith(kInvalid, "unknown format"));
  EXPECT_THAT(OpenSamples(dir_ + "/nowhere", {}, {"x"}).status(),
              FailsWith(absl::StatusCode::kNotFound, "nowhere"));
  EXPECT_FALSE(OpenSamples("/dev/zero", {}, {"x"}).ok());
}

TEST_F(NpyTest, SampleThatIsCutOffAfterOpeningIsNamed) {
  const std::string path = Write("x.npy", NpyF32({3, 2}, {0, 1, 2, 3, 4, 5}));
  auto reader = OpenSamples(path, {}, {"x"});
  ASSERT_TRUE(reader.ok());
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 4);
  EXPECT_TRUE((*reader)->Read(1).ok());
  EXPECT_THAT((*reader)->Read(2).status(), FailsWith(absl::StatusCode::kDataLoss, "x.npy[2]"));
}

}  // namespace
}  // namespace octet::data
