// Fourier transforms against the sum that defines them, tables and n-gram counts against values
// worked out by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <numbers>

#include "kernels/plain/dft.h"
#include "kernels/plain/fft.h"
#include "kernels/plain/ngram_counts.h"
#include "kernels/plain/signal_tables.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using Complex = std::complex<double>;

std::vector<Complex> Sum(const std::vector<Complex>& in, double sign) {
  const auto n = static_cast<int64_t>(in.size());
  std::vector<Complex> out;
  for (int64_t k = 0; k < n; ++k) {
    Complex sum = 0;
    for (int64_t j = 0; j < n; ++j) {
      sum += in[static_cast<size_t>(j)] *
             std::polar(1.0, sign * 2 * std::numbers::pi * static_cast<double>(j * k % n) /
                                 static_cast<double>(n));
    }
    out.push_back(sum);
  }
  return out;
}

// Powers of two and of other primes, mixed, the largest direct prime, primes beyond it (Bluestein).
TEST(FftTest, EqualsTheDefiningSumForEveryKindOfLength) {
  for (int64_t n :
       {1, 2, 3, 4, 5, 6, 7, 8, 12, 30, 61, 64, 67, 97, 122, 134, 243, 400, 512, 1009}) {
    std::vector<Complex> in, out(static_cast<size_t>(n));
    const CounterRng rng(static_cast<uint64_t>(n));
    for (int64_t j = 0; j < n; ++j)
      in.emplace_back(rng.Uniform(2 * j) - 0.5, rng.Uniform(2 * j + 1) - 0.5);
    const Fft fft(n);
    std::vector<Complex> work(static_cast<size_t>(fft.work_elements()));
    fft.Transform(in.data(), out.data(), work.data());
    const std::vector<Complex> want = Sum(in, -1);
    for (size_t k = 0; k < want.size(); ++k)
      EXPECT_LT(std::abs(out[k] - want[k]), 1e-10) << n << " " << k;
  }
}

// Lines of a [2, from, 3] signal: shorter and longer than the transform, real and complex, both
// directions.
TEST(DftTest, TransformsLinesAlongAnAxis) {
  for (int64_t parts : {1, 2}) {
    for (int64_t from : {4, 6, 9}) {
      for (bool inverse : {false, true}) {
        for (int64_t to : {4, 6}) {  // one-sided and full
          const int64_t length = 6;
          const Operand src = MakeRandom(Spec(DType::kF32, {2, from, 3, parts}), -1, 1, 3);
          DftParams p{src.spec, Spec(DType::kF32, {2, to, 3, 2}), 1, length,
                      inverse ? DftParams::Direction::kInverse : DftParams::Direction::kForward};
          const auto kernel = CreateDft(p, {});
          ASSERT_TRUE(kernel.ok()) << kernel.status();
          Operand dst = MakeRandom(p.dst, 5);
          ASSERT_TRUE(RunKernel(**kernel, {src.data()}, {dst.data()}).ok());
          for (int64_t o = 0; o < 2; ++o) {
            for (int64_t i = 0; i < 3; ++i) {
              std::vector<Complex> line;
              for (int64_t j = 0; j < length; ++j) {
                const int64_t at = ((o * from + j) * 3 + i) * parts;
                line.emplace_back(j < from ? src.number(at) : 0,
                                  j < from && parts == 2 ? src.number(at + 1) : 0);
              }
              std::vector<Complex> want = Sum(line, inverse ? 1 : -1);
              for (int64_t k = 0; k < to; ++k) {
                if (inverse) want[static_cast<size_t>(k)] /= static_cast<double>(length);
                const int64_t at = ((o * to + k) * 3 + i) * 2;
                EXPECT_NEAR(dst.number(at), want[static_cast<size_t>(k)].real(), 1e-6);
                EXPECT_NEAR(dst.number(at + 1), want[static_cast<size_t>(k)].imag(), 1e-6);
              }
            }
          }
        }
      }
    }
  }
}

TEST(DftTest, RefusesLengthsThatNoMemoryHolds) {
  for (int64_t length : {int64_t{0}, int64_t{1} << 40}) {
    const DftParams p{Spec(DType::kF32, {1, 4, 1}), Spec(DType::kF32, {1, 4, 2}), 1, length, {}};
    EXPECT_EQ(CreateDft(p, {}).status().code(), absl::StatusCode::kInvalidArgument) << length;
  }
}

