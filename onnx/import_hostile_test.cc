// Hostile files: every one gives a status that says what is wrong; none crashes, hangs or asks for
// absurd memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <limits>

#include "base/file.h"
#include "base/rng.h"
#include "onnx/import.h"
#include "onnx/test_model.h"

namespace octet::onnx_io {
namespace {

using ::onnx::TensorProto;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Eq;
using ::testing::HasSubstr;

absl::Status StatusOf(const TestModel& m, const ImportOptions& options = {}) {
  return m.Import(options).status();
}

absl::Status StatusOfBytes(const std::string& bytes) {
  return ImportBytes(ToBuffer(bytes), "bad.onnx").status();
}

TEST(HostileImport, EmptyAndForeignFiles) {
  EXPECT_THAT(StatusOfBytes("").message(), HasSubstr("bad.onnx: the file is empty"));
  for (const char* text : {"hello, this is not a model", "\x7f\x45LF\x02\x01\x01", "PK\x03\x04"}) {
    EXPECT_THAT(StatusOfBytes(text).code(),
                AnyOf(Eq(absl::StatusCode::kInvalidArgument), Eq(absl::StatusCode::kDataLoss)))
        << text;
  }
  EXPECT_THAT(StatusOfBytes(std::string(4096, '\xff')).message(), HasSubstr("not a protobuf"));
  EXPECT_THAT(StatusOfBytes(std::string("\x08\x08", 2)).message(), HasSubstr("no graph"));
}

TEST(HostileImport, TruncationAtEveryByteIsRefused) {
  const std::string whole = SmallNet().proto.SerializeAsString();
  ASSERT_TRUE(StatusOfBytes(whole).ok());
  for (size_t n = 0; n < whole.size(); ++n) {
    const absl::Status status = StatusOfBytes(whole.substr(0, n));
    // A cut between top-level fields leaves a valid message: then opset or graph is missing.
    EXPECT_FALSE(status.ok()) << n;
    EXPECT_THAT(status.message(), HasSubstr("bad.onnx: ")) << n;
  }
}

// Whatever the bytes are, import ends with a status; under ASan and UBSan it also proves that
// nothing is read astray.
void FlipBits(const std::string& whole, int rounds, uint64_t seed) {
  const CounterRng rng(seed);
  uint64_t draw = 0;
  for (int round = 0; round < rounds; ++round) {
    std::string bytes = whole;
    const int flips = 1 + static_cast<int>(rng.Bits(draw++) % 4);
    for (int k = 0; k < flips; ++k) {
      const uint64_t at = rng.Bits(draw++) % bytes.size();
      const uint64_t what = rng.Bits(draw++);
      bytes[at] = what % 2 == 0 ? static_cast<char>(what >> 8)
                                : static_cast<char>(bytes[at] ^ (1 << (what >> 8) % 8));
    }
    if (round % 16 == 0) bytes.resize(rng.Bits(draw++) % bytes.size());
    const auto graph = ImportBytes(ToBuffer(bytes), "flipped");
    if (graph.ok()) {
      EXPECT_TRUE(graph->Validate().ok()) << "seed " << seed << " round " << round;
    } else {
      EXPECT_THAT(graph.status().message(), HasSubstr("flipped")) << round;
      EXPECT_NE(graph.status().code(), absl::StatusCode::kInternal) << graph.status();
    }
  }
}

TEST(HostileImport, RandomBytesInASmallModel) {
  FlipBits(SmallNet().proto.SerializeAsString(), 4000, 20240601);
}

TEST(HostileImport, RandomBytesInAQuantizedModel) {
  TestModel m(21, 10);
  m.Input("x", {1, 4}).Output("y");
  m.F32("sx", {}, {0.5f}).U8("zx", {}, {10}).F32("sw", {2, 3}, {1, 2, 3, 4, 5, 6});
  m.Init<uint8_t>("w", {4, 3}, TensorProto::UINT4, {1, 2, 3, 4, 5, 6});
  m.F32("wf", {3, 3}, std::vector<float>(9, 0.5f)).F32("s1", {3}, {1, 2, 3});
  m.Node("QuantizeLinear", {"x", "sx", "zx"}, {"xq"});
  m.Node("DequantizeLinear", {"xq", "sx", "zx"}, {"xd"});
  SetInt(SetInt(m.Node("DequantizeLinear", {"w", "sw"}, {"wd"}), "axis", 0), "block_size", 2);
  SetInt(m.Node("QuantizeLinear", {"wf", "s1"}, {"wq"}), "axis", 1);
  SetInt(m.Node("DequantizeLinear", {"wq", "s1"}, {"wfd"}), "axis", 1);
  m.Node("MatMul", {"xd", "wd"}, {"h"});
  m.Node("MatMul", {"h", "wfd"}, {"y"});
  ASSERT_TRUE(StatusOf(m).ok()) << StatusOf(m);
  FlipBits(m.proto.SerializeAsString(), 4000, 20240602);
}

TEST(HostileImport, RealModelTruncatedAndFlipped) {
  const std::string path = std::string(OCTET_SHARED) + "/models/mnist-12/model.onnx";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const auto file = ReadFile(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const std::string whole(reinterpret_cast<const char*>((*file)->data()),
                          static_cast<size_t>((*file)->size_bytes()));
  for (size_t part = 0; part < 64; ++part) {
    EXPECT_FALSE(StatusOfBytes(whole.substr(0, whole.size() * part / 64)).ok()) << part;
  }
  FlipBits(whole, 1500, 20240603);
}

TEST(HostileImport, CycleNamesANodeOnIt) {
  TestModel m = SmallNet();
  m.Node("Relu", {"loop2"}, {"loop1"}, "a");
  m.Node("Relu", {"loop1"}, {"loop2"}, "b");
  m.Node("Relu", {"loop2"}, {"after"}, "c");
  const absl::Status status = StatusOf(m);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), AnyOf(HasSubstr("node 'a' (Relu)"), HasSubstr("node 'b' (Relu)")));
  EXPECT_THAT(status.message(), HasSubstr("cyclic"));
}

TEST(HostileImport, NodeThatReadsItself) {
  TestModel m = SmallNet();
  m.Node("Relu", {"self"}, {"self"}, "me");
  EXPECT_THAT(StatusOf(m).message(), HasSubstr("node 'me' (Relu) depends on its own output"));
}

TEST(HostileImport, DanglingInputMissingOutputAndDuplicates) {
  TestModel dangling = SmallNet();
  dangling.graph().mutable_node(0)->set_input(1, "nowhere");
  EXPECT_THAT(StatusOf(dangling).message(),
              HasSubstr("node 'conv1' (Conv): input 'nowhere' is produced by no node"));
  TestModel missing = SmallNet();
  missing.Output("never");
  EXPECT_THAT(StatusOf(missing).message(), HasSubstr("output 'never' is produced by no node"));
  TestModel twice = SmallNet();
  twice.Node("Relu", {"x"}, {"r"}, "again");
  EXPECT_THAT(StatusOf(twice).message(), AllOf(HasSubstr("node 'again' (Relu)"),
                                               HasSubstr("produced already by node 'relu1'")));
  TestModel shadow = SmallNet();
  shadow.Node("Relu", {"x"}, {"w"}, "shadow");
  EXPECT_THAT(StatusOf(shadow).message(), HasSubstr("already by a graph input or an initializer"));
  TestModel same = SmallNet();
  same.F32("w", {1}, {1});
  EXPECT_THAT(StatusOf(same).message(), HasSubstr("initializer 'w' is given twice"));
  TestModel inputs = SmallNet();
  inputs.Input("x", {1});
  EXPECT_THAT(StatusOf(inputs).message(), HasSubstr("graph input 'x' is given twice"));
  TestModel none = SmallNet();
  none.graph().clear_output();
  EXPECT_THAT(StatusOf(none).message(), HasSubstr("no output"));
}

TEST(HostileImport, MissingTensorContent) {
  TestModel m = SmallNet();
  m.graph().mutable_initializer(0)->clear_raw_data();
  const absl::Status status = StatusOf(m);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("initializer 'w': shape [2, 2, 3, 3] of f32 needs 144 "
                                          "bytes, found none"));
}

