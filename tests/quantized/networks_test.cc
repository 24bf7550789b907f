// Networks that were quantized elsewhere: they run on integers, and agree with ONNX Runtime's run of the same file.
//
// Top-1 agreement of at least 99 % and an SQNR between the two engines of at least 30 dB on real inputs. Exceptions carry
// their reason in the table; where labels exist, neither engine is more accurate than the other there. Each node of the
// QOperator networks alone, on ONNX Runtime's own inputs to it, is within one step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/rng.h"
#include "data/sample_reader.h"
#include "kernels/onednn_product.h"
#include "onnx/onnx_pb.h"
#include "tests/quantized/peers.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

const fs::path& Shared() {
  static const fs::path* const path = new fs::path(OCTET_SHARED);
  return *path;
}

std::string ReadAll(const fs::path& path) {
  std::ostringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

enum class Inputs : uint8_t {
  kImageNet,     // 200 photos of 224 x 224
  kImageNet244,  // the same, 244 x 244
  kCifar,        // 496 photos, 16 at a time
  kVariations  // of the stored input: shifted in time, louder and softer, with noise
};

struct Case {
  const char* model;
  Inputs inputs;
  double min_top1;
  double min_sqnr_db;
  double min_int8_share = 0.99;  // of the multiply-adds
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.model; }

struct Samples {
  std::vector<Tensor> batches;
  std::vector<int64_t> labels;  // one per row; empty where there are none
};

// Class of every sample file: its folder's place in the alphabet, or the line of labels.csv.
std::vector<int64_t> LabelsOf(const std::vector<std::string>& names) {
  std::map<std::string, int64_t> by_file, by_folder;
  std::ifstream csv(Shared() / "data" / "imagenet200" / "labels.csv");
  for (std::string line; std::getline(csv, line);) {
    const std::vector<std::string> columns = absl::StrSplit(line, ',');
    int64_t label = 0;
    if (columns.size() > 1 && absl::SimpleAtoi(columns[1], &label)) by_file[columns[0]] = label;
  }
  for (const std::string& name : names) by_folder[fs::path(name).parent_path().filename()] = 0;
  int64_t next = 0;
  for (auto& [folder, label] : by_folder) label = next++;
  std::vector<int64_t> labels;
  for (const std::string& name : names) {
    const auto file = by_file.find(fs::path(name).filename());
    labels.push_back(file != by_file.end() ? file->second : by_folder[fs::path(name).parent_path().filename()]);
  }
  return labels;
}

std::vector<std::vector<float>> Images(const std::string& folder, const char* options,
                                       std::vector<int64_t>* labels) {
  std::vector<std::vector<float>> out;
  std::vector<std::string> names;
  const auto parsed = data::ImageOptions::Parse(options);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  const auto reader = data::OpenSamples((Shared() / "data" / folder).string(), *parsed, {"x"});
  EXPECT_TRUE(reader.ok()) << reader.status();
  if (!reader.ok()) return out;
  for (int64_t i = 0; i < (*reader)->size(); ++i) {
    const auto sample = (*reader)->Read(i);
    EXPECT_TRUE(sample.ok()) << sample.status();
    if (!sample.ok()) continue;
    out.push_back(sample->inputs[0].ToF32());
    names.push_back(sample->name);
  }
  *labels = LabelsOf(names);
  return out;
}

Tensor StoredInput(const std::string& model) {
  onnx::TensorProto proto;
  std::ifstream in(Shared() / "models" / model / "test_data_set_0" / "input_0.pb", std::ios::binary);
  EXPECT_TRUE(proto.ParseFromIstream(&in));
  const Shape shape(proto.dims().begin(), proto.dims().end());
  EXPECT_EQ(static_cast<int64_t>(proto.raw_data().size()), ByteSize(DType::kF32, shape));
  return Tensor::FromValues<char>(DType::kF32, shape, proto.raw_data());
}

// 200 inputs whose rows of `width` features are those of `stored`, moved.
std::vector<std::vector<float>> Variations(const Tensor& stored, size_t width) {
  const std::vector<float> x = stored.ToF32();
  std::vector<std::vector<float>> out;
  for (uint64_t v = 0; v < 200; ++v) {
    const CounterRng rng(v);
    const size_t shift = width * static_cast<size_t>(rng.Uniform(1 << 20) * 20);
    const double gain = v == 0 ? 1 : 0.6 + 0.6 * rng.Uniform(1 << 21);
    std::vector<float> y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const double noise = v == 0 ? 0 : 2 * rng.Uniform(i) - 1;
      y[i] = static_cast<float>(gain * static_cast<double>(x[(i + shift) % x.size()]) + noise);
    }
    out.push_back(std::move(y));
  }
  return out;
}

