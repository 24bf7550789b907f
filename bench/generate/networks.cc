// Architectures, one function each. Gains below 1 at the end of a residual branch keep activations of one size.
#include "bench/generate/networks.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bench/generate/network_maker.h"

namespace octet::bench {
namespace {

using graph::Graph;
using graph::ValueId;

ValueId Relu(NetworkMaker& m, ValueId x) { return m.Node("Relu", {x}); }

ValueId Classifier(NetworkMaker& m, ValueId x, int64_t channels, int64_t classes) {
  x = m.Node("Flatten", {m.Node("GlobalAveragePool", {x})});
  return m.Dense(x, channels, classes, 0.7);
}

ValueId ResNetStem(NetworkMaker& m) {
  const ValueId x = Relu(m, m.Convolution(m.Input("image", {3, 224, 224}), {3, 64, 7, 2}));
  return m.Node("MaxPool", {x},
                {{"kernel_shape", std::vector<int64_t>{3, 3}},
                 {"strides", std::vector<int64_t>{2, 2}},
                 {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
}

Graph ResNet18() {
  NetworkMaker m("resnet18", 18);
  ValueId x = ResNetStem(m);
  int64_t channels = 64;
  for (int64_t width : {64, 128, 256, 512}) {
    for (int block = 0; block < 2; ++block) {
      const int64_t stride = block == 0 && width != 64 ? 2 : 1;
      const ValueId y = Relu(m, m.Convolution(x, {channels, width, 3, stride}));
      const ValueId z = m.Convolution(y, {width, width, 3, 1, 1, 0.4});
      if (channels != width) x = m.Convolution(x, {channels, width, 1, stride, 1, 0.7});
      x = Relu(m, m.Node("Add", {z, x}));
      channels = width;
    }
  }
  return m.Finish(Classifier(m, x, channels, 1000), {1000});
}

Graph ResNet50() {
  NetworkMaker m("resnet50", 50);
  ValueId x = ResNetStem(m);
  int64_t channels = 64;
  const int64_t widths[] = {64, 128, 256, 512};
  const int blocks[] = {3, 4, 6, 3};
  for (int stage = 0; stage < 4; ++stage) {
    const int64_t width = widths[stage], outputs = 4 * width;
    for (int block = 0; block < blocks[stage]; ++block) {
      const int64_t stride = block == 0 && stage > 0 ? 2 : 1;
      ValueId y = Relu(m, m.Convolution(x, {channels, width, 1}));
      y = Relu(m, m.Convolution(y, {width, width, 3, stride}));
      y = m.Convolution(y, {width, outputs, 1, 1, 1, 0.4});
      if (block == 0) x = m.Convolution(x, {channels, outputs, 1, stride, 1, 0.7});
      x = Relu(m, m.Node("Add", {y, x}));
      channels = outputs;
    }
  }
  return m.Finish(Classifier(m, x, channels, 1000), {1000});
}

ValueId Relu6(NetworkMaker& m, ValueId x) { return m.Node("Clip", {x, m.Scalar(0), m.Scalar(6)}); }

Graph MobileNetV2() {
  NetworkMaker m("mobilenetv2", 2);
  ValueId x = Relu6(m, m.Convolution(m.Input("image", {3, 224, 224}), {3, 32, 3, 2}));
  int64_t channels = 32;
  struct Stage {
    int64_t expansion, outputs, repeats, stride;
  };
  for (const Stage& s : {Stage{1, 16, 1, 1}, Stage{6, 24, 2, 2}, Stage{6, 32, 3, 2}, Stage{6, 64, 4, 2},
                         Stage{6, 96, 3, 1}, Stage{6, 160, 3, 2}, Stage{6, 320, 1, 1}}) {
    for (int64_t block = 0; block < s.repeats; ++block) {
      const int64_t stride = block == 0 ? s.stride : 1, hidden = channels * s.expansion;
      ValueId y = x;
      if (s.expansion > 1) y = Relu6(m, m.Convolution(y, {channels, hidden, 1}));
      y = Relu6(m, m.Convolution(y, {hidden, hidden, 3, stride, hidden}));
      y = m.Convolution(y, {hidden, s.outputs, 1, 1, 1, 0.7});
      x = stride == 1 && channels == s.outputs ? m.Node("Add", {x, y}) : y;
      channels = s.outputs;
    }
  }
  x = Relu6(m, m.Convolution(x, {channels, 1280, 1}));
  return m.Finish(Classifier(m, x, 1280, 1000), {1000});
}

constexpr int64_t kTokens = 128, kHidden = 768, kHeads = 12, kHead = kHidden / kHeads;

ValueId LayerNorm(NetworkMaker& m, ValueId x) {
  return m.Node("LayerNormalization", {x, m.Normal({kHidden}, 1, 0.1), m.Normal({kHidden}, 0, 0.1)},
                {{"axis", int64_t{-1}}, {"epsilon", 1e-12f}});
}

// [N, tokens, hidden] -> [N, heads, tokens, head], or [N, heads, head, tokens] for the keys.
ValueId SplitHeads(NetworkMaker& m, ValueId x, std::vector<int64_t> order) {
  x = m.Node("Reshape", {x, m.Ints({0, kTokens, kHeads, kHead})});
  return m.Node("Transpose", {x}, {{"perm", std::move(order)}});
}

ValueId Attention(NetworkMaker& m, ValueId x) {
  const ValueId q = SplitHeads(m, m.Linear(x, kHidden, kHidden, 0.7), {0, 2, 1, 3});
  const ValueId k = SplitHeads(m, m.Linear(x, kHidden, kHidden, 0.7), {0, 2, 3, 1});
  const ValueId v = SplitHeads(m, m.Linear(x, kHidden, kHidden, 0.7), {0, 2, 1, 3});
  ValueId scores = m.Node("MatMul", {q, k});
  scores = m.Node("Div", {scores, m.Scalar(std::sqrt(static_cast<float>(kHead)))});
  scores = m.Node("Softmax", {scores}, {{"axis", int64_t{-1}}});
  ValueId y = m.Node("Transpose", {m.Node("MatMul", {scores, v})}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  y = m.Node("Reshape", {y, m.Ints({0, kTokens, kHidden})});
  return m.Linear(y, kHidden, kHidden, 0.7);
}

// 0.5 x (1 + erf(x / sqrt 2)) in the nodes that torch writes.
ValueId Gelu(NetworkMaker& m, ValueId x) {
  ValueId y = m.Node("Erf", {m.Node("Div", {x, m.Scalar(std::sqrt(2.0f))})});
  y = m.Node("Mul", {x, m.Node("Add", {y, m.Scalar(1)})});
  return m.Node("Mul", {y, m.Scalar(0.5f)});
}

Graph Encoder() {
  NetworkMaker m("encoder", 6);
  ValueId x = m.Input("hidden", {kTokens, kHidden});
  for (int layer = 0; layer < 6; ++layer) {
    x = LayerNorm(m, m.Node("Add", {Attention(m, x), x}));
    ValueId y = Gelu(m, m.Linear(x, kHidden, 4 * kHidden));
    y = m.Linear(y, 4 * kHidden, kHidden, 0.7);
    x = LayerNorm(m, m.Node("Add", {y, x}));
  }
  return m.Finish(x, {kTokens, kHidden});
}

Graph Mlp() {
  NetworkMaker m("mlp", 3);
  ValueId x = Relu(m, m.Dense(m.Input("x", {768}), 768, 3072));
  x = Relu(m, m.Dense(x, 3072, 3072));
  return m.Finish(m.Dense(x, 3072, 768), {768});
}

Graph Lstm() {
  constexpr int64_t kSteps = 64, kWidth = 512;
  NetworkMaker m("lstm", 5);
  ValueId x = m.Node("Transpose", {m.Input("x", {kSteps, kWidth})}, {{"perm", std::vector<int64_t>{1, 0, 2}}});
  for (int layer = 0; layer < 2; ++layer) {
    const ValueId y = m.Node("LSTM",
                             {x, m.Weights({1, 4 * kWidth, kWidth}, kWidth, 0.7),
                              m.Weights({1, 4 * kWidth, kWidth}, kWidth, 0.7), m.Normal({1, 8 * kWidth}, 0, 0.05)},
                             {{"hidden_size", kWidth}});
    x = m.Node("Squeeze", {y, m.Ints({1})});
  }
  x = m.Node("Transpose", {x}, {{"perm", std::vector<int64_t>{1, 0, 2}}});
  return m.Finish(x, {kSteps, kWidth});
}

// Every hot operator once in a few microseconds: for tests of the benchmark itself.
Graph Tiny() {
  NetworkMaker m("tiny", 1);
  ValueId x = Relu(m, m.Convolution(m.Input("image", {3, 16, 16}), {3, 16, 3, 2}));
  const ValueId y = m.Convolution(x, {16, 16, 3, 1, 1, 0.5});
  x = Relu(m, m.Node("Add", {y, x}));
  return m.Finish(Classifier(m, x, 16, 10), {10});
}

struct Entry {
  const char* name;
  Graph (*make)();
};
constexpr Entry kNetworks[] = {{"resnet18", ResNet18}, {"resnet50", ResNet50}, {"mobilenetv2", MobileNetV2},
                               {"encoder", Encoder},   {"mlp", Mlp},           {"lstm", Lstm},
                               {"tiny", Tiny}};

}  // namespace

std::vector<std::string> GeneratedNetworks() {
  std::vector<std::string> names;
  for (const Entry& e : kNetworks) names.emplace_back(e.name);
  return names;
}

absl::StatusOr<Graph> MakeNetwork(const std::string& name) {
  for (const Entry& e : kNetworks) {
    if (name == e.name) return e.make();
  }
  return absl::NotFoundError(
      absl::StrCat("no generated network '", name, "', there are ", absl::StrJoin(GeneratedNetworks(), ", ")));
}

}  // namespace octet::bench
