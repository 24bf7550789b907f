// Builds ONNX models in code, for tests only.
#ifndef OCTET_ONNX_TEST_MODEL_H_
#define OCTET_ONNX_TEST_MODEL_H_

#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/buffer.h"
#include "graph/graph.h"
#include "onnx/import.h"
#include "onnx/onnx_pb.h"

namespace octet::onnx_io {

inline std::shared_ptr<const Buffer> ToBuffer(const std::string& bytes) {
  Buffer buffer = *Buffer::Allocate(static_cast<int64_t>(bytes.size()));
  if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
  return std::make_shared<const Buffer>(std::move(buffer));
}

class TestModel {
 public:
  using Dims = std::vector<int64_t>;

  explicit TestModel(int64_t opset = 17, int64_t ir = 8) {
    proto.set_ir_version(ir);
    proto.mutable_graph()->set_name("test");
    auto* import = proto.add_opset_import();
    import->set_domain("");
    import->set_version(opset);
  }

  ::onnx::ModelProto proto;
  ::onnx::GraphProto& graph() { return *proto.mutable_graph(); }

  TestModel& Input(const std::string& name, const Dims& dims,
                   int type = ::onnx::TensorProto::FLOAT) {
    SetType(name, dims, type, graph().add_input());
    return *this;
  }
  TestModel& Output(const std::string& name, const Dims& dims = {},
                    int type = ::onnx::TensorProto::FLOAT) {
    SetType(name, dims, type, graph().add_output());
    return *this;
  }
  // Raw content.
  template <typename T>
  ::onnx::TensorProto* Init(const std::string& name, const Dims& dims, int type,
                            const std::vector<T>& values) {
    auto* t = graph().add_initializer();
    t->set_name(name);
    Fill(t, dims, type, values);
    return t;
  }
  TestModel& F32(const std::string& name, const Dims& dims, const std::vector<float>& values) {
    Init(name, dims, ::onnx::TensorProto::FLOAT, values);
    return *this;
  }
  TestModel& S64(const std::string& name, const Dims& dims, const std::vector<int64_t>& values) {
    Init(name, dims, ::onnx::TensorProto::INT64, values);
    return *this;
  }
  TestModel& U8(const std::string& name, const Dims& dims, const std::vector<uint8_t>& values) {
    Init(name, dims, ::onnx::TensorProto::UINT8, values);
    return *this;
  }
  TestModel& S8(const std::string& name, const Dims& dims, const std::vector<int8_t>& values) {
    Init(name, dims, ::onnx::TensorProto::INT8, values);
    return *this;
  }
  TestModel& S32(const std::string& name, const Dims& dims, const std::vector<int32_t>& values) {
    Init(name, dims, ::onnx::TensorProto::INT32, values);
    return *this;
  }

  ::onnx::NodeProto* Node(const std::string& op, const std::vector<std::string>& inputs,
                          const std::vector<std::string>& outputs, const std::string& name = "") {
    auto* node = graph().add_node();
    node->set_op_type(op);
    node->set_name(name);
    for (const auto& i : inputs) node->add_input(i);
    for (const auto& o : outputs) node->add_output(o);
    return node;
  }

  absl::StatusOr<graph::Graph> Import(const ImportOptions& options = {}) const {
    return ImportBytes(ToBuffer(proto.SerializeAsString()), "test.onnx", options);
  }

  template <typename T>
  static void Fill(::onnx::TensorProto* t, const Dims& dims, int type,
                   const std::vector<T>& values) {
    t->set_data_type(type);
    for (int64_t d : dims) t->add_dims(d);
    t->set_raw_data(values.data(), values.size() * sizeof(T));
  }

 private:
  static void SetType(const std::string& name, const Dims& dims, int type,
                      ::onnx::ValueInfoProto* info) {
    info->set_name(name);
    auto* tensor = info->mutable_type()->mutable_tensor_type();
    tensor->set_elem_type(type);
    if (dims.empty()) return;  // rank unknown
    for (int64_t d : dims) tensor->mutable_shape()->add_dim()->set_dim_value(d);
  }
};

inline ::onnx::NodeProto* SetInt(::onnx::NodeProto* node, const std::string& key, int64_t v) {
  auto* a = node->add_attribute();
  a->set_name(key);
  a->set_type(::onnx::AttributeProto::INT);
  a->set_i(v);
  return node;
}
inline ::onnx::NodeProto* SetFloat(::onnx::NodeProto* node, const std::string& key, float v) {
  auto* a = node->add_attribute();
  a->set_name(key);
  a->set_type(::onnx::AttributeProto::FLOAT);
  a->set_f(v);
  return node;
}
inline ::onnx::NodeProto* SetString(::onnx::NodeProto* node, const std::string& key,
                                    const std::string& v) {
  auto* a = node->add_attribute();
  a->set_name(key);
  a->set_type(::onnx::AttributeProto::STRING);
  a->set_s(v);
  return node;
}
inline ::onnx::NodeProto* SetInts(::onnx::NodeProto* node, const std::string& key,
                                  const std::vector<int64_t>& v) {
  auto* a = node->add_attribute();
  a->set_name(key);
  a->set_type(::onnx::AttributeProto::INTS);
  for (int64_t x : v) a->add_ints(x);
  return node;
}
inline ::onnx::NodeProto* SetFloats(::onnx::NodeProto* node, const std::string& key,
                                    const std::vector<float>& v) {
  auto* a = node->add_attribute();
  a->set_name(key);
  a->set_type(::onnx::AttributeProto::FLOATS);
  for (float x : v) a->add_floats(x);
  return node;
}

// Operators of a graph in order: "Conv Relu".
inline std::string Operators(const graph::Graph& graph) {
  std::string out;
  for (const graph::Node& node : graph.nodes) out += (out.empty() ? "" : " ") + node.op;
  return out;
}

// A small model with a convolution, a residual sum and a classifier: what tests cut up and flip
// bits in.
inline TestModel SmallNet() {
  TestModel m;
  m.Input("x", {1, 2, 4, 4}).Output("y", {1, 3});
  m.F32("w", {2, 2, 3, 3}, std::vector<float>(36, 0.25f)).F32("b", {2}, {0.5f, -1});
  m.F32("fc", {3, 2}, {1, 2, 3, 4, 5, 6}).S64("shape", {2}, {0, -1});
  SetInts(m.Node("Conv", {"x", "w", "b"}, {"c"}, "conv1"), "pads", {1, 1, 1, 1});
  m.Node("Relu", {"c"}, {"r"}, "relu1");
  m.Node("Add", {"r", "x"}, {"s"}, "add1");
  m.Node("GlobalAveragePool", {"s"}, {"p"}, "pool");
  m.Node("Reshape", {"p", "shape"}, {"f"}, "flat");
  SetInt(m.Node("Gemm", {"f", "fc"}, {"g"}, "fc"), "transB", 1);
  SetInt(m.Node("Softmax", {"g"}, {"y"}, "soft"), "axis", 1);
  return m;
}

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_TEST_MODEL_H_