std::vector<Tensor> Batched(const std::vector<std::vector<float>>& samples, size_t batch, Shape shape) {
  std::vector<Tensor> out;
  shape[0] = static_cast<int64_t>(batch);
  for (size_t i = 0; i + batch <= samples.size(); i += batch) {
    std::vector<float> all;
    for (size_t k = 0; k < batch; ++k) all.insert(all.end(), samples[i + k].begin(), samples[i + k].end());
    out.push_back(Tensor::FromF32(shape, all));
  }
  return out;
}

Samples InputsOf(const Case& c) {
  Samples out;
  switch (c.inputs) {
    case Inputs::kImageNet:
      out.batches = Batched(Images("imagenet200", "size=224,short=256,mean=0.485:0.456:0.406,std=0.229:0.224:0.225",
                                   &out.labels),
                            1, {1, 3, 224, 224});
      break;
    case Inputs::kImageNet244:
      out.batches = Batched(Images("imagenet200", "size=244,short=279,mean=0.485:0.456:0.406,std=0.229:0.224:0.225",
                                   &out.labels),
                            1, {1, 3, 244, 244});
      break;
    case Inputs::kCifar:
      out.batches = Batched(Images("cifar10-500", "size=32,mean=0.4914:0.4822:0.4465,std=0.2470:0.2435:0.2616",
                                   &out.labels),
                            16, {16, 3, 32, 32});
      break;
    case Inputs::kVariations: {
      const Tensor stored = StoredInput(c.model);
      const Shape shape = stored.shape();
      out.batches = Batched(Variations(stored, shape.size() == 2 ? 40 : static_cast<size_t>(shape.back())), 1, shape);
    }
  }
  return out;
}

struct Agreement {
  int64_t rows = 0, same_top1 = 0, octet_right = 0, peer_right = 0;
  double signal = 0, noise = 0;

  void Add(const Tensor& octet, const Tensor& peer, const std::vector<int64_t>& labels) {
    const std::vector<double> a = octet.ToF64(), b = peer.ToF64();
    const size_t classes = static_cast<size_t>(peer.shape().back());
    for (size_t r = 0; r + classes <= b.size(); r += classes) {
      ++rows;
      const auto top = [&](const std::vector<double>& v) {
        return std::max_element(v.begin() + static_cast<int64_t>(r),
                                v.begin() + static_cast<int64_t>(r + classes)) -
               v.begin();
      };
      const int64_t mine = top(a) - static_cast<int64_t>(r), its = top(b) - static_cast<int64_t>(r);
      same_top1 += mine == its;
      const auto row = static_cast<size_t>(rows - 1);
      octet_right += row < labels.size() && labels[row] == mine;
      peer_right += row < labels.size() && labels[row] == its;
    }
    for (size_t i = 0; i < b.size(); ++i) {
      signal += b[i] * b[i];
      noise += (a[i] - b[i]) * (a[i] - b[i]);
    }
  }
  double top1() const { return static_cast<double>(same_top1) / static_cast<double>(rows); }
  double sqnr_db() const { return noise == 0 ? INFINITY : 10 * std::log10(signal / noise); }
};

class QuantizedNetworks : public ::testing::TestWithParam<Case> {};

