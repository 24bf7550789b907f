// Descriptors and error mapping of the oneDNN wrapper.
#include "kernels/onednn.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(DnnlCallTest, MapsErrorsToStatuses) {
  const auto code = [](dnnl_status_t status) {
    return DnnlCall("conv", [&] { throw dnnl::error(status, "could not"); });
  };
  EXPECT_TRUE(DnnlCall("ok", [] {}).ok());
  EXPECT_EQ(code(dnnl_unimplemented).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(code(dnnl_out_of_memory).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code(dnnl_invalid_arguments).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(dnnl_runtime_error).code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(code(dnnl_unimplemented).message()),
              HasSubstr("conv: oneDNN says could not"));
  EXPECT_EQ(DnnlCall("x", [] { throw std::bad_alloc(); }).code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(DnnlDescTest, FollowsShapeAndLayout) {
  const auto strides = [](const TensorSpec& spec) {
    const auto desc = DnnlDesc(spec);
    EXPECT_TRUE(desc.ok()) << desc.status();
    return desc.ok() ? desc->get_strides() : dnnl::memory::dims{};
  };
  EXPECT_THAT(strides(Spec(DType::kF32, {2, 3, 4, 5})), ElementsAre(60, 20, 5, 1));
  EXPECT_THAT(strides(Spec(DType::kU8, {2, 3, 4, 5}, Layout::kChannelsLast)),
              ElementsAre(60, 1, 15, 3));
  EXPECT_THAT(strides(Spec(DType::kF32, {})), ElementsAre(1));
  EXPECT_EQ(DnnlDesc(Spec(DType::kS64, {2})).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(DnnlKernelTest, ExecutesOnBoundMemory) {
  const TensorSpec src = Spec(DType::kF32, {1, 2, 2, 2});
  const TensorSpec dst = Spec(DType::kF32, {1, 2, 2, 2}, Layout::kChannelsLast);
  DnnlKernelParts parts;
  parts.implementation = "onednn:test";
  ASSERT_TRUE(DnnlCall("reorder", [&] {
                const dnnl::reorder::primitive_desc pd(CpuEngine(), *DnnlDesc(src), CpuEngine(),
                                                       *DnnlDesc(dst));
                EXPECT_FALSE(ImplName(pd).empty());
                parts.primitive = dnnl::reorder(pd);
              }).ok());
  parts.arguments = {{DNNL_ARG_SRC, DnnlArgument::From::kSrc, 0, *DnnlDesc(src)},
                     {DNNL_ARG_DST, DnnlArgument::From::kDst, 0, *DnnlDesc(dst)}};
  const auto kernel = MakeDnnlKernel(std::move(parts));
  const Operand in = MakeOperand(src, {1, 2, 3, 4, 5, 6, 7, 8});
  Operand out = MakeOperand(dst);
  ASSERT_TRUE(RunKernel(*kernel, {in.data()}, {out.data()}).ok());
  EXPECT_THAT(Numbers(out), ElementsAre(1, 5, 2, 6, 3, 7, 4, 8));
}

TEST(DnnlNamesTest, KnowsReferenceImplementations) {
  EXPECT_TRUE(IsReferenceImpl("ref:any"));
  EXPECT_TRUE(IsReferenceImpl("ref_int8:any"));
  EXPECT_FALSE(IsReferenceImpl("brgconv:avx512_core_vnni"));
}

}  // namespace
}  // namespace octet::kernels