TEST(HostileImport, AbsurdAndOverflowingDimensions) {
  const int64_t huge = int64_t{1} << 62;
  const std::vector<TestModel::Dims> shapes = {{huge},
                                               {huge, 4},
                                               {int64_t{1} << 32, int64_t{1} << 32},
                                               {-1},
                                               {huge, huge, 0},
                                               {std::numeric_limits<int64_t>::max(), 2},
                                               {std::numeric_limits<int64_t>::min()},
                                               TestModel::Dims(40, 2),
                                               {1000000000, 1000}};
  for (const auto& dims : shapes) {
    for (const int type : {TensorProto::FLOAT, TensorProto::INT4, TensorProto::INT64}) {
      TestModel m = SmallNet();
      m.graph().mutable_initializer(0)->clear_dims();
      m.graph().mutable_initializer(0)->set_data_type(type);
      for (int64_t d : dims) m.graph().mutable_initializer(0)->add_dims(d);
      const absl::Status status = StatusOf(m);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
      EXPECT_THAT(status.message(), HasSubstr("initializer 'w'")) << status;
    }
  }
}

TEST(HostileImport, GiganticTensorInFewTypedBytes) {
  // int64_data of 3 varint bytes for 2^40 elements, int32_data for f16, float_data for f32: refused
  // before allocation.
  for (const int type : {TensorProto::INT64, TensorProto::FLOAT16, TensorProto::FLOAT}) {
    TestModel m = SmallNet();
    auto* t = m.graph().mutable_initializer(0);
    t->clear_raw_data();
    t->clear_dims();
    t->add_dims(int64_t{1} << 40);
    t->set_data_type(type);
    for (int i = 0; i < 3; ++i) {
      if (type == TensorProto::INT64) t->add_int64_data(1);
      if (type == TensorProto::FLOAT16) t->add_int32_data(1);
      if (type == TensorProto::FLOAT) t->add_float_data(1);
    }
    const absl::Status status = StatusOf(m);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(status.message(), HasSubstr("initializer 'w'"));
  }
}

