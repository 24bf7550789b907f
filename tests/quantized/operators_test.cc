// Each quantized operator alone, in every form, within one quantization step of ONNX Runtime; products run on integers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/rng.h"
#include "kernels/onednn_product.h"
#include "onnx/test_model.h"
#include "tests/quantized/peers.h"

namespace octet {
namespace {

using Proto = ::onnx::TensorProto;
using onnx_io::TestModel;

std::vector<double> Uniform(int64_t n, double low, double high, uint64_t seed) {
  const CounterRng rng(seed);
  std::vector<double> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i) out[i] = low + (high - low) * rng.Uniform(i);
  return out;
}

template <typename T>
std::vector<T> Cast(const std::vector<double>& x) {
  std::vector<T> out;
  for (double v : x) out.push_back(static_cast<T>(std::is_integral_v<T> ? std::floor(v) : v));
  return out;
}

DType DTypeOf(int type) {
  switch (type) {
    case Proto::FLOAT:
      return DType::kF32;
    case Proto::UINT8:
      return DType::kU8;
    case Proto::INT8:
      return DType::kS8;
    case Proto::UINT16:
      return DType::kU16;
    case Proto::INT16:
      return DType::kS16;
    default:
      return DType::kS32;
  }
}

// One model under construction with the inputs of its run. Names are given as the nodes are added.
class Net {
 public:
  explicit Net(int64_t opset = 21) : model(opset, 10) {
    auto* import = model.proto.add_opset_import();
    import->set_domain("com.microsoft");
    import->set_version(1);
  }

  std::string Input(const Shape& shape, int type = Proto::FLOAT, double low = -3, double high = 5) {
    const std::string name = absl::StrCat("in", inputs.size());
    model.Input(name, {shape.begin(), shape.end()}, type);
    if (!shape.empty()) {
      auto* info = model.graph().mutable_input(model.graph().input_size() - 1);
      info->mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim(0)->set_dim_param("batch");
    }
    const std::vector<double> x = Uniform(NumElements(shape), low, high, ++seed_);
    switch (DTypeOf(type)) {
      case DType::kF32:
        inputs.push_back(Tensor::FromF32(shape, Cast<float>(x)));
        break;
      case DType::kU8:
        inputs.push_back(Tensor::FromValues<uint8_t>(DType::kU8, shape, Cast<uint8_t>(x)));
        break;
      default:
        inputs.push_back(Tensor::FromValues<int8_t>(DType::kS8, shape, Cast<int8_t>(x)));
    }
    return name;
  }
  // 8-bit input over its whole range.
  std::string Bytes(const Shape& shape, int type) {
    return type == Proto::UINT8 ? Input(shape, type, 0, 256) : Input(shape, type, -128, 128);
  }

  std::string F32(const Shape& shape, const std::vector<double>& x) {
    const std::string name = Next("f");
    model.F32(name, {shape.begin(), shape.end()}, Cast<float>(x));
    return name;
  }
  std::string Scale(double s) { return F32({}, {s}); }
  std::string Scales(int64_t n, double low = 0.01, double high = 0.03) {
    return F32({n}, Uniform(n, low, high, ++seed_));
  }
  std::string Ints(int type, const Shape& shape, const std::vector<double>& x) {
    const std::string name = Next("q");
    const TestModel::Dims dims(shape.begin(), shape.end());
    switch (type) {
      case Proto::UINT8:
        model.Init(name, dims, type, Cast<uint8_t>(x));
        break;
      case Proto::INT8:
        model.Init(name, dims, type, Cast<int8_t>(x));
        break;
      case Proto::UINT16:
        model.Init(name, dims, type, Cast<uint16_t>(x));
        break;
      case Proto::INT16:
        model.Init(name, dims, type, Cast<int16_t>(x));
        break;
      case Proto::INT32:
        model.Init(name, dims, type, Cast<int32_t>(x));
        break;
      case Proto::INT64:
        model.Init(name, dims, type, Cast<int64_t>(x));
        break;
      default: {  // two to a byte
        std::vector<uint8_t> bytes((x.size() + 1) / 2);
        for (size_t i = 0; i < x.size(); ++i) {
          const int code = static_cast<int>(std::floor(x[i])) & 15;
          bytes[i / 2] = static_cast<uint8_t>(bytes[i / 2] | code << (i % 2 * 4));
        }
        model.Init(name, dims, type, bytes);
      }
    }
    return name;
  }
  std::string Zero(int type, int z) { return Ints(type, {}, {static_cast<double>(z)}); }
  std::string Weights(int type, const Shape& shape) {
    double low = -127, high = 128;
    if (type == Proto::UINT8) low = 0, high = 256;
    if (type == Proto::INT4) low = -8, high = 8;
    if (type == Proto::UINT4) low = 0, high = 16;
    return Ints(type, shape, Uniform(NumElements(shape), low, high, ++seed_));
  }

