// TopK, CumSum, OneHot and ReverseSequence against their definitions written out.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/plain/cum_sum.h"
#include "kernels/plain/one_hot.h"
#include "kernels/plain/reverse_sequence.h"
#include "kernels/plain/top_k.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

// Positions of the k best along an axis of [outer, size, inner], by a stable sort of all.
std::vector<double> BestPositions(const Operand& src, int64_t outer, int64_t size, int64_t inner,
                                  int64_t k, bool largest) {
  std::vector<double> out(static_cast<size_t>(outer * k * inner));
  for (int64_t lane = 0; lane < outer * inner; ++lane) {
    const auto value = [&](int64_t j) {
      return src.number((lane / inner * size + j) * inner + lane % inner);
    };
    std::vector<int64_t> order(static_cast<size_t>(size));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return largest ? value(a) > value(b) : value(a) < value(b);
    });
    for (int64_t j = 0; j < k; ++j) {
      out[static_cast<size_t>((lane / inner * k + j) * inner + lane % inner)] =
          static_cast<double>(order[static_cast<size_t>(j)]);
    }
  }
  return out;
}

TEST(TopKTest, KeepsTheBestInOrderForEveryTypeAxisAndK) {
  for (DType dtype :
       {DType::kF32, DType::kF64, DType::kF16, DType::kS8, DType::kU8, DType::kS32, DType::kS64}) {
    for (int axis = 0; axis < 3; ++axis) {
      Shape shape = {2, 3, 4};
      shape[static_cast<size_t>(axis)] = 100;
      int64_t outer = 1, inner = 1;
      for (int d = 0; d < axis; ++d) outer *= shape[static_cast<size_t>(d)];
      for (int d = axis + 1; d < 3; ++d) inner *= shape[static_cast<size_t>(d)];
      const Operand src =
          MakeRandom(Spec(dtype, shape), -20, 20, 4);  // integers repeat: ties count
      for (int64_t k : {0, 1, 3, 50, 100}) {
        for (bool largest : {true, false}) {
          Shape out = shape;
          out[static_cast<size_t>(axis)] = k;
          TopKParams params{src.spec, out, axis,
                            largest ? TopKParams::Largest::kYes : TopKParams::Largest::kNo,
                            TopKParams::Order::kSorted};
          const auto kernel = CreateTopK(params, {});
          ASSERT_TRUE(kernel.ok()) << kernel.status();
          Operand values = MakeOperand(Spec(dtype, out)),
                  positions = MakeOperand(Spec(DType::kS64, out));
          ASSERT_TRUE(RunKernel(**kernel, {src.data()}, {values.data(), positions.data()}).ok());
          EXPECT_EQ(Numbers(positions), BestPositions(src, outer, 100, inner, k, largest))
              << NameOf(dtype) << " axis " << axis << " k " << k;
          ForEachIndex(out, [&](const Index& i) {
            Index from = i;
            const int64_t at = Offset(StridesOf(out), i);
            from[static_cast<size_t>(axis)] = static_cast<int64_t>(positions.number(at));
            EXPECT_EQ(values.number(at), src.number(Offset(StridesOf(shape), from)));
          });
        }
      }
    }
  }
}

TEST(TopKTest, UnsortedResultsAreTheSameSetAndOutputsMayBeLeftOut) {
  const Operand src = MakeRandom(Spec(DType::kF32, {1000}), 4);
  for (int64_t k : {10, 700}) {
    const auto kernel =
        CreateTopK({src.spec, {k}, 0, TopKParams::Largest::kYes, TopKParams::Order::kAny}, {});
    ASSERT_TRUE(kernel.ok());
    Operand positions = MakeOperand(Spec(DType::kS64, {k}));
    ASSERT_TRUE(RunKernel(**kernel, {src.data()}, {nullptr, positions.data()}).ok());
    std::vector<double> found = Numbers(positions), want = BestPositions(src, 1, 1000, 1, k, true);
    std::sort(found.begin(), found.end());
    std::sort(want.begin(), want.end());
    EXPECT_EQ(found, want);
  }
}

TEST(TopKTest, NanCountsAsLargerThanEveryNumber) {
  const double nan = std::numeric_limits<double>::quiet_NaN(),
               inf = std::numeric_limits<double>::infinity();
  const Operand src = MakeOperand(Spec(DType::kF32, {5}), {1, nan, inf, -inf, nan});
  Operand values = MakeOperand(Spec(DType::kF32, {5})),
          positions = MakeOperand(Spec(DType::kS64, {5}));
  const auto kernel =
      CreateTopK({src.spec, {5}, 0, TopKParams::Largest::kYes, TopKParams::Order::kSorted}, {});
  ASSERT_TRUE(kernel.ok());
  ASSERT_TRUE(RunKernel(**kernel, {src.data()}, {values.data(), positions.data()}).ok());
  EXPECT_EQ(Numbers(positions), (std::vector<double>{1, 4, 2, 0, 3}));
}