TEST(HostileImport, GiganticGraphInput) {
  TestModel m = SmallNet();
  auto* shape = m.graph().mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape();
  for (int i = 0; i < 4; ++i) shape->mutable_dim(i)->set_dim_value(int64_t{1} << 40);
  EXPECT_THAT(StatusOf(m).message(), HasSubstr("graph input 'x': shape"));
}

TEST(HostileImport, ContentInTwoPlacesOrInTheWrongField) {
  TestModel twice = SmallNet();
  twice.graph().mutable_initializer(0)->add_float_data(1);
  EXPECT_THAT(StatusOf(twice).message(), HasSubstr("given twice"));
  TestModel wrong = SmallNet();
  wrong.graph().mutable_initializer(0)->clear_raw_data();
  for (int i = 0; i < 36; ++i) wrong.graph().mutable_initializer(0)->add_int64_data(1);
  EXPECT_THAT(StatusOf(wrong).message(), HasSubstr("initializer 'w': content of type f32"));
}

TEST(HostileImport, UnknownTypesAndKinds) {
  TestModel fp8 = SmallNet();
  fp8.graph().mutable_initializer(0)->set_data_type(TensorProto::FLOAT8E4M3FN);
  EXPECT_THAT(StatusOf(fp8).message(), HasSubstr("FLOAT8E4M3FN"));
  TestModel strings = SmallNet();
  strings.Input("text", {2}, TensorProto::STRING);
  EXPECT_THAT(StatusOf(strings).message(), HasSubstr("graph input 'text': tensors of STRING"));
  TestModel sequence = SmallNet();
  auto* info = sequence.graph().add_input();
  info->set_name("seq");
  info->mutable_type()->mutable_sequence_type()->mutable_elem_type();
  EXPECT_THAT(StatusOf(sequence).message(), HasSubstr("graph input 'seq': expected a tensor"));
  TestModel sparse = SmallNet();
  sparse.graph().add_sparse_initializer()->add_dims(3);
  EXPECT_EQ(StatusOf(sparse).code(), absl::StatusCode::kUnimplemented);
  TestModel bools = SmallNet();
  bools.Init<uint8_t>("flag", {2}, TensorProto::BOOL, {1, 7});
  EXPECT_THAT(StatusOf(bools).message(), HasSubstr("initializer 'flag': expected 0 or 1"));
}

