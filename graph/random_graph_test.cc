// Inference, rewrites and proofs on random graphs full of extreme numbers: any status is right, a
// crash, an overflow (the sanitizer run repeats this test) or a broken invariant is not.
#include <gtest/gtest.h>

#include <limits>

#include "base/rng.h"
#include "graph/batching.h"
#include "graph/graph_builder.h"
#include "graph/rewrites.h"
#include "graph/shape_inference.h"

namespace octet::graph {
namespace {

constexpr uint64_t kSeed = 20240707;

class RandomGraph {
 public:
  explicit RandomGraph(uint64_t stream) : rng_(kSeed, stream) {}

  int64_t Pick(const std::vector<int64_t>& from) { return from[Below(from.size())]; }
  size_t Below(size_t n) { return static_cast<size_t>(rng_.Bits(next_++) % n); }

  int64_t Integer() {
    constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
    constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
    if (Below(6) != 0) return static_cast<int64_t>(Below(6)) - 1;
    return Pick({kMin, kMin + 1, kMax, kMax - 1, -1, int64_t{1} << 31, -(int64_t{1} << 31),
                 int64_t{1} << 40, int64_t{1} << 41, 1000003, 224});
  }

  std::vector<int64_t> Integers(size_t most) {
    std::vector<int64_t> out(Below(most + 1));
    for (int64_t& value : out) value = Integer();
    return out;
  }

  Shape AnyShape() {
    if (Below(2) == 0) return Below(2) == 0 ? Shape{1, 4, 6, 6} : Shape{kUnknownDim, 4};
    Shape out(Below(6), 1);
    for (int64_t& dim : out) {
      dim = Below(4) != 0 ? static_cast<int64_t>(Below(9))
                          : Pick({kUnknownDim, 0, 1, 64, int64_t{1} << 33, int64_t{1} << 40});
    }
    return out;
  }

  ValueId Operand() {
    const std::vector<Value>& values = b.graph.values;
    const size_t kind = Below(8);
    if (kind == 0) return kNoValue;
    if (kind <= 3 && !values.empty()) return static_cast<ValueId>(Below(values.size()));
    const std::string name = "i" + std::to_string(values.size());
    if (kind == 4) return b.Input(name, AnyShape());
    if (kind == 5) return b.Input(name, AnyShape(), DType::kS64);
    if (kind == 6) return b.Floats({static_cast<float>(Integer()), 0.5f, -3.0f});
    return Below(4) == 0 ? b.Int(Integer()) : b.Ints(Integers(5));
  }

  absl::flat_hash_map<std::string, Attribute> Attributes() {
    absl::flat_hash_map<std::string, Attribute> out;
    const auto maybe = [&] { return Below(6) == 0; };
    for (const char* key :
         {"axis", "group", "ceil_mode", "keepdims", "start", "end", "to", "blocksize", "transA",
          "transB", "batch_dims", "num_outputs", "allowzero", "layout", "hidden_size", "size",
          "num_groups", "noop_with_empty_axes"}) {
      if (maybe()) out[key] = Integer();
    }
    for (const char* key : {"kernel_shape", "strides", "dilations", "pads", "perm", "axes",
                            "output_padding", "output_shape"}) {
      if (maybe()) out[key] = Integers(6);
    }
    if (maybe()) out["auto_pad"] = std::string(Below(2) == 0 ? "SAME_UPPER" : "VALID");
    if (maybe()) out["keep_aspect_ratio_policy"] = std::string("not_larger");
    if (maybe()) out["value"] = Tensor::FromS64({1}, {Integer()});
    return out;
  }

  // Adds a node of operator `op`, with up to eight attempts at operands that infer.
  void AddNode(const std::string& op) {
    for (int i = 0; i < 8; ++i) {
      if (TryNode(op)) return;
    }
  }

  GraphBuilder b;

 private:
  bool TryNode(const std::string& op) {
    std::vector<ValueId> operands(Below(8) == 0 ? Below(6) : 1 + Below(3));
    for (ValueId& id : operands) id = Operand();
    const int outputs = Below(4) == 0 ? static_cast<int>(1 + Below(3)) : 1;
    b.AddMany(op, std::move(operands), outputs, Attributes());
    if (Below(4) == 0) {
      Value& out = b.graph.value(b.graph.nodes.back().outputs[0]);
      out.dtype = DType::kU8;
      out.quant = QuantParams::PerTensor(0.5f, 1);
    }
    if (InferShapes(&b.graph).ok()) return true;
    // Its values stay as inputs: later nodes may pick them.
    for (ValueId id : b.graph.nodes.back().outputs) {
      Value& out = b.graph.value(id);
      out.quant.reset();
      out.dtype = DType::kF32;
      out.shape = AnyShape();
      b.graph.inputs.push_back(id);
    }
    b.graph.nodes.pop_back();
    return false;
  }

  CounterRng rng_;
  uint64_t next_ = 0;
};

TEST(RandomGraphTest, EveryOperatorSurvivesExtremeOperands) {
  int accepted = 0;
  uint64_t stream = 0;
  for (const std::string& op : OperatorsWithShapeRule()) {
    for (int round = 0; round < 15; ++round) {
      RandomGraph random(++stream);
      for (int i = 0; i < 3; ++i) random.AddNode(op);
      accepted += static_cast<int>(random.b.graph.nodes.size());
    }
  }
  EXPECT_GT(accepted, 500) << "the graphs are refused too early to test anything";
}

TEST(RandomGraphTest, RewritesAndProofsKeepInvariants) {
  const std::vector<std::string> ops = {"Shape",     "Gather",
                                        "Slice",     "Concat",
                                        "Unsqueeze", "Squeeze",
                                        "Reshape",   "Cast",
                                        "Add",       "Mul",
                                        "Sub",       "Div",
                                        "Transpose", "Identity",
                                        "Dropout",   "Relu",
                                        "Quantize",  "Dequantize",
                                        "Quantize",  "Dequantize",
                                        "Expand",    "ConstantOfShape",
                                        "Flatten",   "Split",
                                        "Where",     "Equal",
                                        "Range",     "Pad",
                                        "Clip"};
  int nodes = 0;
  for (uint64_t stream = 0; stream < 1500; ++stream) {
    RandomGraph random(100000 + stream);
    for (int i = 0; i < 14; ++i) random.AddNode(ops[random.Below(ops.size())]);
    Graph& graph = random.b.graph;
    for (const Node& node : graph.nodes) graph.outputs.push_back(node.outputs[0]);
    ASSERT_TRUE(graph.Validate().ok()) << "stream " << stream << ": " << graph.Validate();
    nodes += static_cast<int>(graph.nodes.size());
    RemoveIdentities(&graph);
    ASSERT_TRUE(graph.Validate().ok()) << "stream " << stream << ": " << graph.Validate();
    graph.outputs.resize(graph.outputs.size() / 2);
    AbsorbQuantization(&graph);
    ASSERT_TRUE(graph.Validate().ok()) << "stream " << stream << ": " << graph.Validate();
    const BatchProof proof = FreeBatch(&graph);
    EXPECT_EQ(proof.batchable, proof.obstacle.empty());
    ASSERT_TRUE(graph.Validate().ok()) << "stream " << stream << ": " << graph.Validate();
  }
  EXPECT_GT(nodes, 1500);
}

}  // namespace
}  // namespace octet::graph