  ::onnx::NodeProto* last = nullptr;
  std::string Node(const std::string& op, const std::vector<std::string>& in, const char* domain = "",
                   std::vector<std::string> out = {}) {
    if (out.empty()) out = {Next("v")};
    last = model.Node(op, in, out, absl::StrCat("node_", out[0]));
    last->set_domain(domain);
    return out[0];
  }
  std::string Ms(const std::string& op, const std::vector<std::string>& in) {
    return Node(op, in, "com.microsoft");
  }
  void Attr(const std::string& key, int64_t v) { onnx_io::SetInt(last, key, v); }
  void Attr(const std::string& key, const std::vector<int64_t>& v) {
    auto* a = last->add_attribute();
    a->set_name(key);
    a->set_type(::onnx::AttributeProto::INTS);
    for (int64_t i : v) a->add_ints(i);
  }
  void Attr(const std::string& key, float v) {
    auto* a = last->add_attribute();
    a->set_name(key);
    a->set_type(::onnx::AttributeProto::FLOAT);
    a->set_f(v);
  }
  void Attr(const std::string& key, const char* v) {
    auto* a = last->add_attribute();
    a->set_name(key);
    a->set_type(::onnx::AttributeProto::STRING);
    a->set_s(v);
  }
  std::string Q(const std::string& x, double scale, int type, int zero) {
    return Node("QuantizeLinear", {x, Scale(scale), Zero(type, zero)});
  }
  std::string Dq(const std::string& x, double scale, int type, int zero) {
    return Node("DequantizeLinear", {x, Scale(scale), Zero(type, zero)});
  }
  std::string Qdq(const std::string& x, double scale, int type, int zero) {
    return Dq(Q(x, scale, type, zero), scale, type, zero);
  }

  // `step`: what one quantization step of the output is worth; 0: f32 results, relative to their size.
  void Output(const std::string& name, int type, double step_of_output) {
    model.Output(name, {}, type);
    step = step_of_output;
  }

  TestModel model;
  std::vector<Tensor> inputs;
  double step = 0;
  Optimize optimize = Optimize::kYes;  // whether ONNX Runtime may rewrite the model
  bool packed = false;        // the product reads weights of at most 8 bits, packed in panels
  bool int8 = true;           // every product reads 8 bits
  std::string not_batchable;  // operator that the batch proof must name