TEST(HostileImport, Versions) {
  for (const int64_t opset : {int64_t{0}, int64_t{23}, int64_t{99}, int64_t{-1}}) {
    TestModel m = SmallNet();
    m.proto.mutable_opset_import(0)->set_version(opset);
    EXPECT_EQ(StatusOf(m).code(), absl::StatusCode::kUnimplemented) << opset;
    EXPECT_THAT(StatusOf(m).message(), HasSubstr("expected 1 to 22, found")) << opset;
  }
  TestModel ir = SmallNet();
  ir.proto.set_ir_version(99);
  EXPECT_THAT(StatusOf(ir).message(), HasSubstr("IR version: expected 3 to 10, found 99"));
  TestModel both = SmallNet();
  auto* import = both.proto.add_opset_import();
  import->set_domain("ai.onnx");
  import->set_version(9);
  EXPECT_THAT(StatusOf(both).message(), HasSubstr("opset 17 and opset 9"));
}

TEST(HostileImport, OperatorsAndAttributesThatWeDoNotHave) {
  TestModel op = SmallNet();
  op.graph().mutable_node(1)->set_op_type("Frobnicate");
  EXPECT_THAT(StatusOf(op).message(),
              HasSubstr("node 'relu1' (Frobnicate): operator 'Frobnicate'"));
  TestModel domain = SmallNet();
  domain.graph().mutable_node(1)->set_domain("evil.corp");
  EXPECT_THAT(StatusOf(domain).message(), HasSubstr("'evil.corp'"));
  TestModel attribute = SmallNet();
  SetInt(attribute.graph().mutable_node(1), "power", 3);
  EXPECT_THAT(StatusOf(attribute).message(),
              HasSubstr("node 'relu1' (Relu): attribute 'power' (an int) is not known"));
  TestModel kind = SmallNet();
  SetString(kind.graph().mutable_node(4), "allowzero", "yes");
  EXPECT_THAT(StatusOf(kind).message(),
              HasSubstr("attribute 'allowzero': expected an int, found a string"));
  TestModel inputs = SmallNet();
  inputs.graph().mutable_node(1)->add_input("x");
  EXPECT_THAT(StatusOf(inputs).message(), HasSubstr("node 'relu1' (Relu): expected 1 to 1 inputs"));
  TestModel unnamed = SmallNet();
  unnamed.graph().mutable_node(1)->clear_name();
  unnamed.graph().mutable_node(1)->set_op_type("Crop");
  EXPECT_THAT(StatusOf(unnamed).message(), HasSubstr("node #1 -> 'r' (Crop)"));
}

TEST(HostileImport, NamesThatCannotGoOntoTheWire) {
  for (const char* name : {"a\xffz", "bell\x07", "\xed\xa0\x80", "\xc0\x80"}) {
    TestModel m;
    m.Input(name, {2}).Output("y").Node("Relu", {name}, {"y"});
    EXPECT_THAT(StatusOf(m).message(), HasSubstr("not printable UTF-8"));
  }
  TestModel fine;
  fine.Input("Größe 入力", {2}).Output("y").Node("Relu", {"Größe 入力"}, {"y"});
  EXPECT_TRUE(StatusOf(fine).ok()) << StatusOf(fine);
}

// Nesting up to the limit is imported (and then lacks a branch), deeper is refused by the walker.
TEST(HostileImport, DeepSubgraphs) {
  for (const int depth : {1, 16, 17, 500}) {
    std::string inner;  // a GraphProto
    for (int i = 0; i < depth; ++i) {
      ::onnx::GraphProto graph;
      auto* node = graph.add_node();
      node->set_op_type("If");
      node->add_output("o");
      auto* a = node->add_attribute();
      a->set_name("then_branch");
      a->set_type(::onnx::AttributeProto::GRAPH);
      // Built from bytes: protobuf itself would refuse to parse what it cannot nest.
      const auto field = [](int number, const std::string& body) {
        std::string out(1, static_cast<char>(number << 3 | 2));
        size_t n = body.size();
        for (; n >= 0x80; n >>= 7) out.push_back(static_cast<char>(n | 0x80));
        out.push_back(static_cast<char>(n));
        return out + body;
      };
      inner =
          field(1, node->SerializeAsString() + field(5, a->SerializeAsString() + field(6, inner)));
    }
    TestModel m = SmallNet();
    m.graph().clear_node();
    m.graph().clear_output();
    m.graph().clear_initializer();
    m.Output("o");
    std::string graph = m.graph().SerializeAsString() + inner;
    m.proto.clear_graph();
    std::string bytes = m.proto.SerializeAsString();
    bytes.push_back(7 << 3 | 2);
    size_t n = graph.size();
    for (; n >= 0x80; n >>= 7) bytes.push_back(static_cast<char>(n | 0x80));
    bytes.push_back(static_cast<char>(n));
    const absl::Status status = StatusOfBytes(bytes + graph);
    EXPECT_THAT(status.message(),
                depth > 16 ? HasSubstr("nested deeper than 16") : HasSubstr("(If)"))
        << depth;
  }
}

