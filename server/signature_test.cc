// Requests against a model's signature, and the arithmetic of buckets.
#include "server/signature.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace octet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelSignature TwoInputs() {
  ModelSignature signature;
  signature.inputs = {{"image", DType::kF32, {kUnknownDim, 3, kUnknownDim}},
                      {"mask", DType::kBool, {kUnknownDim, 4}}};
  signature.outputs = {{"a", DType::kF32, {kUnknownDim, 10}}, {"b", DType::kS64, {kUnknownDim}}};
  signature.batchable = true;
  signature.max_batch = 8;
  return signature;
}

InferRequest Request(Shape image = {2, 3, 5}, Shape mask = {2, 4}) {
  InferRequest request;
  request.inputs.push_back({"mask", DType::kBool, std::move(mask), {}, 0});
  request.inputs.push_back({"image", DType::kF32, std::move(image), {}, 0});
  return request;
}

TEST(BindTest, MatchesInputsByName) {
  auto bound = Bind(Request(), TwoInputs());
  ASSERT_TRUE(bound.ok()) << bound.status();
  EXPECT_THAT(bound->inputs, ElementsAre(1, 0));
  EXPECT_THAT(bound->outputs, ElementsAre(0, 1));
  EXPECT_EQ(bound->rows, 2);
  EXPECT_THAT(bound->shapes, ElementsAre(Shape{kUnknownDim, 3, 5}, Shape{kUnknownDim, 4}));
}

TEST(BindTest, ReturnsOnlyTheOutputsNamed) {
  InferRequest request = Request();
  request.outputs = {"b"};
  auto bound = Bind(std::move(request), TwoInputs());
  ASSERT_TRUE(bound.ok());
  EXPECT_THAT(bound->outputs, ElementsAre(1));
}

void ExpectInvalid(InferRequest request, const std::string& text,
                   ModelSignature signature = TwoInputs()) {
  auto bound = Bind(std::move(request), signature);
  ASSERT_FALSE(bound.ok()) << text;
  EXPECT_EQ(bound.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bound.status().message()), HasSubstr(text));
}

TEST(BindTest, RefusalsNameInputExpectedAndGot) {
  ExpectInvalid(Request({2, 4, 5}), "input 'image': expected shape [?, 3, ?], got [2, 4, 5]");
  ExpectInvalid(Request({2, 3}), "input 'image': expected shape [?, 3, ?], got [2, 3]");
  ExpectInvalid(Request({2, 3, 5}, {3, 4}), "batch");
  ExpectInvalid(Request({9, 3, 5}, {9, 4}), "batch 9 exceeds the model's maximum batch size of 8");
  ExpectInvalid(Request({0, 3, 5}, {0, 4}), "no elements");
  InferRequest request = Request();
  request.inputs[1].dtype = DType::kF64;
  ExpectInvalid(std::move(request), "input 'image': expected datatype FP32, got FP64");
  request = Request();
  request.inputs.pop_back();
  ExpectInvalid(std::move(request), "input 'image' is missing");
  request = Request();
  request.inputs[0].name = "image";
  ExpectInvalid(std::move(request), "'image'");
  request = Request();
  request.inputs[0].name = "typo";
  ExpectInvalid(std::move(request), "no input 'typo'; it has 'image', 'mask'");
  request = Request();
  request.outputs = {"c"};
  ExpectInvalid(std::move(request), "no output 'c'");
  request = Request();
  request.outputs = {"a", "a"};
  ExpectInvalid(std::move(request), "requested twice");
}

TEST(BindTest, WithoutBatchingEveryShapeIsItsOwn) {
  ModelSignature signature = TwoInputs();
  signature.batchable = false;
  signature.max_batch = 1;
  auto bound = Bind(Request({2, 3, 5}, {7, 4}), signature);
  ASSERT_TRUE(bound.ok()) << bound.status();
  EXPECT_EQ(bound->rows, 1);
  EXPECT_EQ(bound->shapes[0], (Shape{2, 3, 5}));
}

TEST(BucketTest, IsThePowerOfTwoAboveUpToTheMaximum) {
  EXPECT_EQ(BucketFor(1, 8), 1);
  EXPECT_EQ(BucketFor(2, 8), 2);
  EXPECT_EQ(BucketFor(5, 8), 8);
  EXPECT_EQ(BucketFor(7, 8), 8);
  EXPECT_EQ(BucketFor(9, 10), 10);
  EXPECT_EQ(BucketFor(10, 10), 10);
}

}  // namespace
}  // namespace octet::server
