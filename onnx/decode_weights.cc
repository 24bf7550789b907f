// DecodeWeights as a function of standard operators.
#include "onnx/decode_weights.h"

#include <initializer_list>
#include <numeric>
#include <string>

#include "graph/weight_levels.h"

namespace octet::onnx_io {
namespace {

using ::onnx::AttributeProto;
using ::onnx::FunctionProto;
using ::onnx::NodeProto;
using ::onnx::TensorProto;

using Names = std::initializer_list<const char*>;

// Writes the body line by line; every line gives one result.
class Body {
 public:
  explicit Body(FunctionProto* function) : function_(*function) {}

  NodeProto* Add(const char* op, Names inputs, const char* output) {
    NodeProto* node = function_.add_node();
    node->set_op_type(op);
    node->set_name(output);
    for (const char* input : inputs) node->add_input(input);
    node->add_output(output);
    return node;
  }
  void Cast(const char* input, TensorProto::DataType to, const char* output) {
    SetInt(Add("Cast", {input}, output), "to", to);
  }
  void Shift(Names inputs, const char* direction, const char* output) {
    AttributeProto* a = AddAttribute(Add("BitShift", inputs, output), "direction", AttributeProto::STRING);
    a->set_s(direction);
  }
  void Gather(Names inputs, const char* output) { SetInt(Add("Gather", inputs, output), "axis", 0); }
  void Int(const char* output, int64_t value) { SetInt(Add("Constant", {}, output), "value_int", value); }
  void Ints(const char* output, std::initializer_list<int64_t> values) {
    AttributeProto* a = AddAttribute(Add("Constant", {}, output), "value_ints", AttributeProto::INTS);
    for (int64_t v : values) a->add_ints(v);
  }
  // Attribute `key` of `node` is attribute `of` of the function's caller.
  static void Refer(NodeProto* node, const char* key, AttributeProto::AttributeType type, const char* of) {
    AddAttribute(node, key, type)->set_ref_attr_name(of);
  }
  void IntOf(const char* attribute) {
    Refer(Add("Constant", {}, attribute), "value_int", AttributeProto::INT, attribute);
  }
  void IntsOf(const char* attribute) {
    Refer(Add("Constant", {}, attribute), "value_ints", AttributeProto::INTS, attribute);
  }

 private:
  static AttributeProto* AddAttribute(NodeProto* node, const char* key, AttributeProto::AttributeType type) {
    AttributeProto* a = node->add_attribute();
    a->set_name(key);
    a->set_type(type);
    return a;
  }
  static void SetInt(NodeProto* node, const char* key, int64_t value) {
    AddAttribute(node, key, AttributeProto::INT)->set_i(value);
  }