TEST(HostileImport, LimitsOnNodesValuesAndBytes) {
  TestModel m = SmallNet();
  ImportOptions few;
  few.max_nodes = 6;
  EXPECT_EQ(StatusOf(m, few).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(StatusOf(m, few).message(), HasSubstr("more than 6 nodes"));
  few.max_nodes = 7;
  EXPECT_TRUE(StatusOf(m, few).ok());
  ImportOptions values;
  values.max_values = 5;
  EXPECT_THAT(StatusOf(m, values).message(), HasSubstr("more than 5 values"));
  // A file of two-byte nodes stays within 200 KB and must not become 100 MB of messages.
  std::string graph;
  for (int i = 0; i < 200000; ++i) graph += std::string("\x0a\x00", 2);
  ::onnx::ModelProto model;
  std::string bytes = "\x3a";
  size_t n = graph.size();
  for (; n >= 0x80; n >>= 7) bytes.push_back(static_cast<char>(n | 0x80));
  bytes.push_back(static_cast<char>(n));
  EXPECT_THAT(StatusOfBytes(bytes + graph).message(), HasSubstr("more than 100000 nodes"));
}

TEST(HostileImport, SharedConstantsCannotMultiply) {
  // 2000 nodes quantize one constant of 1 MB: 2 GB, from a file of 4 MB.
  TestModel m(13);
  m.Input("x", {1}).Output("y");
  m.F32("w", {1 << 20}, std::vector<float>(1 << 20, 1)).F32("s", {}, {1});
  std::vector<std::string> names = {"x"};
  for (int i = 0; i < 2000; ++i) {
    names.push_back("d" + std::to_string(i));
    m.Node("QuantizeLinear", {"w", "s"}, {"q" + std::to_string(i)});
    m.Node("DequantizeLinear", {"q" + std::to_string(i), "s"}, {names.back()});
  }
  m.Node("Sum", names, {"y"});
  EXPECT_EQ(StatusOf(m).code(), absl::StatusCode::kResourceExhausted) << StatusOf(m);
}

// Linear work: each shape of file below takes well under a second, and minutes where a step is
// quadratic.
TEST(HostileImport, ManyNodesOfOneKind) {
  constexpr int kNodes = 30000;
  TestModel chain(13);
  chain.Input("x", {4}).Output("y").F32("s", {}, {0.5f});
  std::string at = "x";
  for (int i = 0; i < kNodes; ++i) {
    const std::string n = std::to_string(i);
    chain.Node("QuantizeLinear", {at, "s"}, {"q" + n}, "same");
    chain.Node("DequantizeLinear", {"q" + n, "s"}, {"d" + n}, "same");
    chain.Node("Identity", {"d" + n}, {"i" + n}, "same");
    at = "i" + n;
  }
  chain.Node("Relu", {at}, {"y"});
  EXPECT_TRUE(StatusOf(chain).ok()) << StatusOf(chain);

  TestModel shared(13);
  shared.Input("x", {4}).Output("y").S8("w", {4}, {1, 2, 3, 4}).S8("z", {}, {1});
  std::vector<std::string> terms = {"x"};
  for (int i = 0; i < kNodes; ++i) {
    const std::string n = std::to_string(i);
    shared.F32("s" + n, {}, {static_cast<float>(i + 1)});
    shared.Node("DequantizeLinear", {"w", "s" + n}, {"d" + n});
    terms.push_back("d" + n);
  }
  shared.Node("Sum", terms, {"y"});
  EXPECT_TRUE(StatusOf(shared).ok()) << StatusOf(shared);
}

class ExternalData : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "octet_onnx_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    std::filesystem::create_directories(root_ / "model" / "sub");
    const std::vector<float> weights(36, 0.5f);
    data_.assign(reinterpret_cast<const char*>(weights.data()), 144);
    ASSERT_TRUE(WriteFileAtomically((root_ / "secret.bin").string(), data_).ok());
    ASSERT_TRUE(WriteFileAtomically((root_ / "model/w.bin").string(), "head" + data_).ok());
    ASSERT_TRUE(WriteFileAtomically((root_ / "model/sub/w.bin").string(), "head" + data_).ok());
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  absl::StatusOr<graph::Graph> Import(const std::string& location, const std::string& offset = "4",
                                      const std::string& length = "144") {
    TestModel m = SmallNet();
    auto* t = m.graph().mutable_initializer(0);
    t->clear_raw_data();
    t->set_data_location(TensorProto::EXTERNAL);
    const auto add = [&](const char* key, const std::string& value) {
      if (value.empty()) return;
      auto* e = t->add_external_data();
      e->set_key(key);
      e->set_value(value);
    };
    add("location", location);
    add("offset", offset);
    add("length", length);
    const std::string path = (root_ / "model/model.onnx").string();
    if (!WriteFileAtomically(path, m.proto.SerializeAsString()).ok())
      return absl::InternalError("");
    return ImportFile(path);
  }

  std::filesystem::path root_;
  std::string data_;
};