TEST_P(QuantizedNetworks, AgreeWithOnnxRuntime) {
  const Case& c = GetParam();
  const fs::path file = Shared() / "models" / c.model / "model.onnx";
  if (!fs::exists(file)) GTEST_SKIP() << file << " is absent: the shared models are not installed here";
  if (!kernels::HasVnni()) GTEST_SKIP() << "without VNNI both engines saturate, each in its own order";
  const std::string bytes = ReadAll(file);
  const Samples samples = InputsOf(c);
  ASSERT_GE(samples.batches.size(), 20u);
  const auto octet = MakeOctet(bytes), peer = MakeOnnxRuntime(bytes);
  ASSERT_TRUE(octet.ok()) << octet.status();
  ASSERT_TRUE(peer.ok()) << peer.status();
  Agreement agreement;
  for (const Tensor& input : samples.batches) {
    const auto found = (*octet)->Run({input}), expected = (*peer)->Run({input});
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_TRUE(expected.ok()) << expected.status();
    agreement.Add((*found)[0], (*expected)[0], samples.labels);
  }
  std::printf("%s: %d inputs, top-1 agreement %.2f %%, SQNR %.1f dB, right: Octet %d, ONNX Runtime %d\n", c.model,
              static_cast<int>(agreement.rows), 100 * agreement.top1(), agreement.sqnr_db(),
              static_cast<int>(agreement.octet_right), static_cast<int>(agreement.peer_right));
  EXPECT_GE(agreement.top1(), c.min_top1);
  EXPECT_GE(agreement.sqnr_db(), c.min_sqnr_db);
  EXPECT_GE(static_cast<double>(agreement.octet_right),
            static_cast<double>(agreement.peer_right) - 0.015 * static_cast<double>(agreement.rows));

  const auto run = RunOctet(bytes, {samples.batches[0]});
  ASSERT_TRUE(run.ok()) << run.status();
  const Int8Share share = ShareOf(run->steps);
  EXPECT_GE(share.share, c.min_int8_share) << absl::StrJoin(share.floats, "; ");
  EXPECT_TRUE(share.references.empty()) << absl::StrJoin(share.references, "; ");
}

