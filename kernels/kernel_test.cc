// Weight store, choice among implementations, element functions, function kernels.
#include "kernels/kernel.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace octet::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

absl::StatusOr<PackedWeights> Pack(int64_t bytes) {
  absl::StatusOr<Buffer> buffer = Buffer::Allocate(bytes);
  if (!buffer.ok()) return buffer.status();
  PackedWeights packed;
  packed.data = *std::move(buffer);
  return packed;
}

TEST(WeightStoreTest, PacksOncePerKeyUnderThreads) {
  WeightStore store;
  std::atomic<int> calls = 0;
  std::atomic<bool> same = true;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int key = 0; key < 50; ++key) {
        const std::string name = absl::StrCat(key, "/conv/plain");
        const auto first = store.GetOrPack(name, [&] {
          ++calls;
          return Pack(64);
        });
        const auto second = store.GetOrPack(name, [&] {
          ++calls;
          return Pack(64);
        });
        if (!first.ok() || !second.ok() || first->get() != second->get()) same = false;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(same);
  EXPECT_EQ(calls, 50);
  EXPECT_EQ(store.TotalBytes(), 50 * 64);
}

TEST(WeightStoreTest, FindsTheFirstCopyOfAPrefixAndListsAll) {
  WeightStore store;
  ASSERT_TRUE(store.GetOrPack("1/conv/a", [] { return Pack(64); }).ok());
  ASSERT_TRUE(store.GetOrPack("12/conv/a", [] { return Pack(128); }).ok());
  ASSERT_TRUE(store.GetOrPack("12/conv/b", [] { return Pack(256); }).ok());
  ASSERT_NE(store.FindFirst("12/conv/"), nullptr);
  EXPECT_EQ(store.FindFirst("12/conv/")->data.size_bytes(), 128);
  EXPECT_EQ(store.FindFirst("2/conv/"), nullptr);
  EXPECT_THAT(store.Entries(),
              ElementsAre(Pair("1/conv/a", 64), Pair("12/conv/a", 128), Pair("12/conv/b", 256)));
}

TEST(WeightStoreTest, ReportsAndForgetsAFailedPack) {
  WeightStore store;
  const auto failed = store.GetOrPack(
      "1/x", [] { return absl::StatusOr<PackedWeights>(absl::DataLossError("bad")); });
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(store.GetOrPack("1/x", [] { return Pack(64); }).ok());
}

struct Params {
  int accepted_by = 0;
};
template <int kIndex>
absl::StatusOr<std::unique_ptr<Kernel>> Create(const Params& params, const KernelEnv&) {
  if (params.accepted_by < 0) return absl::InvalidArgumentError("broken");
  if (params.accepted_by != kIndex) return absl::UnimplementedError(absl::StrCat("only ", kIndex));
  return MakeFunctionKernel(absl::StrCat("impl", kIndex), 0, [](const BindArgs&) {});
}
constexpr Implementation<Params> kList[] = {
    {"first", Create<1>}, {"second", Create<2>}, {"third", Create<3>}};

TEST(SelectTest, TakesTheFirstThatAcceptsAndKeepsTheReasonsOfOthers) {
  const auto kernel = Select(absl::MakeConstSpan(kList), Params{3}, KernelEnv{});
  ASSERT_TRUE(kernel.ok());
  EXPECT_EQ((*kernel)->implementation(), "impl3");
  EXPECT_THAT((*kernel)->refusals(), ElementsAre("first: only 1", "second: only 2"));
}

TEST(SelectTest, ReportsAllReasonsWhenNoneAccepts) {
  const auto kernel = Select(absl::MakeConstSpan(kList), Params{9}, KernelEnv{});
  EXPECT_EQ(kernel.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(kernel.status().message()),
              HasSubstr("first: only 1; second: only 2; third: only 3"));
}

TEST(SelectTest, StopsAtAnErrorThatIsNoRefusal) {
  const auto kernel = Select(absl::MakeConstSpan(kList), Params{-1}, KernelEnv{});
  EXPECT_EQ(kernel.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(FunctionKernelTest, RunsOnTheMemoryItWasBoundTo) {
  const auto kernel = MakeFunctionKernel("sum", 128, [](const BindArgs& args) {
    *static_cast<int*>(args.dst[0]) =
        *static_cast<const int*>(args.src[0]) + *static_cast<const int*>(args.src[1]);
  });
  EXPECT_EQ(kernel->scratch_bytes(), 128);
  int a = 1, b = 2, c = 0;
  absl::StatusOr<BoundKernel> bound = absl::InternalError("");
  {
    const std::vector<const void*> src{&a, &b};  // the spans die before the run
    const std::vector<void*> dst{&c};
    bound = kernel->Bind({src, dst, nullptr, nullptr});
  }
  ASSERT_TRUE(bound.ok());
  a = 10;
  ASSERT_TRUE((*bound)().ok());
  EXPECT_EQ(c, 12);
}

TEST(ActivationTest, KnownValues) {
  const auto f = [](ActivationKind kind, double x, float alpha = 0, float beta = 0) {
    return Apply(Activation{kind, alpha, beta}, x);
  };
  EXPECT_EQ(f(ActivationKind::kRelu, -1), 0);
  EXPECT_EQ(f(ActivationKind::kLeakyRelu, -2, 0.5f), -1);
  EXPECT_EQ(f(ActivationKind::kClip, 7, 0, 6), 6);
  EXPECT_NEAR(f(ActivationKind::kSigmoid, 1), 0.7310585786, 1e-9);
  EXPECT_NEAR(f(ActivationKind::kGelu, 1), 0.8413447461, 1e-9);
  EXPECT_NEAR(f(ActivationKind::kGeluTanh, 1), 0.8411919906, 1e-9);
  EXPECT_NEAR(f(ActivationKind::kHardSwish, 1, 1.0f / 6, 0.5f), 2.0 / 3, 1e-7);
  EXPECT_NEAR(f(ActivationKind::kSwish, 2, 1), 1.7615941559, 1e-9);
  EXPECT_NEAR(f(ActivationKind::kMish, 1), 0.8650983882, 1e-9);
  EXPECT_NEAR(f(ActivationKind::kSoftplus, -30), 9.3576229688e-14, 1e-22);
  EXPECT_EQ(f(ActivationKind::kRound, 2.5), 2);
  EXPECT_EQ(f(ActivationKind::kLinear, 3, 2, 1), 7);
  EXPECT_TRUE(std::isnan(f(ActivationKind::kRelu, std::numeric_limits<double>::quiet_NaN())));
}

TEST(ActivationTest, EveryKindHasItsOwnName) {
  for (int i = 0; i <= static_cast<int>(ActivationKind::kLinear); ++i) {
    for (int j = 0; j < i; ++j) {
      EXPECT_NE(NameOf(static_cast<ActivationKind>(i)), NameOf(static_cast<ActivationKind>(j)));
    }
  }
  EXPECT_EQ(NameOf(ActivationKind::kLinear), "linear");
}

}  // namespace
}  // namespace octet::kernels