TEST_F(ExternalData, InsideTheFolderIsRead) {
  for (const char* location : {"w.bin", "./w.bin", "sub/w.bin"}) {
    auto g = Import(location);
    ASSERT_TRUE(g.ok()) << g.status();
    EXPECT_EQ(g->ConstantInput(g->nodes[0], 1)->ToF32(), std::vector<float>(36, 0.5f));
  }
  std::filesystem::create_symlink("sub/w.bin", root_ / "model/inner.bin");
  EXPECT_TRUE(Import("inner.bin").ok());
}

TEST_F(ExternalData, OutsideTheFolderIsRefused) {
  std::filesystem::create_symlink(root_ / "secret.bin", root_ / "model/link.bin");
  std::filesystem::create_directory_symlink(root_, root_ / "model/up");
  for (const std::string& location :
       {std::string("../secret.bin"), std::string("sub/../../secret.bin"),
        (root_ / "secret.bin").string(), std::string("link.bin"), std::string("up/secret.bin"),
        std::string("/etc/passwd"), std::string(), std::string("a\0b", 3),
        std::string(100000, 'a')}) {
    const auto g = Import(location, "0");
    EXPECT_EQ(g.status().code(), absl::StatusCode::kInvalidArgument) << location.substr(0, 80);
    EXPECT_THAT(g.status().message(),
                AllOf(HasSubstr("initializer 'w'"), HasSubstr("inside the model's folder")));
  }
}

TEST_F(ExternalData, RangesAreChecked) {
  EXPECT_EQ(Import("w.bin", "8").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Import("w.bin", "9223372036854775807").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Import("w.bin", "-4").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Import("w.bin", "4", "143").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Import("w.bin", "four").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Import("absent.bin").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Import("sub").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Import("w.bin", "4", "").ok());
}

TEST_F(ExternalData, IsRefusedFromMemory) {
  TestModel m = SmallNet();
  m.graph().mutable_initializer(0)->clear_raw_data();
  m.graph().mutable_initializer(0)->set_data_location(TensorProto::EXTERNAL);
  EXPECT_THAT(StatusOf(m).message(), HasSubstr("external data in a model that is not read from"));
}

TEST_F(ExternalData, FileLimitsAndAbsence) {
  ASSERT_TRUE(Import("w.bin").ok());
  ImportOptions small;
  small.max_file_bytes = 100;
  const std::string path = (root_ / "model/model.onnx").string();
  EXPECT_EQ(ImportFile(path, small).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ImportFile(path + ".none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ImportFile((root_ / "model").string()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::onnx_io
