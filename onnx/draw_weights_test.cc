// DrawWeights: distributions through a file and back, and files that lie about them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "graph/draws.h"
#include "graph/test_weights.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "onnx/onnx_pb.h"
#include "onnx/test_model.h"

namespace octet::onnx_io {
namespace {

using ::onnx::ModelProto;
using ::onnx::NodeProto;
using ::onnx::TensorProto;
using graph::Graph;
using graph::MakeWeights;
using graph::Value;
using graph::ValueId;
using graph::WeightForm;
using graph::WeightForms;
using ::testing::HasSubstr;

const Shape kShape = {8, 64, 3, 3};

// Steps of -3 to 3 where the code has room for them.
Tensor StepsFor(const Value& w, DType type) {
  const std::vector<int64_t> codes = w.data->ToS64();
  const int low = w.dtype == DType::kS8 ? -128 : w.dtype == DType::kS4 ? -8 : 0;
  const int high = !w.quant->levels.empty() ? static_cast<int>(w.quant->levels.size()) - 1 : low + (1 << BitsOf(w.dtype)) - 1;
  std::vector<int8_t> steps;
  for (size_t i = 0; i < codes.size(); ++i) {
    int step = static_cast<int>(i * 7 % 7) + static_cast<int>(i % 5) - 3;
    if ((step > 0 && codes[i] >= high) || (step < 0 && codes[i] <= low)) step = 0;
    steps.push_back(static_cast<int8_t>(step));
  }
  if (type == DType::kS8) return Tensor::FromValues<int8_t>(type, *w.shape, steps);
  std::vector<uint8_t> bytes(steps.size() / 2);
  for (size_t i = 0; i < steps.size(); ++i) bytes[i / 2] |= static_cast<uint8_t>((steps[i] & 15) << (i % 2 * 4));
  auto owner = std::make_shared<Tensor>(Tensor::FromValues<uint8_t>(DType::kU8, {static_cast<int64_t>(bytes.size())}, bytes));
  return Tensor(type, *w.shape, owner->data(), owner);
}

Graph ConvOf(const WeightForm& form, DType steps) {
  Graph g;
  Value x, y, w = MakeWeights(form, kShape, 0, 1).value;
  x.name = "x";
  x.dtype = DType::kF32;
  x.shape = Shape{1, 64, 3, 3};
  y = x;
  y.name = "y";
  y.shape = Shape{1, 8, 1, 1};
  w.name = "w";
  w.alternatives = graph::Alternatives{StepsFor(w, steps), 0xfffffff0u};
  const ValueId in = g.AddValue(x), weights = g.AddValue(w), out = g.AddValue(y);
  g.inputs = {in};
  g.outputs = {out};
  g.nodes.push_back({"Conv", "", "conv", {in, weights}, {out}, {}});
  return g;
}

const Value* Undecided(const Graph& g) {
  for (const Value& value : g.values) {
    if (value.alternatives.has_value()) return &value;
  }
  return nullptr;
}

TEST(DrawWeights, DistributionsOfEveryFormSurviveAFile) {
  int forms = 0;
  for (const WeightForm& form : WeightForms()) {
    if (MakeWeights(form, kShape, 0, 1).value.quant->vector > 1) continue;
    for (const DType steps : {DType::kS8, DType::kS4}) {
      SCOPED_TRACE(form.name);
      const Graph g = ConvOf(form, steps);
      ASSERT_EQ(g.Validate(), absl::OkStatus());
      const auto bytes = ExportModel(g);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      const auto read = ImportBytes(ToBuffer(*bytes), "exported.onnx");
      ASSERT_TRUE(read.ok()) << read.status();
      const Value *before = Undecided(g), *after = Undecided(*read);
      ASSERT_NE(after, nullptr);
      EXPECT_EQ(after->alternatives->stream, 0xfffffff0u);
      EXPECT_EQ(after->alternatives->steps.dtype(), steps);
      EXPECT_EQ(after->alternatives->steps.ToS64(), before->alternatives->steps.ToS64());
      EXPECT_EQ(graph::DrawCodes(*after, 3, 5).ToS64(), graph::DrawCodes(*before, 3, 5).ToS64());
      EXPECT_EQ(after->data->ToS64(), before->data->ToS64()) << "the most probable codes are the file's";
      ++forms;
    }
  }
  EXPECT_GE(forms, 10);
}

// A good file, changed by `change`, is refused with `message`.
void ExpectRefused(const std::function<void(ModelProto*, NodeProto*, TensorProto*)>& change, const std::string& message) {
  const auto bytes = ExportModel(ConvOf(WeightForms()[0], DType::kS8));
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  ModelProto model;
  ASSERT_TRUE(model.ParseFromString(*bytes));
  NodeProto* draw = nullptr;
  for (NodeProto& node : *model.mutable_graph()->mutable_node()) {
    if (node.op_type() == "DrawWeights") draw = &node;
  }
  ASSERT_NE(draw, nullptr);
  TensorProto* steps = nullptr;
  for (TensorProto& t : *model.mutable_graph()->mutable_initializer()) {
    if (t.name() == draw->input(1)) steps = &t;
  }
  ASSERT_NE(steps, nullptr);
  change(&model, draw, steps);
  const auto read = ImportBytes(ToBuffer(model.SerializeAsString()), "bad.onnx");
  EXPECT_FALSE(read.ok());
  EXPECT_THAT(std::string(read.status().message()), HasSubstr("DrawWeights"));
  EXPECT_THAT(std::string(read.status().message()), HasSubstr(message));
}

TEST(HostileDrawWeights, EachRuleIsNamed) {
  ExpectRefused([](ModelProto*, NodeProto*, TensorProto* t) { (*t->mutable_raw_data())[5] = '\x80'; }, "is -128");
  ExpectRefused([](ModelProto*, NodeProto*, TensorProto* t) { t->set_dims(0, 4), t->mutable_raw_data()->resize(4 * 64 * 9); },
                "shape [4, 64, 3, 3], the codes have [8, 64, 3, 3]");
  ExpectRefused([](ModelProto*, NodeProto*, TensorProto* t) { t->set_data_type(TensorProto::UINT8); }, "type u8, expected s8 or s4");
  ExpectRefused([](ModelProto*, NodeProto* n, TensorProto*) { n->mutable_attribute(0)->set_i(5); }, "expected 4 or 8, found 5");
  ExpectRefused([](ModelProto*, NodeProto* n, TensorProto*) { n->mutable_attribute(0)->set_i(4); }, "expected u8[2304], found s8");
  ExpectRefused([](ModelProto*, NodeProto* n, TensorProto*) { n->mutable_attribute(1)->set_i(-1); }, "expected 32 bits, found -1");
  ExpectRefused([](ModelProto*, NodeProto* n, TensorProto*) { n->set_input(0, "x"); }, "no constant with quantization");
  ExpectRefused([](ModelProto*, NodeProto* n, TensorProto*) { n->set_input(1, "x"); }, "input 1 (steps) is computed");
  ExpectRefused(
      [](ModelProto* m, NodeProto* n, TensorProto*) {
        NodeProto second = *n;
        second.set_name("again");
        second.set_output(0, "again");
        *m->mutable_graph()->add_node() = second;
        auto* output = m->mutable_graph()->add_output();  // so that it is read
        *output = m->graph().output(0);
        output->set_name("again");
      },
      "has a distribution already");
}

}  // namespace
}  // namespace octet::onnx_io