TEST(CumSumTest, SumsForEveryTypeAxisAndDirection) {
  const Shape shape = {3, 4, 5};
  for (DType dtype :
       {DType::kF32, DType::kF64, DType::kF16, DType::kS32, DType::kS64, DType::kU32}) {
    Operand src = MakeOperand(Spec(dtype, shape));
    for (int64_t i = 0; i < 60; ++i)
      StoreNumber(dtype, src.data(), i, static_cast<double>(i * 7 % 11));
    for (int axis = -3; axis < 3; ++axis) {
      for (bool exclusive : {false, true}) {
        for (bool reverse : {false, true}) {
          const auto a = static_cast<size_t>((axis + 3) % 3);
          std::vector<double> want;
          ForEachIndex(shape, [&](const Index& i) {
            double sum = 0;
            for (int64_t j = 0; j < shape[a]; ++j) {
              const bool before = reverse ? j > i[a] : j < i[a];
              Index from = i;
              from[a] = j;
              if (before || (j == i[a] && !exclusive))
                sum += src.number(Offset(StridesOf(shape), from));
            }
            want.push_back(sum);
          });
          const Operand at = MakeOperand(Spec(DType::kS32, {}), {static_cast<double>(axis)});
          const auto kernel = CreateCumSum(
              {src.spec, at.spec,
               exclusive ? CumSumParams::Start::kExclusive : CumSumParams::Start::kInclusive,
               reverse ? CumSumParams::Direction::kReverse : CumSumParams::Direction::kForward},
              {});
          ASSERT_TRUE(kernel.ok()) << kernel.status();
          Operand dst = MakeRandom(src.spec, 9);
          ASSERT_TRUE(RunKernel(**kernel, {src.data(), at.data()}, {dst.data()}).ok());
          EXPECT_EQ(Numbers(dst), want) << NameOf(dtype) << " axis " << axis;
        }
      }
    }
  }
}

TEST(CumSumTest, AnAxisOutsideFailsTheRun) {
  const Operand src = MakeRandom(Spec(DType::kF32, {2, 2}), 1),
                at = MakeOperand(Spec(DType::kS64, {1}), {2});
  const auto kernel = CreateCumSum({src.spec, at.spec, {}, {}}, {});
  ASSERT_TRUE(kernel.ok());
  Operand dst = MakeOperand(src.spec);
  EXPECT_EQ(RunKernel(**kernel, {src.data(), at.data()}, {dst.data()}).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(OneHotTest, MarksIndicesAlongEveryAxisAndIgnoresThoseOutside) {
  for (DType index_type : {DType::kS32, DType::kS64, DType::kU8, DType::kF32}) {
    const bool is_signed = index_type != DType::kU8;
    const Operand at = MakeOperand(Spec(index_type, {2, 3}),
                                   {0, 3, 4, is_signed ? -1.0 : 200.0, is_signed ? -5.0 : 9.0, 2});
    for (size_t axis = 0; axis < 3; ++axis) {
      Shape out = {2, 3};
      out.insert(out.begin() + static_cast<std::ptrdiff_t>(axis), 4);
      const Operand values = MakeOperand(Spec(DType::kS16, {2}), {-7, 9});
      std::vector<double> want;
      ForEachIndex(out, [&](const Index& i) {
        Index from = i;
        from.erase(from.begin() + static_cast<std::ptrdiff_t>(axis));
        double index = at.number(from[0] * 3 + from[1]);
        if (index < 0) index += 4;
        want.push_back(index == static_cast<double>(i[axis]) ? 9 : -7);
      });
      const auto kernel =
          CreateOneHot({at.spec, values.spec, Spec(DType::kS16, out), static_cast<int>(axis)}, {});
      ASSERT_TRUE(kernel.ok()) << kernel.status();
      Operand dst = MakeOperand(Spec(DType::kS16, out));
      ASSERT_TRUE(RunKernel(**kernel, {at.data(), values.data()}, {dst.data()}).ok());
      EXPECT_EQ(Numbers(dst), want) << NameOf(index_type) << " axis " << axis;
    }
  }
}

TEST(OneHotTest, NumbersThatNoIntegerHoldsPointNowhere) {
  const Operand at =
      MakeOperand(Spec(DType::kF32, {3}), {1e30, -1e30, std::numeric_limits<double>::quiet_NaN()});
  const Operand values = MakeOperand(Spec(DType::kF32, {2}), {0, 1});
  const auto kernel = CreateOneHot({at.spec, values.spec, Spec(DType::kF32, {3, 2}), 1}, {});
  ASSERT_TRUE(kernel.ok());
  Operand dst = MakeRandom(Spec(DType::kF32, {3, 2}), 3);
  ASSERT_TRUE(RunKernel(**kernel, {at.data(), values.data()}, {dst.data()}).ok());
  EXPECT_EQ(Numbers(dst), std::vector<double>(6, 0));
}

TEST(ReverseSequenceTest, ReversesTheHeadOfEachSequence) {
  for (bool batch_first : {true, false}) {
    const Shape shape = batch_first ? Shape{3, 5, 2} : Shape{5, 3, 2};
    const Operand src = MakeRandom(Spec(DType::kF64, shape), 5);
    const Operand lengths = MakeOperand(Spec(DType::kS64, {3}), {0, 3, 5});
    std::vector<double> want;
    ForEachIndex(shape, [&](const Index& i) {
      Index from = i;
      int64_t& t = from[batch_first ? 1 : 0];
      const auto length = static_cast<int64_t>(lengths.number(i[batch_first ? 0 : 1]));
      if (t < length) t = length - 1 - t;
      want.push_back(src.number(Offset(StridesOf(shape), from)));
    });
    using Axes = ReverseSequenceParams::Axes;
    const auto kernel = CreateReverseSequence(
        {src.spec, lengths.spec, batch_first ? Axes::kBatchFirst : Axes::kTimeFirst}, {});
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    Operand dst = MakeOperand(src.spec);
    ASSERT_TRUE(RunKernel(**kernel, {src.data(), lengths.data()}, {dst.data()}).ok());
    EXPECT_EQ(Numbers(dst), want);
    const Operand bad = MakeOperand(lengths.spec, {0, 6, 5});
    const absl::Status s = RunKernel(**kernel, {src.data(), bad.data()}, {dst.data()});
    EXPECT_NE(s.message().find("length 6 (element 1) is outside [0, 5]"), std::string::npos) << s;
  }
}

}  // namespace
}  // namespace octet::kernels