INSTANTIATE_TEST_SUITE_P(
    Shared, QuantizedNetworks,
    ::testing::Values(
        Case{"micro-kws-qdq", Inputs::kVariations, 0.99, 30}, Case{"micro-kws-qoperator", Inputs::kVariations, 0.99, 30},
        Case{"mlperf-tiny-kws-int8", Inputs::kVariations, 0.99, 30},
        // The sums of its three residual blocks round once where the file rounds twice (ARCHITECTURE.md, layout and
        // numbers): 8 of 496 photos whose two best classes are a step apart change sides. Rounding twice gives 100 % and
        // 52.6 dB, and makes ResNet-50 a tenth to a quarter slower.
        Case{"mlperf-tiny-ic-int8", Inputs::kCifar, 0.98, 30},
        // Its layers amplify: a tie that falls to the other side in one of 75,000 elements of layer 21 has changed 0.1 %
        // of the elements 4 layers later and 90 % at the end (measured with every rounding kept, where the 20 layers
        // before are bit-equal: 96 % and 17.5 dB). Only bit-equality could pass the bar; oneDNN adds the bias in f32,
        // ONNX Runtime in s32.
        Case{"mobilenetv2-12-int8", Inputs::kImageNet, 0.9, 13},
        // Both reasons: with every rounding kept 100 % and 28.5 dB.
        Case{"mobilenetv2-qdq-torch", Inputs::kImageNet244, 0.97, 20}),
    [](const auto& test) {
      std::string name = test.param.model;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

// The model of node `n` alone: its computed operands are inputs.
std::string NodeAlone(const onnx::ModelProto& model, const onnx::NodeProto& n, const std::vector<std::string>& computed,
                      const std::vector<Tensor>& values) {
  onnx::ModelProto alone = model;
  onnx::GraphProto& g = *alone.mutable_graph();
  g.clear_node();
  g.clear_input();
  g.clear_output();
  g.clear_value_info();
  *g.add_node() = n;
  for (size_t i = 0; i < computed.size(); ++i) {
    onnx::ValueInfoProto* info = g.add_input();
    info->set_name(computed[i]);
    auto* type = info->mutable_type()->mutable_tensor_type();
    type->set_elem_type(values[i].dtype() == DType::kU8   ? onnx::TensorProto::UINT8
                        : values[i].dtype() == DType::kS8 ? onnx::TensorProto::INT8
                                                          : onnx::TensorProto::FLOAT);
    for (int64_t d : values[i].shape()) type->mutable_shape()->add_dim()->set_dim_value(d);
  }
  g.add_output()->set_name(n.output(0));
  return alone.SerializeAsString();
}

class QuantizedNodes : public ::testing::TestWithParam<const char*> {};

TEST_P(QuantizedNodes, AreWithinOneStepAlone) {
  const fs::path folder = Shared() / "models" / GetParam();
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is absent: the shared models are not installed here";
  if (!kernels::HasVnni()) GTEST_SKIP() << "without VNNI both engines saturate, each in its own order";
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(ReadAll(folder / "model.onnx")));
  // ONNX Runtime's value of every quantized node's result.
  onnx::ModelProto shown = model;
  std::vector<const onnx::NodeProto*> nodes;
  for (const onnx::NodeProto& n : model.graph().node()) {
    if (n.op_type().find("QLinear") != 0 && n.op_type() != "QuantizeLinear") continue;
    nodes.push_back(&n);
    shown.mutable_graph()->add_output()->set_name(n.output(0));
  }
  const Tensor input = StoredInput(GetParam());
  const auto all = RunOnnxRuntime(shown.SerializeAsString(), {input});
  ASSERT_TRUE(all.ok()) << all.status();
  std::map<std::string, Tensor> values = {{model.graph().input(0).name(), input}};
  const size_t first = static_cast<size_t>(model.graph().output_size());
  for (size_t i = 0; i < nodes.size(); ++i) values[nodes[i]->output(0)] = (*all)[first + i];

  int compared = 0;
  for (const onnx::NodeProto* n : nodes) {
    std::vector<std::string> computed;
    std::vector<Tensor> operands;
    bool known = true;
    for (const std::string& name : n->input()) {
      const bool constant = std::any_of(model.graph().initializer().begin(), model.graph().initializer().end(),
                                        [&](const auto& t) { return t.name() == name; });
      if (constant || name.empty() || std::count(computed.begin(), computed.end(), name) > 0) continue;
      known = known && values.count(name) > 0;
      if (!known) break;
      computed.push_back(name);
      operands.push_back(values[name]);
    }
    if (!known) continue;  // behind a Reshape or the like
    const auto run = RunOctet(NodeAlone(model, *n, computed, operands), operands);
    ASSERT_TRUE(run.ok()) << n->name() << ": " << run.status();
    const std::vector<double> f = run->outputs[0].ToF64(), e = values[n->output(0)].ToF64();
    ASSERT_EQ(f.size(), e.size());
    double worst = 0, differ = 0;
    for (size_t k = 0; k < e.size(); ++k) {
      worst = std::max(worst, std::fabs(f[k] - e[k]));
      differ += f[k] != e[k];
    }
    ++compared;
    EXPECT_LE(worst, 1) << n->op_type() << " " << n->name();
    EXPECT_LE(differ, 1 + 0.002 * static_cast<double>(e.size())) << n->op_type() << " " << n->name();
  }
  EXPECT_GE(compared, 6);
}

INSTANTIATE_TEST_SUITE_P(Shared, QuantizedNodes,
                         ::testing::Values("mobilenetv2-12-int8", "mlperf-tiny-ic-int8", "mlperf-tiny-kws-int8",
                                           "micro-kws-qoperator"));

}  // namespace
}  // namespace octet