TEST(StftTest, TransformsWindowedFrames) {
  const Operand signal = MakeRandom(Spec(DType::kF32, {2, 20, 1}), -1, 1, 3),
                window = MakeRandom(Spec(DType::kF32, {8}), 0, 1, 4);
  StftParams p{signal.spec, window.spec, Spec(DType::kF32, {2, 5, 5, 2}), 8, 3};
  const auto kernel = CreateStft(p, {});
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  Operand dst = MakeOperand(p.dst);
  ASSERT_TRUE(RunKernel(**kernel, {signal.data(), window.data()}, {dst.data()}).ok());
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t f = 0; f < 5; ++f) {
      std::vector<Complex> frame;
      for (int64_t j = 0; j < 8; ++j)
        frame.emplace_back(signal.number(b * 20 + f * 3 + j) * window.number(j), 0);
      const std::vector<Complex> want = Sum(frame, -1);
      for (int64_t k = 0; k < 5; ++k) {
        EXPECT_NEAR(dst.number(((b * 5 + f) * 5 + k) * 2), want[static_cast<size_t>(k)].real(),
                    1e-6);
        EXPECT_NEAR(dst.number(((b * 5 + f) * 5 + k) * 2 + 1), want[static_cast<size_t>(k)].imag(),
                    1e-6);
      }
    }
  }
  p.dst.shape[1] = 6;  // the sixth frame would end after the signal
  EXPECT_EQ(CreateStft(p, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SignalTablesTest, WindowsHaveTheirPublishedShape) {
  const std::vector<double> hann = WindowTable(WindowKind::kHann, WindowPeriod::kSymmetric, 5);
  const double want[] = {0, 0.5, 1, 0.5, 0};
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(hann[i], want[i], 1e-12);
  EXPECT_NEAR(WindowTable(WindowKind::kHamming, WindowPeriod::kPeriodic, 8)[4], 1.0, 1e-12);
  EXPECT_NEAR(WindowTable(WindowKind::kHamming, WindowPeriod::kPeriodic, 8)[0], 4.0 / 46, 1e-12);
  EXPECT_NEAR(WindowTable(WindowKind::kBlackman, WindowPeriod::kPeriodic, 8)[4], 1.0, 1e-12);
  EXPECT_NEAR(WindowTable(WindowKind::kBlackman, WindowPeriod::kPeriodic, 8)[2], 0.34, 1e-12);
  EXPECT_EQ(WindowTable(WindowKind::kHann, WindowPeriod::kSymmetric, 1).size(), 1u);
  EXPECT_TRUE(WindowTable(WindowKind::kHann, WindowPeriod::kPeriodic, 0).empty());
}

TEST(SignalTablesTest, MelFiltersRefuseEdgesOutsideOfTheSpectrum) {
  const auto table = MelTable({8, 16, 8192, 0, 4096});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->size(), 72u);
  for (double weight : *table) EXPECT_TRUE(weight >= 0 && weight <= 1);
  EXPECT_FALSE(MelTable({8, 16, 8192, 0, 1e9}).ok());
  EXPECT_FALSE(MelTable({8, 16, 8192, -5000, 4096}).ok());  // the logarithm of a negative number
  EXPECT_FALSE(MelTable({8, 16, 0, 0, 4096}).ok());
}

NgramParams Ngrams(NgramParams::Mode mode, int64_t min, int64_t max, int64_t skip) {
  NgramParams p;
  p.src = Spec(DType::kS32, {2, 6});
  p.dst = Spec(DType::kF32, {2, 7});
  p.min_length = min;
  p.max_length = max;
  p.max_skip = skip;
  p.mode = mode;
  p.starts = {0, 4};  // 4 single numbers, then 3 pairs
  p.pool = {2, 3, 5, 4, 5, 6, 7, 8, 6, 7};
  p.columns = {0, 1, 2, 3, 4, 5, 6};
  return p;
}

std::vector<double> Count(const NgramParams& p, const std::vector<double>& rows) {
  const auto kernel = CreateNgramCounts(p, {});
  EXPECT_TRUE(kernel.ok()) << kernel.status();
  const Operand src = MakeOperand(p.src, rows);
  Operand dst = MakeOperand(p.dst);
  EXPECT_TRUE(kernel.ok() && RunKernel(**kernel, {src.data()}, {dst.data()}).ok());
  return Numbers(dst);
}

// Pairs (5, 6), (7, 8), (6, 7). Row 1 has 7 . . 8 with two between, which only skips find.
TEST(NgramTest, CountsWithAndWithoutSkips) {
  const std::vector<double> rows = {1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8};
  using Mode = NgramParams::Mode;
  EXPECT_EQ(Count(Ngrams(Mode::kTf, 2, 2, 0), rows),
            (std::vector<double>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1}));
  EXPECT_EQ(Count(Ngrams(Mode::kTf, 2, 2, 5), rows),
            (std::vector<double>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(Count(Ngrams(Mode::kTf, 1, 2, 5), rows),
            (std::vector<double>{0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1}));
  NgramParams weighted = Ngrams(Mode::kTfIdf, 1, 1, 0);
  weighted.weights = {1, 10, 100, 1, 1, 1, 1};
  EXPECT_EQ(Count(weighted, rows),
            (std::vector<double>{0, 30, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0}));
  weighted.mode = Mode::kIdf;
  EXPECT_EQ(Count(weighted, rows),
            (std::vector<double>{0, 10, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0}));
}

TEST(NgramTest, RefusesTablesThatDoNotFit) {
  NgramParams p = Ngrams(NgramParams::Mode::kTf, 1, 2, 0);
  p.columns[3] = 7;  // outside of dst
  EXPECT_FALSE(CreateNgramCounts(p, {}).ok());
  p = Ngrams(NgramParams::Mode::kTf, 1, 2, 0);
  p.starts = {0, 5};  // 5 numbers do not make pairs
  EXPECT_FALSE(CreateNgramCounts(p, {}).ok());
  p = Ngrams(NgramParams::Mode::kTf, 1, 2, 0);
  p.columns.pop_back();
  EXPECT_FALSE(CreateNgramCounts(p, {}).ok());
}

}  // namespace
}  // namespace octet::kernels
