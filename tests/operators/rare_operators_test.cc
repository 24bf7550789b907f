// Indexing, sampling, region, window and signal operators against ONNX Runtime: the attributes and
// shapes that ONNX's own test vectors leave out.
//
// Where the two differ on purpose, the case is absent: aligned corners of a fractional length and
// transforms shorter than their signal (we follow ONNX's reference), antialias at borders (ONNX
// Runtime does not repeat the edge), sequences of length 0 to reverse (it leaves them unwritten).
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "onnx/test_model.h"
#include "tests/quantized/peers.h"

namespace octet {
namespace {

using Proto = ::onnx::TensorProto;
using Ints = std::vector<int64_t>;
using onnx_io::SetFloat;
using onnx_io::SetFloats;
using onnx_io::SetInt;
using onnx_io::SetInts;
using onnx_io::SetString;
using onnx_io::TestModel;

// One model of one node with the inputs of its run.
class OneNode {
 public:
  explicit OneNode(const std::string& op, int64_t opset = 20) : model_(opset, 9), op_(op) {}

  OneNode& In(const Shape& shape, double low = -1, double high = 1) {
    const CounterRng rng(inputs_.size() + 1);
    std::vector<float> values(static_cast<size_t>(NumElements(shape)));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(low + (high - low) * rng.Uniform(i));
    }
    return Floats(shape, values);
  }
  OneNode& Floats(const Shape& shape, const std::vector<float>& values) {
    Add(shape, Proto::FLOAT);
    inputs_.push_back(Tensor::FromF32(shape, values));
    return *this;
  }
  OneNode& Indices(const Shape& shape, const Ints& values) {
    Add(shape, Proto::INT64);
    inputs_.push_back(Tensor::FromS64(shape, values));
    return *this;
  }
  OneNode& Constant(const Ints& values) {
    names_.push_back(absl::StrCat("c", names_.size()));
    model_.S64(names_.back(), {static_cast<int64_t>(values.size())}, values);
    return *this;
  }
  OneNode& Scalar(int64_t value) {
    names_.push_back(absl::StrCat("c", names_.size()));
    model_.S64(names_.back(), {}, {value});
    return *this;
  }
  OneNode& ConstantFloats(const std::vector<float>& values) {
    names_.push_back(absl::StrCat("c", names_.size()));
    model_.F32(names_.back(), {static_cast<int64_t>(values.size())}, values);
    return *this;
  }
  OneNode& None() {
    names_.push_back("");
    return *this;
  }
  OneNode& Int(const std::string& key, int64_t v) {
    return Later([=](auto* n) { SetInt(n, key, v); });
  }
  OneNode& Float(const std::string& key, float v) {
    return Later([=](auto* n) { SetFloat(n, key, v); });
  }
  OneNode& IntList(const std::string& key, const Ints& v) {
    return Later([=](auto* n) { SetInts(n, key, v); });
  }
  OneNode& FloatList(const std::string& key, const std::vector<float>& v) {
    return Later([=](auto* n) { SetFloats(n, key, v); });
  }
  OneNode& String(const std::string& key, const std::string& v) {
    return Later([=](auto* n) { SetString(n, key, v); });
  }
  OneNode& WithIndices() {
    places_ = true;
    return *this;
  }

  // Runs both and compares: integers exactly, floats within a part of the larger of 1 and the
  // value.
  void Compare(double float_tolerance = 1e-4) {
    std::vector<std::string> outputs = {"y"};
    if (places_) outputs.push_back("places");
    auto* node = model_.Node(op_, names_, outputs, "node");
    for (const auto& set : attributes_) set(node);
    model_.Output("y");
    if (places_) model_.Output("places", {}, Proto::INT64);
    const std::string bytes = model_.proto.SerializeAsString();
    const auto want = RunOnnxRuntime(bytes, inputs_);
    ASSERT_TRUE(want.ok()) << op_ << ": " << want.status();
    const auto found = RunOctet(bytes, inputs_);
    ASSERT_TRUE(found.ok()) << op_ << ": " << found.status();
    for (size_t k = 0; k < want->size(); ++k) {
      const Tensor &w = (*want)[k], &f = found->outputs[k];
      ASSERT_EQ(f.shape(), w.shape()) << node->DebugString();
      ASSERT_EQ(f.dtype(), w.dtype()) << node->DebugString();
      const std::vector<double> wv = w.ToF64(), fv = f.ToF64();
      for (size_t i = 0; i < wv.size(); ++i) {
        const double tolerance =
            IsFloat(w.dtype()) ? float_tolerance * std::max(1.0, std::fabs(wv[i])) : 0;
        ASSERT_NEAR(fv[i], wv[i], tolerance) << "output " << k << " element " << i << "\n"
                                             << node->DebugString();
      }
    }
  }