  FunctionProto& function_;
};

// steps [prod(shape)] s8: the levels of all codes, in their order. Words of 32 bits, because 2^8 is no u8.
void AddLookUp(Body* b) {
  b->Add("Range", {"zero", "eight", "bits"}, "shifts_s64");
  b->Cast("shifts_s64", TensorProto::UINT32, "shifts");
  b->Cast("one", TensorProto::UINT32, "one_u32");
  b->Cast("bits", TensorProto::UINT32, "bits_u32");
  b->Shift({"one_u32", "bits_u32"}, "LEFT", "codes_per_table");
  b->Cast("codes", TensorProto::UINT32, "bytes");
  b->Add("Reshape", {"bytes", "column"}, "byte_column");
  b->Shift({"byte_column", "shifts"}, "RIGHT", "shifted");
  b->Add("Mod", {"shifted", "codes_per_table"}, "split");
  b->Cast("split", TensorProto::INT32, "split_s32");
  b->Add("Reshape", {"split_s32", "flat"}, "indices");
  b->Gather({"levels", "indices"}, "vectors");
  b->Add("Reshape", {"vectors", "flat"}, "padded_steps");
  b->Add("ReduceProd", {"shape"}, "count");
  b->Add("Slice", {"padded_steps", "from_zero", "count"}, "steps");
}

// factors: scales with `axis` spread to the shape's, scale min(i / max(block, 1), last) for index i.
void AddFactors(Body* b) {
  b->Gather({"shape", "axis"}, "extent");
  b->Add("Max", {"block", "one"}, "run");
  b->Add("Range", {"zero", "extent", "one"}, "along");
  b->Add("Div", {"along", "run"}, "blocks");
  b->Add("Shape", {"scales"}, "scales_shape");
  b->Gather({"scales_shape", "axis"}, "scales_extent");
  b->Add("Sub", {"scales_extent", "one"}, "last");
  b->Add("Min", {"blocks", "last"}, "which");
  b->Cast("scales", TensorProto::FLOAT, "scales_f32");
  Body::Refer(b->Add("Gather", {"scales_f32", "which"}, "factors"), "axis", AttributeProto::INT, "axis");
}

}  // namespace

DecodeAttributes DecodeAttributesOf(DType dtype, const Shape& shape, const QuantParams& quant) {
  DecodeAttributes a;
  a.bits = quant.vector > 1 ? 8 : BitsOf(dtype);
  a.scales.assign(shape.size(), 1);
  if (quant.block > 0) a.scales.assign(shape.begin(), shape.end());
  if (!quant.per_tensor()) {
    const auto axis = static_cast<size_t>(quant.axis);
    a.scales[axis] = quant.block > 0 ? (shape[axis] + quant.block - 1) / quant.block : shape[axis];
  }
  const auto order = quant.vector > 1 ? graph::VectorOrderOf(shape, quant) : graph::VectorOrder{};
  if (quant.vector > 1 && order.ok()) {
    a.stored = {order->rows, order->positions, order->inputs};
    a.perm = order->row_axis == 0 ? std::vector<int64_t>{0, 2, 1} : std::vector<int64_t>{2, 1, 0};
  } else {
    a.stored.assign(shape.begin(), shape.end());
    a.perm.resize(shape.size());
    std::iota(a.perm.begin(), a.perm.end(), 0);
  }
  return a;
}

void AddDrawFunction(int64_t opset, ::onnx::ModelProto* model) {
  FunctionProto* function = model->add_functions();
  function->set_name(std::string(kDrawWeights));
  function->set_domain(std::string(kOctetDomain));
  function->set_doc_string("the most probable weights");
  for (const char* input : {"weights", "steps"}) function->add_input(input);
  function->add_output("drawn");
  for (const char* attribute : {"bits", "stream"}) function->add_attribute(attribute);
  auto* import = function->add_opset_import();
  import->set_domain("");
  import->set_version(opset);
  Body(function).Add("Identity", {"weights"}, "drawn");
}

void AddDecodeFunction(int64_t opset, ::onnx::ModelProto* model) {
  FunctionProto* function = model->add_functions();
  function->set_name(std::string(kDecodeWeights));
  function->set_domain(std::string(kOctetDomain));
  function->set_doc_string("f32 weights from packed codes of a table of levels, times scales");
  for (const char* input : {"codes", "levels", "scales"}) function->add_input(input);
  function->add_output("weights");
  for (const char* attribute : {"axis", "bits", "block", "perm", "shape", "stored"}) function->add_attribute(attribute);
  auto* import = function->add_opset_import();
  import->set_domain("");
  import->set_version(opset);
  Body b(function);
  for (const char* attribute : {"axis", "bits", "block"}) b.IntOf(attribute);
  for (const char* attribute : {"shape", "stored"}) b.IntsOf(attribute);
  b.Int("zero", 0);
  b.Int("one", 1);
  b.Int("eight", 8);
  b.Ints("from_zero", {0});
  b.Ints("flat", {-1});
  b.Ints("column", {-1, 1});
  AddLookUp(&b);
  b.Add("Reshape", {"steps", "stored"}, "in_order");
  Body::Refer(b.Add("Transpose", {"in_order"}, "turned"), "perm", AttributeProto::INTS, "perm");
  b.Add("Reshape", {"turned", "shape"}, "shaped");
  b.Cast("shaped", TensorProto::FLOAT, "reals");
  AddFactors(&b);
  b.Add("Mul", {"reals", "factors"}, "weights");
}

}  // namespace octet::onnx_io
