// Gathering and scattering at positions, against the definitions written out over multi-indices.
#include "kernels/plain/indexing.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/testing.h"

namespace octet::kernels {
namespace {

std::vector<double> RunOn(const absl::StatusOr<std::unique_ptr<Kernel>>& kernel,
                          const std::vector<const Operand*>& src, const TensorSpec& dst_spec) {
  EXPECT_TRUE(kernel.ok()) << kernel.status();
  if (!kernel.ok()) return {};
  Operand dst = MakeRandom(dst_spec, 77);
  std::vector<const void*> pointers;
  for (const Operand* o : src) pointers.push_back(o->data());
  const absl::Status status = RunKernel(**kernel, pointers, {dst.data()});
  EXPECT_TRUE(status.ok()) << status;
  return Numbers(dst);
}

absl::Status Failure(const absl::StatusOr<std::unique_ptr<Kernel>>& kernel,
                     const std::vector<const Operand*>& src, const TensorSpec& dst_spec) {
  if (!kernel.ok()) return kernel.status();
  Operand dst = MakeOperand(dst_spec);
  std::vector<const void*> pointers;
  for (const Operand* o : src) pointers.push_back(o->data());
  return RunKernel(**kernel, pointers, {dst.data()});
}

Tensor AsConstant(const Operand& o) {
  return Tensor::FromValues<int64_t>(
      DType::kS64, o.spec.shape,
      {static_cast<const int64_t*>(o.data()), static_cast<size_t>(NumElements(o.spec.shape))});
}

const DType kTypes[] = {DType::kF32, DType::kF64, DType::kF16, DType::kS8,
                        DType::kU8,  DType::kS32, DType::kS64};

TEST(GatherElementsTest, FollowsTheDefinitionForEveryTypeAndAxis) {
  const Shape shape = {3, 4, 5};
  for (DType dtype : kTypes) {
    for (int axis = 0; axis < 3; ++axis) {
      for (DType index_type : {DType::kS32, DType::kS64}) {
        Shape dims = {2, 3, 4};
        dims[static_cast<size_t>(axis)] = 7;
        const int64_t size = shape[static_cast<size_t>(axis)];
        const Operand src = MakeRandom(Spec(dtype, shape), 5);
        const Operand at = MakeRandom(Spec(index_type, dims), static_cast<double>(-size),
                                      static_cast<double>(size - 1), 6);
        std::vector<double> want;
        ForEachIndex(dims, [&](const Index& i) {
          Index from = i;
          int64_t& a = from[static_cast<size_t>(axis)];
          a = static_cast<int64_t>(at.number(Offset(StridesOf(dims), i)));
          if (a < 0) a += size;
          want.push_back(src.number(Offset(StridesOf(shape), from)));
        });
        const auto kernel = CreateGatherElements({src.spec, at.spec, Spec(dtype, dims), axis}, {});
        EXPECT_EQ(RunOn(kernel, {&src, &at}, Spec(dtype, dims)), want)
            << NameOf(dtype) << " axis " << axis;
      }
    }
  }
}

TEST(GatherElementsTest, AnIndexOutsideIsAnErrorThatNamesItAndTheBound) {
  const Operand src = MakeRandom(Spec(DType::kF32, {4}), 5);
  for (double bad : {4.0, -5.0, 9e15, -9e15}) {
    const Operand at = MakeOperand(Spec(DType::kS64, {3}), {0, 3, bad});
    const absl::Status s =
        Failure(CreateGatherElements({src.spec, at.spec, Spec(DType::kF32, {3}), 0}, {}),
                {&src, &at}, Spec(DType::kF32, {3}));
    EXPECT_EQ(s.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(s.message().find(absl::StrCat("index ", static_cast<int64_t>(bad),
                                            " (element 2) is outside [-4, 4)")),
              std::string::npos)
        << s;
  }
}

TEST(GatherElementsTest, AnEmptyAxisHasNoPositions) {
  const Operand src = MakeOperand(Spec(DType::kF32, {0, 2}));
  const Operand none = MakeOperand(Spec(DType::kS64, {0, 2}));
  EXPECT_TRUE(RunOn(CreateGatherElements({src.spec, none.spec, Spec(DType::kF32, {0, 2}), 0}, {}),
                    {&src, &none}, Spec(DType::kF32, {0, 2}))
                  .empty());
  const Operand one = MakeOperand(Spec(DType::kS64, {1, 2}), {0, 0});
  EXPECT_FALSE(Failure(CreateGatherElements({src.spec, one.spec, Spec(DType::kF32, {1, 2}), 0}, {}),
                       {&src, &one}, Spec(DType::kF32, {1, 2}))
                   .ok());
}

// Every batch_dims and tuple length, with computed and with constant indices.
TEST(GatherNdTest, FollowsTheDefinition) {
  const Shape shape = {2, 3, 4};
  for (int batch = 0; batch < 2; ++batch) {
    for (int64_t k = 0; k <= 3 - batch; ++k) {
      Shape dims = {2, 5, k};
      Shape out = {2, 5};
      for (size_t d = static_cast<size_t>(batch) + static_cast<size_t>(k); d < 3; ++d)
        out.push_back(shape[d]);
      const Operand src = MakeRandom(Spec(DType::kS16, shape), 5);
      Operand at = MakeOperand(Spec(DType::kS64, dims));
      const CounterRng rng(8);
      for (int64_t i = 0; i < NumElements(dims); ++i) {
        const int64_t size = shape[static_cast<size_t>(batch + i % std::max<int64_t>(k, 1))];
        StoreInteger(DType::kS64, at.data(), i,
                     static_cast<int64_t>(rng.Bits(static_cast<uint64_t>(i)) %
                                          static_cast<uint64_t>(2 * size)) -
                         size);
      }
      std::vector<double> want;
      ForEachIndex(out, [&](const Index& i) {
        Index from;
        for (int d = 0; d < batch; ++d) from.push_back(i[static_cast<size_t>(d)]);
        for (int64_t d = 0; d < k; ++d) {
          int64_t a = static_cast<int64_t>(at.number((i[0] * 5 + i[1]) * k + d));
          if (a < 0) a += shape[static_cast<size_t>(batch + d)];
          from.push_back(a);
        }
        from.insert(from.end(), i.begin() + 2, i.end());
        want.push_back(src.number(Offset(StridesOf(shape), from)));
      });
      const TensorSpec dst = Spec(DType::kS16, out);
      GatherNdParams params{src.spec, at.spec, dst, batch, {}};
      EXPECT_EQ(RunOn(CreateGatherNd(params, {}), {&src, &at}, dst), want) << batch << " " << k;
      params.constant_indices = AsConstant(at);
      EXPECT_EQ(RunOn(CreateGatherNd(params, {}), {&src}, dst), want)
          << batch << " " << k << ", constant";
    }
  }
}

TEST(GatherNdTest, ATupleOutsideIsAnErrorBeforeOrAtTheRun) {
  const Operand src = MakeRandom(Spec(DType::kF32, {2, 3}), 5);
  const Operand at = MakeOperand(Spec(DType::kS64, {2, 2}), {1, 2, 0, 3});
  GatherNdParams params{src.spec, at.spec, Spec(DType::kF32, {2}), 0, {}};
  const absl::Status s = Failure(CreateGatherNd(params, {}), {&src, &at}, params.dst);
  EXPECT_NE(s.message().find("index 3 (element 3) is outside [-3, 3)"), std::string::npos) << s;
  params.constant_indices = AsConstant(at);
  EXPECT_EQ(CreateGatherNd(params, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

double Reduce(ScatterReduction r, double a, double b) {
  switch (r) {
    case ScatterReduction::kNone:
      return b;
    case ScatterReduction::kAdd:
      return a + b;
    case ScatterReduction::kMul:
      return a * b;
    case ScatterReduction::kMax:
      return std::max(a, b);
    case ScatterReduction::kMin:
      return std::min(a, b);
  }
  return 0;
}

const ScatterReduction kReductions[] = {ScatterReduction::kNone, ScatterReduction::kAdd,
                                        ScatterReduction::kMul, ScatterReduction::kMax,
                                        ScatterReduction::kMin};

// Small integers: exact in every type, sums and products of repeated positions included.
TEST(ScatterElementsTest, AppliesUpdatesInOrderForEveryTypeAxisAndReduction) {
  const Shape shape = {4, 3, 2};
  for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16, DType::kS8, DType::kS32,
                      DType::kS64}) {
    for (ScatterReduction reduction : kReductions) {
      for (int axis = 0; axis < 3; ++axis) {
        Shape dims = {2, 2, 2};
        dims[static_cast<size_t>(axis)] = 3;
        const int64_t size = shape[static_cast<size_t>(axis)];
        const Operand data = MakeRandom(Spec(dtype, shape), -2, 2, 1);
        const Operand rounded = MakeOperand(data.spec, [&] {
          std::vector<double> v = Numbers(data);
          for (double& x : v) x = std::nearbyint(x);
          return v;
        }());
        Operand updates = MakeOperand(Spec(dtype, dims));
        for (int64_t i = 0; i < NumElements(dims); ++i)
          StoreNumber(dtype, updates.data(), i, static_cast<double>(i % 5 - 2));
        const Operand at = MakeRandom(Spec(DType::kS32, dims), static_cast<double>(-size),
                                      static_cast<double>(size - 1), 3);
        std::vector<double> want = Numbers(rounded);
        ForEachIndex(dims, [&](const Index& i) {
          Index to = i;
          int64_t& a = to[static_cast<size_t>(axis)];
          a = static_cast<int64_t>(at.number(Offset(StridesOf(dims), i)));
          if (a < 0) a += size;
          double& cell = want[static_cast<size_t>(Offset(StridesOf(shape), to))];
          cell = Reduce(reduction, cell, updates.number(Offset(StridesOf(dims), i)));
        });
        const auto kernel = CreateScatterElements(
            {data.spec, at.spec, updates.spec, data.spec, axis, reduction}, {});
        EXPECT_EQ(RunOn(kernel, {&rounded, &at, &updates}, data.spec), want)
            << NameOf(dtype) << " axis " << axis << " reduction " << static_cast<int>(reduction);
      }
    }
  }
}

TEST(ScatterElementsTest, AnIndexOutsideIsAnError) {
  const Operand data = MakeRandom(Spec(DType::kF32, {4}), 5),
                updates = MakeRandom(Spec(DType::kF32, {2}), 6);
  const Operand at = MakeOperand(Spec(DType::kS64, {2}), {0, -5});
  const absl::Status s =
      Failure(CreateScatterElements({data.spec, at.spec, updates.spec, data.spec, 0, {}}, {}),
              {&data, &at, &updates}, data.spec);
  EXPECT_NE(s.message().find("index -5 (element 1) is outside [-4, 4)"), std::string::npos) << s;
}

TEST(ScatterNdTest, WritesSlicesWithComputedAndConstantIndices) {
  const Shape shape = {4, 2, 3};
  for (ScatterReduction reduction : kReductions) {
    for (int64_t k = 0; k <= 3; ++k) {
      const Shape dims = {5, k};
      Shape out = {5};
      for (size_t d = static_cast<size_t>(k); d < 3; ++d) out.push_back(shape[d]);
      Operand data = MakeOperand(Spec(DType::kS32, shape)),
              updates = MakeOperand(Spec(DType::kS32, out));
      for (int64_t i = 0; i < 24; ++i)
        StoreNumber(DType::kS32, data.data(), i, static_cast<double>(i % 7 - 3));
      for (int64_t i = 0; i < NumElements(out); ++i)
        StoreNumber(DType::kS32, updates.data(), i, static_cast<double>(i % 5 - 2));
      Operand at = MakeOperand(Spec(DType::kS64, dims));
      for (int64_t i = 0; i < 5 * k; ++i) {
        const int64_t size = shape[static_cast<size_t>(i % k)];
        StoreInteger(DType::kS64, at.data(), i, i * 5 % (2 * size) - size);
      }
      std::vector<double> want = Numbers(data);
      ForEachIndex(out, [&](const Index& i) {
        Index to;
        for (int64_t d = 0; d < k; ++d) {
          int64_t a = static_cast<int64_t>(at.number(i[0] * k + d));
          to.push_back(a < 0 ? a + shape[static_cast<size_t>(d)] : a);
        }
        to.insert(to.end(), i.begin() + 1, i.end());
        double& cell = want[static_cast<size_t>(Offset(StridesOf(shape), to))];
        cell = Reduce(reduction, cell, updates.number(Offset(StridesOf(out), i)));
      });
      ScatterNdParams params{data.spec, at.spec, updates.spec, data.spec, reduction, {}};
      EXPECT_EQ(RunOn(CreateScatterNd(params, {}), {&data, &updates, &at}, data.spec), want) << k;
      params.constant_indices = AsConstant(at);
      EXPECT_EQ(RunOn(CreateScatterNd(params, {}), {&data, &updates}, data.spec), want)
          << k << ", constant";
    }
  }
}

TEST(ScatterNdTest, ATupleOutsideIsAnErrorAndNothingOutsideIsTouched) {
  const Operand data = MakeRandom(Spec(DType::kF32, {2, 2}), 5),
                updates = MakeRandom(Spec(DType::kF32, {1, 2}), 6);
  const Operand at = MakeOperand(Spec(DType::kS64, {1, 1}), {2});
  const absl::Status s =
      Failure(CreateScatterNd({data.spec, at.spec, updates.spec, data.spec, {}, {}}, {}),
              {&data, &updates, &at}, data.spec);
  EXPECT_NE(s.message().find("index 2 (element 0) is outside [-2, 2)"), std::string::npos) << s;
}

TEST(ScatterNdTest, SumsOfStoredIntegersAreRefused) {
  const TensorSpec q = QuantSpec(DType::kU8, {2, 2}, 0.1f, 3);
  const TensorSpec at = Spec(DType::kS64, {1, 1});
  const TensorSpec row = QuantSpec(DType::kU8, {1, 2}, 0.1f, 3);
  EXPECT_TRUE(CreateScatterNd({q, at, row, q, ScatterReduction::kMax, {}}, {}).ok());
  EXPECT_EQ(CreateScatterNd({q, at, row, q, ScatterReduction::kAdd, {}}, {}).status().code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace octet::kernels
