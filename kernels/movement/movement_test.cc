// Moving operators: hand-written expectations for the references, every kernel against its
// reference.
#include <numeric>

#include "gmock/gmock.h"
#include "kernels/movement/movement_reference.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const DType kTypes[] = {DType::kU8, DType::kF16, DType::kF32, DType::kS64};  // 1, 2, 4, 8 bytes

std::vector<double> Count(int64_t n) {
  std::vector<double> out(static_cast<size_t>(n));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

// The kernel's result for numbered elements, compared with the reference's; both must agree for
// every element size.
template <typename Params, typename Create, typename Reference>
std::vector<double> Check(Params params, const std::vector<Operand>& sources,
                          const TensorSpec& dst_spec, Create create, Reference reference,
                          const std::string& what) {
  std::vector<const void*> src;
  for (const Operand& operand : sources) src.push_back(operand.data());
  Operand want = MakeOperand(dst_spec), got = MakeRandom(dst_spec, 999);
  reference(params, src, want.data());
  const auto kernel = create(params, KernelEnv{nullptr, 2});
  EXPECT_TRUE(kernel.ok()) << what << ": " << kernel.status();
  if (!kernel.ok()) return {};
  EXPECT_TRUE(RunKernel(**kernel, src, {got.data()}).ok()) << what;
  EXPECT_EQ(Numbers(got), Numbers(want)) << what << " by " << (*kernel)->implementation();
  return Numbers(want);
}

// ---- strided copy

std::vector<double> CopyNumbered(const StridedCopyParams& params, int64_t src_elements) {
  const TensorSpec spec = Spec(params.dtype, {src_elements});
  std::vector<Operand> sources;
  if (src_elements <= 256) {
    sources.push_back(MakeOperand(spec, Count(src_elements)));
  } else {
    sources.push_back(MakeRandom(spec, 3));
  }
  return Check(
      params, sources, Spec(params.dtype, params.dst_shape), CreateStridedCopy,
      [](const StridedCopyParams& p, const std::vector<const void*>& s, void* d) {
        StridedCopyReference(p, s[0], d);
      },
      absl::StrCat(NameOf(params.dtype), ShapeString(params.dst_shape),
                   ShapeString(params.src_strides)));
}

TEST(StridedCopyTest, TransposesSlicesReversesAndExpands) {
  EXPECT_THAT(CopyNumbered({DType::kF32, {3, 2}, {1, 3}, 0}, 6), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_THAT(CopyNumbered({DType::kS64, {2, 2}, {4, 2}, 1}, 8), ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(CopyNumbered({DType::kF32, {4}, {-1}, 3}, 4), ElementsAre(3, 2, 1, 0));
  EXPECT_THAT(CopyNumbered({DType::kU8, {2, 3}, {1, 0}, 0}, 2), ElementsAre(0, 0, 0, 1, 1, 1));
  EXPECT_THAT(CopyNumbered({DType::kU8, {}, {}, 5}, 6), ElementsAre(5));
}

TEST(StridedCopyTest, EqualsTheReferenceForAllSizesAndPermutations) {
  const std::vector<Shape> shapes = {{2, 3, 4, 5}, {1, 17, 33, 2}, {3, 16, 1, 48}, {2, 1, 19, 65}};
  for (DType type : kTypes) {
    for (const Shape& shape : shapes) {
      const Shape strides = StridesOf(shape);
      std::vector<size_t> order{0, 1, 2, 3};
      do {
        StridedCopyParams p{type, {}, {}, 0};
        for (size_t d : order) {
          p.dst_shape.push_back(shape[d]);
          p.src_strides.push_back(strides[d]);
        }
        CopyNumbered(p, NumElements(shape));
      } while (std::next_permutation(order.begin(), order.end()));
    }
    CopyNumbered({type, {64, 100, 70}, {7000, 1, 100}, 0},
                 64 * 7000);                             // several threads, exchanged
    CopyNumbered({type, {3, 90000}, {0, 1}, 0}, 90000);  // several threads, repeated
    CopyNumbered({type, {0, 4}, {4, 1}, 0}, 4);
    CopyNumbered({type, {20, 30}, {-1, 20}, 19}, 600);
  }
}

TEST(StridedCopyTest, ChoosesTilesForExchangedDimensions) {
  const auto name = [](const StridedCopyParams& p) {
    return (*CreateStridedCopy(p, KernelEnv{}))->implementation();
  };
  EXPECT_EQ(name({DType::kF32, {2, 28, 28, 16}, {12544, 28, 1, 784}, 0}), "transpose");
  EXPECT_EQ(name({DType::kF32, {2, 28, 28}, {784, 28, 1}, 0}), "copy");
  EXPECT_EQ(CreateStridedCopy({DType::kS4, {2}, {1}, 0}, KernelEnv{}).status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(CreateStridedCopy({DType::kU8, {2}, {}, 0}, KernelEnv{}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// ---- pad

std::vector<double> Pad(PadParams::Mode mode, const TensorSpec& src, const Shape& dst,
                        std::vector<int64_t> begin) {
  PadParams params{mode, src, src, std::move(begin), {}};
  params.dst.shape = dst;
  params.fill.assign(static_cast<size_t>(BytesOf(src.dtype)), std::byte{0});
  params.fill[0] = std::byte{9};
  std::vector<Operand> sources;
  sources.push_back(MakeOperand(src, Count(NumElements(src.shape))));
  return Check(
      params, sources, params.dst, CreatePad,
      [](const PadParams& p, const std::vector<const void*>& s, void* d) {
        PadReference(p, s[0], d);
      },
      absl::StrCat("pad ", ShapeString(src.shape), ShapeString(dst), static_cast<int>(mode)));
}

TEST(PadTest, EveryModeAsOnnxSays) {
  using Mode = PadParams::Mode;
  const TensorSpec line = Spec(DType::kU8, {3});
  EXPECT_THAT(Pad(Mode::kConstant, line, {6}, {2}), ElementsAre(9, 9, 0, 1, 2, 9));
  EXPECT_THAT(Pad(Mode::kReflect, line, {7}, {2}), ElementsAre(2, 1, 0, 1, 2, 1, 0));
  EXPECT_THAT(Pad(Mode::kEdge, line, {6}, {2}), ElementsAre(0, 0, 0, 1, 2, 2));
  EXPECT_THAT(Pad(Mode::kWrap, line, {7}, {2}), ElementsAre(1, 2, 0, 1, 2, 0, 1));
  EXPECT_THAT(Pad(Mode::kConstant, line, {3}, {-1}), ElementsAre(1, 2, 9));
  EXPECT_THAT(Pad(Mode::kConstant, Spec(DType::kU8, {2, 2}), {3, 3}, {1, 0}),
              ElementsAre(9, 9, 9, 0, 1, 9, 2, 3, 9));
  EXPECT_THAT(Pad(Mode::kConstant, Spec(DType::kU8, {0}), {2}, {1}), ElementsAre(9, 9));
  EXPECT_THAT(Pad(Mode::kConstant, Spec(DType::kU8, {}), {}, {}), ElementsAre(0));
}

TEST(PadTest, EqualsTheReferenceForAllSizes) {
  for (DType type : kTypes) {
    for (auto mode : {PadParams::Mode::kConstant, PadParams::Mode::kReflect, PadParams::Mode::kEdge,
                      PadParams::Mode::kWrap}) {
      Pad(mode, Spec(type, {1, 3, 4, 5}), {1, 4, 6, 9}, {0, 1, 1, 2});
      Pad(mode, Spec(type, {2, 3, 4, 5}), {1, 3, 2, 9}, {-1, 0, -1, 2});
      Pad(mode, Spec(type, {2, 3, 4, 5}), {2, 3, 4, 1}, {0, 0, 0, -9});
      Pad(mode, Spec(type, {2, 3, 4, 5}), {2, 3, 4, 0}, {0, 0, 0, 0});
      Pad(mode, Spec(type, {1, 4, 8, 7}), {1, 40, 90, 70}, {0, 3, 9, 30});
    }
  }
}

TEST(PadTest, RefusesWhatContradictsItself) {
  const TensorSpec s = Spec(DType::kF32, {2}), empty = Spec(DType::kF32, {0});
  EXPECT_EQ(CreatePad({PadParams::Mode::kConstant, s, s, {0}, {std::byte{0}}}, KernelEnv{})
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CreatePad({PadParams::Mode::kEdge, empty, s, {0}, {}}, KernelEnv{}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// ---- gather

TEST(GatherTest, TakesSlicesWithNegativeIndices) {
  for (DType type : kTypes) {
    for (DType index_type : {DType::kS32, DType::kS64}) {
      for (int axis : {0, 1, 2}) {
        GatherParams params;
        params.src = Spec(type, {4, 5, 3});
        params.indices = Spec(index_type, {2, 2});
        params.axis = axis;
        params.dst = Spec(type, {});
        for (int d = 0; d < 3; ++d) {
          if (d == axis) {
            params.dst.shape.push_back(2);
            params.dst.shape.push_back(2);
          } else {
            params.dst.shape.push_back(params.src.shape[static_cast<size_t>(d)]);
          }
        }
        std::vector<Operand> sources;
        sources.push_back(MakeOperand(params.src, Count(60)));
        sources.push_back(MakeOperand(params.indices, {2, 0, -1, 1}));
        const auto got = Check(
            params, sources, params.dst, CreateGather,
            [](const GatherParams& p, const std::vector<const void*>& s, void* d) {
              GatherReference(p, s[0], s[1], d);
            },
            absl::StrCat("gather ", axis));
        if (axis == 2) {
          EXPECT_THAT(std::vector<double>(got.begin(), got.begin() + 8),
                      ElementsAre(2, 0, 2, 1, 5, 3, 5, 4));
        }
      }
    }
  }
}

TEST(GatherTest, ScalarIndexDropsTheAxis) {
  const GatherParams params{Spec(DType::kS64, {4}), Spec(DType::kS64, {}), Spec(DType::kS64, {}),
                            0};
  const auto kernel = CreateGather(params, KernelEnv{});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  const Operand src = MakeOperand(params.src, {5, 6, 7, 8}),
                index = MakeOperand(params.indices, {-2});
  Operand dst = MakeOperand(params.dst);
  ASSERT_TRUE(RunKernel(**kernel, {src.data(), index.data()}, {dst.data()}).ok());
  EXPECT_THAT(Numbers(dst), ElementsAre(7));
}

TEST(GatherTest, FailsTheRunOnAnIndexOutOfRange) {
  const GatherParams params{Spec(DType::kF32, {4, 2}), Spec(DType::kS64, {2}),
                            Spec(DType::kF32, {2, 2}), 0};
  const auto kernel = CreateGather(params, KernelEnv{});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  const Operand src = MakeRandom(params.src, 1);
  Operand dst = MakeOperand(params.dst);
  for (double bad : {4.0, -5.0, 9.2e18}) {
    const Operand index = MakeOperand(params.indices, {0, bad});
    const absl::Status status = RunKernel(**kernel, {src.data(), index.data()}, {dst.data()});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("outside [-4, 4)"));
  }
}

// ---- where

TEST(WhereTest, ChoosesWithBroadcast) {
  for (DType type : kTypes) {
    WhereParams params{Spec(DType::kBool, {2, 1}), Spec(type, {3}), Spec(type, {}),
                       Spec(type, {2, 3})};
    std::vector<Operand> sources;
    sources.push_back(MakeOperand(params.condition, {1, 0}));
    sources.push_back(MakeOperand(params.a, {1, 2, 3}));
    sources.push_back(MakeOperand(params.b, {7}));
    const auto reference = [](const WhereParams& p, const std::vector<const void*>& s, void* d) {
      WhereReference(p, s[0], s[1], s[2], d);
    };
    EXPECT_THAT(Check(params, sources, params.dst, CreateWhere, reference, "where"),
                ElementsAre(1, 2, 3, 7, 7, 7));
    params = {Spec(DType::kBool, {4, 1, 50, 7}), Spec(type, {4, 30, 50, 7}), Spec(type, {30, 1, 7}),
              Spec(type, {4, 30, 50, 7})};
    sources.clear();
    sources.push_back(MakeRandom(params.condition, 0, 1, 1));
    sources.push_back(MakeRandom(params.a, 2));
    sources.push_back(MakeRandom(params.b, 3));
    Check(params, sources, params.dst, CreateWhere, reference, "where, large");
  }
}

// ---- space and depth

TEST(DepthToSpaceTest, BothModesAndBack) {
  using Mode = DepthToSpaceParams::Mode;
  const auto reference = [](const DepthToSpaceParams& p, const std::vector<const void*>& s,
                            void* d) { DepthToSpaceReference(p, s[0], d); };
  const auto run = [&](Mode mode, const Shape& src, const Shape& dst, DType type) {
    const DepthToSpaceParams params{mode, Spec(type, src), Spec(type, dst), 2};
    std::vector<Operand> sources;
    sources.push_back(MakeOperand(params.src, Count(NumElements(src))));
    return Check(params, sources, params.dst, CreateDepthToSpace, reference, "depth");
  };
  // Channels 0..7 of one pixel: DCR takes c = k % 2, CRD takes c = k / 4.
  EXPECT_THAT(run(Mode::kDcr, {1, 8, 1, 1}, {1, 2, 2, 2}, DType::kF32),
              ElementsAre(0, 2, 4, 6, 1, 3, 5, 7));
  EXPECT_THAT(run(Mode::kCrd, {1, 8, 1, 1}, {1, 2, 2, 2}, DType::kF32),
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(run(Mode::kSpaceToDepth, {1, 2, 2, 2}, {1, 8, 1, 1}, DType::kF32),
              ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
  for (DType type : kTypes) {
    run(Mode::kDcr, {2, 12, 3, 2}, {2, 3, 6, 4}, type);
    run(Mode::kCrd, {2, 12, 3, 2}, {2, 3, 6, 4}, type);
    run(Mode::kSpaceToDepth, {2, 3, 6, 4}, {2, 12, 3, 2}, type);
  }
  const DepthToSpaceParams odd{Mode::kDcr, Spec(DType::kF32, {1, 6, 1, 1}),
                               Spec(DType::kF32, {1, 1, 2, 2}), 2};
  EXPECT_EQ(CreateDepthToSpace(odd, KernelEnv{}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octet::kernels