 private:
  std::string Next(const char* stem) { return absl::StrCat(stem, ++count_); }
  int count_ = 0;
  uint64_t seed_ = 100;
};

void Compare(const Net& net) {
  const std::string bytes = net.model.proto.SerializeAsString();
  const auto octet = RunOctet(bytes, net.inputs);
  ASSERT_TRUE(octet.ok()) << octet.status();
  const auto peer = RunOnnxRuntime(bytes, net.inputs, net.optimize);
  ASSERT_TRUE(peer.ok()) << peer.status();
  ASSERT_EQ(octet->outputs.size(), peer->size());
  for (size_t i = 0; i < peer->size(); ++i) {
    const Tensor &found = octet->outputs[i], &expected = (*peer)[i];
    ASSERT_EQ(found.dtype(), expected.dtype()) << i;
    ASSERT_EQ(found.shape(), expected.shape()) << i;
    const std::vector<double> f = found.ToF64(), e = expected.ToF64();
    double largest = 0, worst = 0;
    size_t distinct = 0;
    for (size_t k = 0; k < e.size(); ++k) {
      largest = std::max(largest, std::fabs(e[k]));
      worst = std::max(worst, std::fabs(e[k] - f[k]));
      distinct += e[k] != e[0];
    }
    EXPECT_TRUE(distinct > e.size() / 4 || e.size() < 4) << "the case saturates: it tests nothing";
    const double limit = net.step > 0 ? net.step * 1.0001 : 2e-5 * largest;
    EXPECT_LE(worst, limit) << "output " << i << ", largest " << largest;
  }
  const Int8Share share = ShareOf(octet->steps);
  if (net.int8) {
    EXPECT_TRUE(share.floats.empty()) << absl::StrJoin(share.floats, "; ");
    EXPECT_TRUE(share.references.empty()) << absl::StrJoin(share.references, "; ");
  }
  for (const engine::StepInfo& step : octet->steps) {
    if (!net.packed || step.multiply_adds == 0) continue;
    EXPECT_TRUE(absl::StrContains(step.implementation, "panels")) << step.implementation;
    EXPECT_GT(step.weights_bytes, 0);
    EXPECT_LE(step.weights_bytes, 96 * 24) << "more than a byte per weight";
  }
  if (!net.not_batchable.empty()) {
    EXPECT_FALSE(octet->batchable);
    EXPECT_TRUE(absl::StrContains(octet->mixing, net.not_batchable)) << octet->mixing;
  }
}

struct Case {
  const char* name;
  std::function<void(Net&)> make;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// ---- QDQ

struct WeightsForm {
  int type = Proto::INT8;
  enum class Zero { kNone, kMiddle, kOne, kEach } zero = Zero::kNone;
  bool per_channel = false;
};

// DequantizeLinear of constant weights with `channels` along `axis`.
std::string DqWeights(Net& n, const Shape& shape, int64_t axis, const WeightsForm& form) {
  const int64_t channels = shape[static_cast<size_t>(axis)];
  const bool each = form.per_channel;
  std::vector<double> z(static_cast<size_t>(each ? channels : 1), form.type == Proto::UINT8 ? 128 : 0);
  for (size_t c = 0; c < z.size(); ++c) {
    if (form.zero == WeightsForm::Zero::kOne) z[c] += 11;
    if (form.zero == WeightsForm::Zero::kEach) z[c] += static_cast<double>(c * 7 % 23) - 9;
  }
  const Shape params = each ? Shape{channels} : Shape{};
  const std::string q = n.Weights(form.type, shape);
  const std::string scale = each ? n.Scales(channels) : n.Scale(0.02);
  const std::string y = n.Node("DequantizeLinear", {q, scale, n.Ints(form.type, params, z)});
  if (each) n.Attr("axis", axis);
  return y;
}

std::function<void(Net&)> QdqConv(int type, int zero, const WeightsForm& form, int64_t group = 1) {
  return [=](Net& n) {
    const std::string x = n.Qdq(n.Input({2, 16, 9, 7}), 0.033, type, zero);
    const std::string w = DqWeights(n, {24, 16 / group, 3, 3}, 0, form);
    const std::string y = n.Node("Conv", {x, w, n.F32({24}, Uniform(24, -2, 2, 5))});
    n.Attr("pads", std::vector<int64_t>{1, 1, 1, 1});
    n.Attr("group", group);
    n.Output(n.Q(y, group > 1 ? 0.6 : 1.0, type, zero), type, 1);
  };
}

std::function<void(Net&)> QdqMatMul(int type, int zero, const WeightsForm& form) {
  return [=](Net& n) {
    const std::string x = n.Qdq(n.Input({3, 5, 40}), 0.033, type, zero);
    const std::string w = DqWeights(n, {40, 24}, 1, form);
    n.Output(n.Q(n.Node("MatMul", {x, w}), 0.6, type, zero), type, 1);
  };
}

std::function<void(Net&)> QdqMove(const char* op) {
  const std::string kind = op;
  return [kind](Net& n) {
    const std::string x = n.Qdq(n.Input({1, 8, 6, 6}), 0.033, Proto::UINT8, 90);
    std::string y = x;
    if (kind == "MaxPool") {
      y = n.Node("MaxPool", {x});
      n.Attr("kernel_shape", std::vector<int64_t>{2, 2});
    } else if (kind == "Transpose") {
      y = n.Node("Transpose", {x});
      n.Attr("perm", std::vector<int64_t>{0, 1, 3, 2});
    } else if (kind == "Resize") {
      y = n.Node("Resize", {x, "", n.F32({4}, {1, 1, 2, 2})});
    } else if (kind == "Identity") {
      y = n.Node("Identity", {x});
    } else if (kind == "Split") {
      y = n.Node("Split", {x}, "", {"left", "right"});
      n.Attr("axis", int64_t{1});
      n.Attr("num_outputs", int64_t{2});
      const std::string right = n.Qdq("right", 0.033, Proto::UINT8, 90);
      y = n.Node("Concat", {right, n.Qdq("left", 0.033, Proto::UINT8, 90)});
      n.Attr("axis", int64_t{1});
    }
    y = n.Qdq(y, 0.033, Proto::UINT8, 90);
    const int64_t channels = 8;
    const std::string w = DqWeights(n, {12, channels, 1, 1}, 0, {Proto::INT8, {}, true});
    n.Output(n.Q(n.Node("Conv", {y, w}), 0.3, Proto::UINT8, 120), Proto::UINT8, 1);
  };
}

constexpr auto kNone = WeightsForm::Zero::kNone;
constexpr auto kMiddle = WeightsForm::Zero::kMiddle;
constexpr auto kOne = WeightsForm::Zero::kOne;
constexpr auto kEach = WeightsForm::Zero::kEach;

std::vector<Case> QdqCases() {
  constexpr int kU8 = Proto::UINT8, kS8 = Proto::INT8;
  return {
      {"ConvU8", QdqConv(kU8, 100, {kS8, kNone, false})},
      {"ConvU8PerChannel", QdqConv(kU8, 100, {kS8, kNone, true})},
      {"ConvS8", QdqConv(kS8, -10, {kS8, kNone, false})},
      {"ConvS8PerChannel", QdqConv(kS8, -10, {kS8, kNone, true})},
      {"ConvU8WeightsU8", QdqConv(kU8, 100, {kU8, kMiddle, false})},
      {"ConvU8WeightsU8ZeroPoint", QdqConv(kU8, 100, {kU8, kOne, false})},
      {"ConvU8WeightsU8ZeroPoints", QdqConv(kU8, 100, {kU8, kEach, true})},
      {"ConvS8WeightsS8ZeroPoints", QdqConv(kS8, 3, {kS8, kEach, true})},
      {"DepthwiseConv", QdqConv(kU8, 100, {kS8, kNone, true}, 8)},
      {"DepthwiseConvZeroPoints", QdqConv(kU8, 100, {kU8, kEach, true}, 8)},
      {"MatMulU8", QdqMatMul(kU8, 100, {kS8, kNone, false})},
      {"MatMulU8PerColumn", QdqMatMul(kU8, 100, {kS8, kNone, true})},
      {"MatMulS8PerColumn", QdqMatMul(kS8, -10, {kS8, kNone, true})},
      {"MatMulU8WeightsU8", QdqMatMul(kU8, 100, {kU8, kMiddle, false})},
      {"MatMulU8WeightsU8ZeroPoint", QdqMatMul(kU8, 100, {kU8, kOne, false})},
      {"MatMulU8WeightsU8ZeroPoints", QdqMatMul(kU8, 100, {kU8, kEach, true})},
      {"MatMulS8WeightsS8ZeroPoints", QdqMatMul(kS8, 0, {kS8, kEach, true})},
      {"MatMulOfActivations",
       [](Net& n) {
         const std::string a = n.Qdq(n.Input({2, 3, 7, 32}), 0.033, Proto::UINT8, 100);
         const std::string b = n.Qdq(n.Input({2, 3, 32, 9}), 0.033, Proto::UINT8, 90);
         n.Output(n.Q(n.Node("MatMul", {a, b}), 0.6, Proto::UINT8, 100), Proto::UINT8, 1);
       }},
      {"GemmTransB",
       [](Net& n) {
         const std::string x = n.Qdq(n.Input({5, 40}), 0.033, Proto::UINT8, 100);
         const std::string w = DqWeights(n, {24, 40}, 0, {Proto::UINT8, kEach, true});
         const std::string y = n.Node("Gemm", {x, w, n.F32({24}, Uniform(24, -2, 2, 5))});
         n.Attr("transB", int64_t{1});
         n.Output(n.Q(y, 0.6, Proto::UINT8, 100), Proto::UINT8, 1);
       }},
      {"MatMulOfTransposedWeights",
       [](Net& n) {
         const std::string x = n.Qdq(n.Input({3, 5, 40}), 0.033, Proto::UINT8, 100);
         const std::string w = DqWeights(n, {24, 40}, 0, {Proto::INT8, kNone, true});
         const std::string t = n.Node("Transpose", {w});
         n.Attr("perm", std::vector<int64_t>{1, 0});
         n.Output(n.Q(n.Node("MatMul", {x, t}), 0.6, Proto::UINT8, 100), Proto::UINT8, 1);
       }},
      {"AroundMaxPool", QdqMove("MaxPool")},
      {"AroundTranspose", QdqMove("Transpose")},
      {"AroundResize", QdqMove("Resize")},
      {"AroundIdentity", QdqMove("Identity")},
      {"AroundSplitAndConcat", QdqMove("Split")},
      {"SixteenBitActivations",
       [](Net& n) {
         const std::string x = n.Qdq(n.Input({1, 6, 5, 5}), 0.0002, Proto::UINT16, 20000);
         const std::string w = DqWeights(n, {8, 6, 1, 1}, 0, {});
         n.Output(n.Q(n.Node("Conv", {x, w}), 0.004, Proto::INT16, -5), Proto::INT16, 1);
         n.int8 = false;  // computed through f32
       }},
      {"ComputedScale",
       [](Net& n) {
         const std::string x = n.Input({4, 6});
         const std::string top = n.Node("ReduceMax", {n.Node("Abs", {x})});
         n.Attr("keepdims", int64_t{0});
         const std::string scale = n.Node("Div", {top, n.Scale(100)});
         const std::string q = n.Node("QuantizeLinear", {x, scale, n.Zero(Proto::UINT8, 128)});
         const std::string r = n.Node("DequantizeLinear", {q, scale, n.Zero(Proto::UINT8, 128)});
         n.Output(q, Proto::UINT8, 0);
         n.Output(r, Proto::FLOAT, 0.06);
         n.int8 = false;
       }},
      {"ComputedScalePerAxis",
       [](Net& n) {
         const std::string x = n.Input({3, 5, 4});
         const std::string top = n.Node("ReduceMax", {n.Node("Abs", {x}), n.Ints(Proto::INT64, {2}, {0, 2})});
         n.Attr("keepdims", int64_t{0});
         const std::string scale = n.Node("Div", {top, n.Scale(100)});
         const std::string q = n.Node("QuantizeLinear", {x, scale});
         n.Attr("axis", int64_t{1});
         const std::string r = n.Node("DequantizeLinear", {q, scale});
         n.Attr("axis", int64_t{1});
         n.Output(r, Proto::FLOAT, 0.06);
         n.int8 = false;
       }},
      {"PerAxisActivation",
       [](Net& n) {
         const std::string x = n.Input({3, 5, 4});
         const std::string scale = n.Scales(5, 0.02, 0.04), zero = n.Ints(Proto::INT8, {5}, {0, 1, -2, 3, 9});
         const std::string q = n.Node("QuantizeLinear", {x, scale, zero});
         n.Attr("axis", int64_t{1});
         const std::string r = n.Node("DequantizeLinear", {q, scale, zero});
         n.Attr("axis", int64_t{1});
         n.Output(r, Proto::FLOAT, 0.04);
         n.int8 = false;
       }},
      {"IntegersOfQuantizedTensors",
       [](Net& n) {  // arithmetic on codes, and codes read with another scale than they were written with
         const std::string q = n.Q(n.Input({4, 8}), 0.033, Proto::UINT8, 90);
         const std::string codes = n.Node("Cast", {q});
         n.Attr("to", int64_t{Proto::FLOAT});
         n.Output(n.Node("Add", {codes, n.Dq(q, 0.5, Proto::UINT8, 3)}), Proto::FLOAT, 0.5);
         n.int8 = false;
       }},
  };
}

// ---- weights in blocks

std::function<void(Net&)> Blocked(int type, bool zero_points) {
  return [=](Net& n) {
    const std::string x = n.Input({3, 96});
    const std::string q = n.Weights(type, {96, 24});
    std::vector<std::string> in = {q, n.F32({3, 24}, Uniform(72, 0.01, 0.03, 9))};
    const double low = type == Proto::UINT4 ? 5 : type == Proto::UINT8 ? 120 : -2;
    if (zero_points) in.push_back(n.Ints(type, {3, 24}, Uniform(72, low, low + 5, 10)));
    const std::string w = n.Node("DequantizeLinear", in);
    n.Attr("axis", int64_t{0});
    n.Attr("block_size", int64_t{32});
    // The source is quantized row by row: an error of at most scale / 2 per element, 96 of them with weights of 0.1.
    n.Output(n.Node("MatMul", {x, w}), Proto::FLOAT, type == Proto::UINT8 ? 0 : type == Proto::INT8 ? 0.7 : 0.05);
    n.int8 = false;
    n.packed = !(zero_points && type == Proto::UINT8);  // 8 bits with zero points are unpacked
  };
}

std::function<void(Net&)> NBits(int64_t bits, int64_t k, bool zero_points, bool bias) {
  return [=](Net& n) {
    const int64_t block = 32, blocks = (k + block - 1) / block, columns = 24;
    const std::string x = n.Input({2, 3, k});
    const int64_t bytes = block * bits / 8;
    std::vector<std::string> in = {
        x, n.Ints(Proto::UINT8, {columns, blocks, bytes}, Uniform(columns * blocks * bytes, 0, 256, 4)),
        n.F32({columns * blocks}, Uniform(columns * blocks, -0.02, 0.03, 9))};
    const int64_t zero_bytes = (blocks * bits + 7) / 8;
    if (zero_points || bias) {
      in.push_back(zero_points ? n.Ints(Proto::UINT8, {columns * zero_bytes},
                                        Uniform(columns * zero_bytes, 0, 256, 5))
                               : "");
    }
    if (bias) {
      in.push_back("");
      in.push_back(n.F32({columns}, Uniform(columns, -2, 2, 6)));
    }
    n.Output(n.Ms("MatMulNBits", in), Proto::FLOAT, 0.05);
    n.Attr("K", k);
    n.Attr("N", columns);
    n.Attr("bits", bits);
    n.Attr("block_size", block);
    n.int8 = false;
    n.packed = true;
  };
}

std::vector<Case> WeightOnlyCases() {
  return {{"BlockedS4Transposed",
           [](Net& n) {
             const std::string w =
                 n.Node("DequantizeLinear", {n.Weights(Proto::INT4, {24, 96}), n.F32({24, 3}, Uniform(72, 0.01, 0.03, 9))});
             n.Attr("axis", int64_t{1});
             n.Attr("block_size", int64_t{32});
             const std::string t = n.Node("Transpose", {w});
             n.Output(n.Node("MatMul", {n.Input({3, 96}), t}), Proto::FLOAT, 0.05);
             n.int8 = false;
             n.packed = true;
           }},
          {"BlockedS8", Blocked(Proto::INT8, false)},
          {"BlockedU8ZeroPoints", Blocked(Proto::UINT8, true)},
          {"BlockedS4", Blocked(Proto::INT4, false)},
          {"BlockedU4ZeroPoints", Blocked(Proto::UINT4, true)},
          {"MatMul4Bits", NBits(4, 96, false, false)},
          {"MatMul4BitsZeroPoints", NBits(4, 96, true, false)},
          {"MatMul4BitsTail", NBits(4, 80, true, false)},
          {"MatMul4BitsBias", NBits(4, 96, false, true)}};
}

// ---- QOperator

std::function<void(Net&)> QLinearConv(int x_type, int w_type, bool per_channel, bool bias) {
  return [=](Net& n) {
    const std::string x = n.Bytes({2, 16, 9, 7}, x_type);
    const std::string w = n.Weights(w_type, {24, 16, 3, 3});
    const std::string w_scale = per_channel ? n.Scales(24) : n.Scale(0.02);
    const int zero = w_type == Proto::UINT8 ? 121 : 0;
    const std::string w_zero = per_channel ? n.Ints(w_type, {24}, std::vector<double>(24, zero))
                                           : n.Zero(w_type, zero);
    std::vector<std::string> in = {x, n.Scale(0.03), n.Zero(x_type, x_type == Proto::UINT8 ? 130 : 2), w,
                                   w_scale, w_zero, n.Scale(1.3), n.Zero(x_type, x_type == Proto::UINT8 ? 127 : 0)};
    if (bias) in.push_back(n.Ints(Proto::INT32, {24}, Uniform(24, -9000, 9000, 3)));
    const std::string y = n.Node("QLinearConv", in);
    n.Attr("pads", std::vector<int64_t>{1, 1, 1, 1});
    n.Output(y, x_type, 1);
  };
}

std::function<void(Net&)> QLinearMatMul(int a_type, int b_type, bool per_column, bool computed_b) {
  return [=](Net& n) {
    const std::string a = n.Bytes({2, 5, 40}, a_type);
    const std::string b = computed_b ? n.Bytes({2, 40, 24}, b_type) : n.Weights(b_type, {40, 24});
    const int zero = b_type == Proto::UINT8 ? 131 : 0;
    const std::string b_scale = per_column ? n.Scales(24) : n.Scale(0.02);
    const std::string b_zero =
        per_column ? n.Ints(b_type, {24}, std::vector<double>(24, zero)) : n.Zero(b_type, zero);
    const std::string y = n.Node("QLinearMatMul", {a, n.Scale(0.03), n.Zero(a_type, a_type == Proto::UINT8 ? 120 : 1),
                                                   b, b_scale, b_zero, n.Scale(0.7),
                                                   n.Zero(a_type, a_type == Proto::UINT8 ? 125 : 3)});
    n.Output(y, a_type, 1);
  };
}

// com.microsoft operators of one operand on bytes as graph input and output.
std::function<void(Net&)> QLinearUnary(const char* op, int type, double y_scale, int y_zero) {
  const std::string name = op;
  return [=](Net& n) {
    const std::string x = n.Bytes({2, 6, 8, 8}, type);
    const std::string y = n.Ms(name, {x, n.Scale(0.05), n.Zero(type, type == Proto::UINT8 ? 128 : 4),
                                      n.Scale(y_scale), n.Zero(type, y_zero)});
    if (name == "QLinearAveragePool") n.Attr("kernel_shape", std::vector<int64_t>{2, 2});
    if (name == "QLinearLeakyRelu") n.Attr("alpha", 0.1f);
    if (name == "QLinearSoftmax") n.Attr("opset", int64_t{13});
    n.Output(y, type, 1);
  };
}

std::function<void(Net&)> QLinearBinary(const char* op, int type, Shape b_shape) {
  const std::string name = op;
  return [=](Net& n) {
    const std::string a = n.Bytes({2, 6, 8, 8}, type), b = n.Bytes(b_shape, type);
    const int middle = type == Proto::UINT8 ? 128 : 0;
    const double y = name == "QLinearMul" ? 0.2 : 0.08;
    n.Output(n.Ms(name, {a, n.Scale(0.05), n.Zero(type, middle + 3), b, n.Scale(0.03), n.Zero(type, middle - 4),
                         n.Scale(y), n.Zero(type, middle)}),
             type, 1);
  };
}

std::vector<Case> QOperatorCases() {
  constexpr int kU8 = Proto::UINT8, kS8 = Proto::INT8;
  return {
      {"ConvU8S8", QLinearConv(kU8, kS8, false, true)},
      {"ConvU8S8PerChannel", QLinearConv(kU8, kS8, true, true)},
      {"ConvS8S8", QLinearConv(kS8, kS8, true, false)},
      {"ConvU8U8", QLinearConv(kU8, kU8, false, true)},
      {"MatMulU8S8", QLinearMatMul(kU8, kS8, false, false)},
      {"MatMulU8S8PerColumn", QLinearMatMul(kU8, kS8, true, false)},
      {"MatMulU8U8", QLinearMatMul(kU8, kU8, false, false)},
      {"MatMulU8U8PerColumn", QLinearMatMul(kU8, kU8, true, false)},
      {"MatMulS8S8", QLinearMatMul(kS8, kS8, false, false)},
      {"MatMulOfActivationsU8U8", QLinearMatMul(kU8, kU8, false, true)},
      {"MatMulOfActivationsS8S8", QLinearMatMul(kS8, kS8, false, true)},
      {"Sigmoid", QLinearUnary("QLinearSigmoid", kU8, 1.0 / 256, 0)},
      {"SigmoidS8", QLinearUnary("QLinearSigmoid", kS8, 1.0 / 256, -128)},
      {"LeakyRelu", QLinearUnary("QLinearLeakyRelu", kU8, 0.03, 20)},
      {"AveragePool", QLinearUnary("QLinearAveragePool", kU8, 0.04, 120)},
      {"AveragePoolS8", QLinearUnary("QLinearAveragePool", kS8, 0.04, 5)},
      {"GlobalAveragePool", QLinearUnary("QLinearGlobalAveragePool", kU8, 0.008, 120)},
      {"Softmax", QLinearUnary("QLinearSoftmax", kU8, 1.0 / 256, 0)},
      {"FlattenedSoftmax",
       [](Net& n) {
         const std::string x = n.Bytes({2, 6, 2, 1}, kU8);
         const std::string y = n.Ms("QLinearSoftmax", {x, n.Scale(0.05), n.Zero(kU8, 128), n.Scale(1.0 / 256), n.Zero(kU8, 0)});
         n.Attr("opset", int64_t{12});
         n.Attr("axis", int64_t{1});
         n.Output(y, kU8, 1);
       }},
      {"Add", QLinearBinary("QLinearAdd", kU8, {2, 6, 8, 8})},
      {"AddS8Broadcast", QLinearBinary("QLinearAdd", kS8, {6, 1, 1})},
      {"Mul", QLinearBinary("QLinearMul", kU8, {2, 6, 8, 8})},
      {"Concat",
       [](Net& n) {
         const std::string a = n.Bytes({2, 3, 4}, kU8), b = n.Bytes({2, 5, 4}, kU8);
         const std::string y = n.Ms("QLinearConcat", {n.Scale(0.06), n.Zero(kU8, 120), a, n.Scale(0.05), n.Zero(kU8, 128),
                                                      b, n.Scale(0.03), n.Zero(kU8, 90)});
         n.Attr("axis", int64_t{1});
         n.Output(y, kU8, 1);
       }},
      {"Where",
       [](Net& n) {
         const std::string c = n.Node("Less", {n.Input({2, 8}), n.Scale(1)});
         const std::string a = n.Bytes({2, 8}, kU8), b = n.Bytes({2, 8}, kU8);
         n.Output(n.Ms("QLinearWhere", {c, a, n.Scale(0.05), n.Zero(kU8, 128), b, n.Scale(0.03), n.Zero(kU8, 90),
                                        n.Scale(0.06), n.Zero(kU8, 120)}),
                  kU8, 1);
       }},
      {"QGemm",
       [](Net& n) {
         const std::string a = n.Bytes({5, 40}, kU8), b = n.Weights(kS8, {24, 40});
         const std::string c = n.Ints(Proto::INT32, {24}, Uniform(24, -9000, 9000, 3));
         const std::string y = n.Ms("QGemm", {a, n.Scale(0.03), n.Zero(kU8, 120), b, n.Scales(24),
                                              n.Ints(kS8, {24}, std::vector<double>(24, 0)), c, n.Scale(0.7),
                                              n.Zero(kU8, 125)});
         n.Attr("transB", int64_t{1});
         n.Output(y, kU8, 1);
       }},
      {"QGemmIntoF32",
       [](Net& n) {
         const std::string a = n.Bytes({5, 40}, kU8), b = n.Weights(kU8, {40, 24});
         n.Output(n.Ms("QGemm", {a, n.Scale(0.03), n.Zero(kU8, 120), b, n.Scale(0.02), n.Zero(kU8, 117)}),
                  Proto::FLOAT, 0);
       }},
  };
}

// ---- integer form

std::function<void(Net&)> MatMulInteger(int a_type, int b_type, bool zeros, bool per_column) {
  return [=](Net& n) {
    const std::string a = n.Bytes({2, 5, 400}, a_type), b = n.Weights(b_type, {400, 24});
    std::vector<std::string> in = {a, b};
    if (zeros) {
      in.push_back(n.Zero(a_type, a_type == Proto::UINT8 ? 120 : 3));
      const double z = b_type == Proto::UINT8 ? 117 : -4;
      in.push_back(per_column ? n.Ints(b_type, {24}, Uniform(24, z, z + 9, 8)) : n.Zero(b_type, static_cast<int>(z)));
    }
    n.Output(n.Node("MatMulInteger", in), Proto::INT32, per_column ? 1 : 0.1);
  };
}

// What ONNX Runtime's quantize_dynamic writes for a fully connected layer.
std::function<void(Net&)> DynamicLinear(int type, bool per_column, bool bias) {
  return [=](Net& n) {
    const std::string x = n.Input({4, 7, 64});
    n.Node("DynamicQuantizeLinear", {x}, "", {"xq", "xs", "xz"});
    const double z = type == Proto::UINT8 ? 119 : 0;
    const std::string zero = per_column ? n.Ints(type, {24}, Uniform(24, z, z + (z > 0 ? 9 : 1), 8))
                                        : n.Zero(type, static_cast<int>(z));
    const std::string sum = n.Node("MatMulInteger", {"xq", n.Weights(type, {64, 24}), "xz", zero});
    const std::string real = n.Node("Cast", {sum});
    n.Attr("to", int64_t{Proto::FLOAT});
    const std::string scale = n.Node("Mul", {"xs", per_column ? n.Scales(24) : n.Scale(0.02)});
    std::string y = n.Node("Mul", {real, scale});
    if (bias) y = n.Node("Add", {n.F32({24}, Uniform(24, -2, 2, 5)), y});
    n.Output(n.Node("Relu", {y}), Proto::FLOAT, 0);
    n.not_batchable = "DynamicQuantizeLinear";
  };
}

std::function<void(Net&)> DynamicConv(int type, bool zero) {
  return [=](Net& n) {
    const std::string x = n.Input({2, 16, 9, 7});
    n.Node("DynamicQuantizeLinear", {x}, "", {"xq", "xs", "xz"});
    const std::string w = n.Weights(type, {24, 16, 3, 3});
    const int z = zero ? 119 : type == Proto::UINT8 ? 128 : 0;
    const std::string sum = n.Node("ConvInteger", {"xq", w, "xz", n.Zero(type, z)});
    n.Attr("pads", std::vector<int64_t>{1, 1, 1, 1});
    const std::string real = n.Node("Cast", {sum});
    n.Attr("to", int64_t{Proto::FLOAT});
    const std::string y = n.Node("Mul", {real, n.Node("Mul", {"xs", n.Scale(0.02)})});
    n.Output(n.Node("Add", {y, n.F32({1, 24, 1, 1}, Uniform(24, -2, 2, 5))}), Proto::FLOAT, 0);
    n.not_batchable = "DynamicQuantizeLinear";
  };
}

std::vector<Case> IntegerCases() {
  constexpr int kU8 = Proto::UINT8, kS8 = Proto::INT8;
  return {
      {"MatMulIntegerU8S8", MatMulInteger(kU8, kS8, false, false)},
      {"MatMulIntegerU8U8ZeroPoints", MatMulInteger(kU8, kU8, true, false)},
      {"MatMulIntegerS8S8ZeroPoints", MatMulInteger(kS8, kS8, true, false)},
      {"MatMulIntegerU8U8PerColumn", MatMulInteger(kU8, kU8, true, true)},
      {"DynamicLinearS8", DynamicLinear(kS8, false, true)},
      {"DynamicLinearU8", DynamicLinear(kU8, false, false)},
      {"DynamicLinearS8PerColumn", DynamicLinear(kS8, true, true)},
      {"DynamicLinearU8PerColumn", DynamicLinear(kU8, true, true)},
      {"DynamicConvU8", DynamicConv(kU8, false)},
      {"DynamicConvU8ZeroPoint", DynamicConv(kU8, true)},
      {"ConvInteger",
       [](Net& n) {
         const std::string x = n.Bytes({1, 8, 7, 7}, kU8);
         n.Output(n.Node("ConvInteger", {x, n.Weights(kU8, {12, 8, 3, 3}), n.Zero(kU8, 119), n.Zero(kU8, 131)}),
                  Proto::INT32, 1);
       }},
      {"MatMulIntegerOfActivations",
       [](Net& n) {
         const std::string a = n.Bytes({2, 5, 16}, kU8), b = n.Bytes({2, 16, 9}, kU8);
         n.Output(n.Node("MatMulInteger", {a, b, n.Zero(kU8, 119), n.Zero(kU8, 131)}), Proto::INT32, 0.1);
         n.int8 = false;  // computed operands on both sides: f32, exact below 2^24
       }},
      {"DynamicQuantizeLinear",
       [](Net& n) {
         n.Node("DynamicQuantizeLinear", {n.Input({4, 7, 64})}, "", {"xq", "xs", "xz"});
         n.Output("xq", kU8, 0);
         n.Output("xs", Proto::FLOAT, 0);
         n.Output("xz", kU8, 0);
       }},
      {"DynamicQuantizeMatMul",
       [](Net& n) {
         n.Output(n.Ms("DynamicQuantizeMatMul", {n.Input({4, 7, 64}), n.Weights(kS8, {64, 24}), n.Scales(24), "",
                                                 n.F32({24}, Uniform(24, -2, 2, 5))}),
                  Proto::FLOAT, 0);
         n.not_batchable = "DynamicQuantizeLinear";
       }},
      {"MatMulIntegerToFloat",
       [](Net& n) {
         const std::string a = n.Bytes({4, 7, 64}, kU8);
         n.Output(n.Ms("MatMulIntegerToFloat", {a, n.Weights(kU8, {64, 24}), n.Scale(0.03), n.Scale(0.02),
                                                n.Zero(kU8, 120), n.Zero(kU8, 117), n.F32({24}, Uniform(24, -2, 2, 5))}),
                  Proto::FLOAT, 0);
       }},
  };
}

// ---- what ONNX Runtime's optimizer writes

std::vector<Case> FusedCases() {
  std::vector<Case> cases = {
      {"FusedConv",
       [](Net& n) {
         const std::string x = n.Input({1, 6, 8, 8}), z = n.Input({1, 12, 8, 8});
         const std::string w = n.F32({12, 6, 1, 1}, Uniform(72, -1, 1, 3));
         n.Output(n.Ms("FusedConv", {x, w, n.F32({12}, Uniform(12, -1, 1, 4)), z}), Proto::FLOAT, 0);
         n.Attr("activation", "Relu");
       }},
      {"FusedGemm",
       [](Net& n) {
         n.Output(n.Ms("FusedGemm", {n.Input({3, 8}), n.F32({8, 5}, Uniform(40, -1, 1, 3)), n.F32({5}, {1, 2, 3, 4, 5})}),
                  Proto::FLOAT, 0);
         n.Attr("activation", "LeakyRelu");
         n.Attr("activation_alpha", 0.2f);
       }},
      {"FusedMatMul",
       [](Net& n) {
         n.Output(n.Ms("FusedMatMul", {n.Input({2, 3, 8}), n.Input({2, 5, 8})}), Proto::FLOAT, 0);
         n.Attr("transB", int64_t{1});
         n.Attr("alpha", 0.125f);
       }},
      {"Gelu", [](Net& n) { n.Output(n.Ms("Gelu", {n.Input({3, 8})}), Proto::FLOAT, 0); }},
      {"FastGelu",
       [](Net& n) {
         n.Output(n.Ms("FastGelu", {n.Input({3, 4}), n.F32({4}, {1, -2, 0.5, 0})}), Proto::FLOAT, 0);
       }},
      {"BiasGelu",
       [](Net& n) {
         n.Output(n.Ms("BiasGelu", {n.Input({3, 4}), n.F32({4}, {1, -2, 0.5, 0})}), Proto::FLOAT, 0);
       }},
      {"QuickGelu", [](Net& n) { n.Output(n.Ms("QuickGelu", {n.Input({3, 8})}), Proto::FLOAT, 0); }},
      {"SkipLayerNormalization",
       [](Net& n) {
         n.Output(n.Ms("SkipLayerNormalization", {n.Input({2, 3, 8}), n.Input({2, 3, 8}), n.F32({8}, Uniform(8, 0.5, 2, 1)),
                                                  n.F32({8}, Uniform(8, -1, 1, 2)), n.F32({8}, Uniform(8, -1, 1, 3))}),
                  Proto::FLOAT, 0);
       }},
  };
  for (Case& c : cases) {
    c.make = [make = c.make](Net& n) {
      make(n);
      n.int8 = false;
      n.optimize = Optimize::kNo;  // its rewrites refuse some of these operators' own forms
    };
  }
  return cases;
}

class QuantizedOperators : public ::testing::TestWithParam<Case> {};

TEST_P(QuantizedOperators, AgreesWithOnnxRuntime) {
  // Without VNNI oneDNN and ONNX Runtime saturate sums of pairs in 16 bits, each in its own order.
  if (!kernels::HasVnni()) GTEST_SKIP() << "this CPU has no VNNI";
  Net net;
  GetParam().make(net);
  Compare(net);
}

std::string NameOfCase(const ::testing::TestParamInfo<Case>& test) { return test.param.name; }
INSTANTIATE_TEST_SUITE_P(Qdq, QuantizedOperators, ::testing::ValuesIn(QdqCases()), NameOfCase);
INSTANTIATE_TEST_SUITE_P(WeightOnly, QuantizedOperators, ::testing::ValuesIn(WeightOnlyCases()), NameOfCase);
INSTANTIATE_TEST_SUITE_P(QOperator, QuantizedOperators, ::testing::ValuesIn(QOperatorCases()), NameOfCase);
INSTANTIATE_TEST_SUITE_P(Integer, QuantizedOperators, ::testing::ValuesIn(IntegerCases()), NameOfCase);
INSTANTIATE_TEST_SUITE_P(Fused, QuantizedOperators, ::testing::ValuesIn(FusedCases()), NameOfCase);

}  // namespace
}  // namespace octet