 private:
  void Add(const Shape& shape, int type) {
    names_.push_back(absl::StrCat("in", inputs_.size()));
    model_.Input(names_.back(), {shape.begin(), shape.end()}, type);
  }
  OneNode& Later(std::function<void(::onnx::NodeProto*)> set) {
    attributes_.push_back(std::move(set));
    return *this;
  }

  TestModel model_;
  std::string op_;
  std::vector<std::string> names_;
  std::vector<Tensor> inputs_;
  std::vector<std::function<void(::onnx::NodeProto*)>> attributes_;
  bool places_ = false;
};

TEST(IndexingPeerTest, ReductionsOfScatters) {
  for (const char* reduction : {"none", "add", "mul", "max", "min"}) {
    for (int64_t axis : {0, -1}) {
      // No position twice: their order is not specified for 'none'.
      OneNode("ScatterElements")
          .In({4, 5})
          .Indices({2, 3}, {0, -1, 2, 1, 0, 3})
          .In({2, 3})
          .Int("axis", axis)
          .String("reduction", reduction)
          .Compare();
    }
    OneNode("ScatterND")
        .In({4, 3, 2})
        .Indices({2, 2}, {3, -1, 0, 2})
        .In({2, 2})
        .String("reduction", reduction)
        .Compare();
    OneNode("ScatterND").In({4, 3}).Constant({-1}).In({3}).String("reduction", reduction).Compare();
  }
}

TEST(IndexingPeerTest, GathersWithBatches) {
  OneNode("GatherND")
      .In({2, 3, 4})
      .Indices({2, 2, 1}, {0, -1, 1, 2})
      .Int("batch_dims", 1)
      .Compare();
  OneNode("GatherND")
      .In({2, 3, 4})
      .Indices({2, 3, 2, 1}, {0, -1, 1, 2, 3, 0, 1, 1, 2, 2, -4, 3})
      .Int("batch_dims", 2)
      .Compare();
  OneNode("GatherElements").In({3, 4}).Indices({5, 2}, {0, -1, 1, 2, -3, 0, 1, 1, 2, 2}).Compare();
}

TEST(IndexingPeerTest, TopKOfEveryKind) {
  for (int64_t k : {1, 7, 64}) {
    for (int64_t largest : {0, 1}) {
      OneNode("TopK")
          .In({3, 64, 2})
          .Constant({k})
          .Int("axis", 1)
          .Int("largest", largest)
          .WithIndices()
          .Compare();
    }
  }
  std::vector<float> ties(100);
  for (size_t i = 0; i < ties.size(); ++i) ties[i] = static_cast<float>(i % 7);
  OneNode("TopK").Floats({100}, ties).Constant({5}).WithIndices().Compare();   // the heap
  OneNode("TopK").Floats({100}, ties).Constant({60}).WithIndices().Compare();  // the selection
}

TEST(SamplingPeerTest, GridSampleOfEveryModePaddingAndCorner) {
  for (const char* mode : {"linear", "nearest", "cubic"}) {
    for (const char* padding : {"zeros", "border", "reflection"}) {
      for (int64_t aligned : {0, 1}) {
        OneNode("GridSample")
            .In({2, 3, 5, 7})
            .In({2, 4, 6, 2}, -1.6, 1.6)
            .String("mode", mode)
            .String("padding_mode", padding)
            .Int("align_corners", aligned)
            .Compare();
        if (mode == std::string("cubic")) continue;  // ONNX Runtime has no volumetric one
        OneNode("GridSample")
            .In({1, 2, 4, 5, 6})
            .In({1, 2, 3, 4, 3}, -1.6, 1.6)
            .String("mode", mode)
            .String("padding_mode", padding)
            .Int("align_corners", aligned)
            .Compare();
      }
    }
  }
}

TEST(SamplingPeerTest, ResizeByPolicyAndCrop) {
  for (const char* policy : {"not_larger", "not_smaller"}) {
    for (const char* mode : {"linear", "nearest"}) {
      OneNode("Resize")
          .In({1, 2, 5, 7})
          .None()
          .None()
          .Constant({9, 10})
          .IntList("axes", {2, 3})
          .String("keep_aspect_ratio_policy", policy)
          .String("mode", mode)
          .Compare();
    }
  }
  OneNode("Resize")
      .In({1, 2, 5, 7})
      .ConstantFloats({0, 0, 0.2f, -0.3f, 1, 1, 0.9f, 1.2f})
      .None()
      .Constant({1, 2, 4, 6})
      .String("mode", "linear")
      .String("coordinate_transformation_mode", "tf_crop_and_resize")
      .Float("extrapolation_value", 7)
      .Compare();
  for (const char* coordinates :
       {"half_pixel", "asymmetric", "half_pixel_symmetric", "pytorch_half_pixel"}) {
    OneNode("Resize")
        .In({1, 2, 5, 7})
        .None()
        .ConstantFloats({1, 1, 1.7f, 0.6f})
        .String("mode", "linear")
        .String("coordinate_transformation_mode", coordinates)
        .Compare();
  }
}

TEST(SamplingPeerTest, AffineGridInTwoAndThreeDimensions) {
  for (int64_t aligned : {0, 1}) {
    OneNode("AffineGrid")
        .In({2, 2, 3})
        .Constant({2, 3, 4, 5})
        .Int("align_corners", aligned)
        .Compare();
    OneNode("AffineGrid")
        .In({2, 3, 4})
        .Constant({2, 3, 4, 5, 6})
        .Int("align_corners", aligned)
        .Compare();
  }
}

TEST(RegionsPeerTest, RoiAlignAndMaxRoiPool) {
  const std::vector<float> regions = {0,  0,  9,  7,  2.3f, 1.7f, 5.1f, 6.2f,
                                      -3, -2, 30, 25, 4,    4,    4,    4};
  for (const char* mode : {"avg", "max"}) {
    for (const char* shift : {"half_pixel", "output_half_pixel"}) {
      for (int64_t sampling : {0, 2}) {
        OneNode("RoiAlign", 16)
            .In({2, 3, 9, 11})
            .Floats({4, 4}, regions)
            .Indices({4}, {0, 1, 1, 0})
            .String("mode", mode)
            .String("coordinate_transformation_mode", shift)
            .Int("sampling_ratio", sampling)
            .Int("output_height", 3)
            .Int("output_width", 4)
            .Float("spatial_scale", 0.7f)
            .Compare();
      }
    }
  }
  OneNode("MaxRoiPool")
      .In({2, 3, 9, 11})
      .Floats({3, 5}, {0, 0, 0, 9, 7, 1, 2, 1, 5, 6, 1, 8, 6, 40, 30})
      .IntList("pooled_shape", {3, 4})
      .Float("spatial_scale", 0.8f)
      .Compare();
}

TEST(WindowsPeerTest, MaximaWithPlacesAndTheirWayBack) {
  for (int64_t order : {0, 1}) {
    OneNode("MaxPool", 12)
        .In({2, 3, 7, 9})
        .IntList("kernel_shape", {3, 2})
        .IntList("strides", {2, 2})
        .IntList("pads", {1, 0, 1, 1})
        .Int("storage_order", order)
        .WithIndices()
        .Compare();
    OneNode("MaxPool", 12)
        .In({1, 2, 5, 6, 7})
        .IntList("kernel_shape", {2, 2, 3})
        .IntList("dilations", {1, 2, 1})
        .Int("storage_order", order)
        .WithIndices()
        .Compare();
  }
  OneNode("MaxPool", 12)
      .In({2, 3, 9})
      .IntList("kernel_shape", {3})
      .IntList("strides", {2})
      .Int("ceil_mode", 1)
      .WithIndices()
      .Compare();
  OneNode("MaxUnpool", 11)
      .In({1, 2, 2, 2})
      .Indices({1, 2, 2, 2}, {0, 3, 9, 15, 17, 18, 24, 31})
      .IntList("kernel_shape", {2, 2})
      .IntList("strides", {2, 2})
      .Compare();
}

TEST(WindowsPeerTest, PowerNorms) {
  for (int64_t p : {1, 2, 3}) {
    OneNode("LpPool", 18)
        .In({2, 3, 7, 9})
        .IntList("kernel_shape", {3, 2})
        .IntList("strides", {2, 1})
        .IntList("pads", {1, 0, 1, 1})
        .IntList("dilations", {1, 2})
        .Int("p", p)
        .Compare();
    OneNode("GlobalLpPool").In({2, 3, 5, 4}).Int("p", p).Compare();
  }
}

TEST(WindowsPeerTest, BlocksBackIntoImages) {
  OneNode("Col2Im")
      .In({2, 18, 20})
      .Constant({7, 6})
      .Constant({3, 2})
      .IntList("strides", {1, 1})
      .IntList("pads", {0, 0, 0, 0})
      .IntList("dilations", {1, 2})
      .Compare();
}

// Lengths from the signal on: shorter ones ONNX Runtime folds where ONNX's reference cuts. It
// computes in f32.
TEST(SignalPeerTest, TransformsOfAnyLength) {
  for (int64_t length : {40, 47, 64, 67, 90, 128}) {
    for (int64_t onesided : {0, 1}) {
      OneNode("DFT", 17)
          .In({2, 40, 3, 1})
          .Scalar(length)
          .Int("axis", 1)
          .Int("onesided", onesided)
          .Compare(1e-3);
    }
    OneNode("DFT", 17).In({2, 40, 3, 2}).Scalar(length).Int("axis", 1).Compare(1e-3);
    OneNode("DFT", 17)
        .In({2, 40, 3, 2})
        .Scalar(length)
        .Int("axis", 1)
        .Int("inverse", 1)
        .Compare(1e-3);
  }
  for (int64_t onesided : {0, 1}) {
    OneNode("STFT", 17)
        .In({2, 200, 1})
        .Scalar(10)
        .In({30}, 0, 1)
        .Scalar(30)
        .Int("onesided", onesided)
        .Compare(1e-3);
  }
}

TEST(SignalPeerTest, CountsOfNgrams) {
  for (const char* mode : {"TF", "IDF", "TFIDF"}) {
    for (int64_t skips : {0, 1, 3}) {
      for (int64_t shortest : {1, 2}) {
        OneNode("TfIdfVectorizer")
            .Indices({2, 8}, {1, 2, 3, 1, 2, 5, 6, 7, 5, 6, 1, 3, 2, 2, 1, 2})
            .String("mode", mode)
            .Int("min_gram_length", shortest)
            .Int("max_gram_length", 2)
            .Int("max_skip_count", skips)
            .IntList("ngram_counts", {0, 3})
            .IntList("ngram_indexes", {2, 0, 1, 3, 5, 4})
            .IntList("pool_int64s", {1, 2, 5, 1, 2, 5, 6, 3, 2})
            .FloatList("weights", {1, 2, 3, 4, 5, 6})
            .Compare();
      }
    }
  }
}

TEST(EinsumPeerTest, EquationsWithEllipsesAndWithoutResult) {
  OneNode("Einsum").In({2, 3, 4}).In({2, 4, 5}).String("equation", "...ij,...jk").Compare();
  OneNode("Einsum").In({3, 4}).In({4, 5}).String("equation", "zb,ba").Compare();
  OneNode("Einsum").In({2, 3, 3}).String("equation", "...ii->...i").Compare();
  OneNode("Einsum")
      .In({2, 3, 4})
      .In({4, 5})
      .In({5, 3})
      .String("equation", "abc,cd,db->ad")
      .Compare();
  OneNode("Einsum")
      .In({2, 3, 4, 5})
      .In({2, 6, 4, 5})
      .String("equation", "bqhd,bkhd->bhqk")
      .Compare();
}

TEST(MovementPeerTest, LeftoversOfPadCropAndOneHot) {
  for (const char* mode : {"reflect", "edge", "wrap"}) {
    OneNode("Pad", 19)
        .In({3, 4, 5})
        .Constant({2, 1, 1, 3})
        .None()
        .Constant({-1, 1})
        .String("mode", mode)
        .Compare();
  }
  OneNode("CenterCropPad").In({5, 8, 3}).Constant({8, 3}).IntList("axes", {0, 1}).Compare();
  OneNode("OneHot")
      .Indices({2, 3}, {0, -1, 5, 2, -6, 4})
      .Scalar(5)
      .Floats({2}, {-1, 3})
      .Int("axis", 1)
      .Compare();
  OneNode("ReverseSequence").In({4, 3, 2}).Indices({3}, {1, 4, 2}).Compare();
  OneNode("CumSum").In({3, 4, 5}).Scalar(-2).Int("exclusive", 1).Int("reverse", 1).Compare();
}

}  // namespace
}  // namespace octet
