// Local reparameterisation against enumeration, finite differences, drawn outputs and its own start.
#include "compress/local_reparameterization.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compress/bias.h"
#include "compress/distribution.h"
#include "compress/fit_grid.h"
#include "compress/learned_rounding.h"
#include "compress/local_reparameterization_reference.h"
#include "compress/rounding_testing.h"

namespace octet::compress {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

LocalParameters RandomParameters(int64_t channels, int64_t columns, bool ternary, uint64_t seed) {
  const CounterRng rng(seed, 3);
  LocalParameters p;
  p.channels = channels;
  p.columns = columns;
  for (uint64_t i = 0; i < static_cast<uint64_t>(channels * columns); ++i) {
    p.a.push_back(static_cast<float>(4 * rng.Uniform(3 * i) - 2));
    if (ternary) p.b.push_back(static_cast<float>(4 * rng.Uniform(3 * i + 1) - 2));
    p.scale.push_back(static_cast<float>(0.3 + rng.Uniform(3 * i + 2)));
  }
  for (uint64_t r = 0; r < static_cast<uint64_t>(channels); ++r) {
    p.bias.push_back(static_cast<float>(rng.Uniform(100000 + r) - 0.5));
  }
  return p;
}

double Normal(const CounterRng& rng, uint64_t i) {
  return std::sqrt(-2 * std::log(1 - rng.Uniform(2 * i))) * std::cos(2 * M_PI * rng.Uniform(2 * i + 1));
}

LocalBatch RandomBatch(int64_t rows, const LocalParameters& p, const Clamp& behind, uint64_t seed) {
  const CounterRng rng(seed, 4), noise(seed, 5);
  LocalBatch batch;
  batch.rows = rows;
  batch.behind = behind;
  for (uint64_t i = 0; i < static_cast<uint64_t>(rows * p.columns); ++i) {
    batch.src.push_back(static_cast<float>(2 * rng.Uniform(i) - 0.8));
  }
  for (uint64_t i = 0; i < static_cast<uint64_t>(rows * p.channels); ++i) {
    batch.target.push_back(static_cast<float>(std::clamp(2 * rng.Uniform(1000000 + i) - 0.7, behind.low, behind.high)));
    for (uint64_t k = 0; k < 2; ++k) batch.noise[k].push_back(static_cast<float>(Normal(noise, 2 * i + k)));
  }
  for (int64_t r = 0; r < p.channels; ++r) batch.weight.push_back(static_cast<float>(1 + r));
  return batch;
}

// So that no drawn output comes near a bound, where the loss has a kink and differences say nothing.
void MoveOffBounds(const LocalParameters& p, LocalBatch* batch) {
  for (int64_t r = 0; r < p.channels; ++r) {
    for (int64_t i = 0; i < batch->rows; ++i) {
      const LocalMoments z = OutputMomentsReference(p, r, batch->src.data() + i * p.columns);
      for (std::vector<float>& noise : batch->noise) {
        float& n = noise[static_cast<size_t>(r * batch->rows + i)];
        const auto near = [&](double bound) { return std::fabs(z.mean + std::sqrt(z.variance) * n - bound) < 0.02; };
        while (near(batch->behind.low) || near(batch->behind.high)) n += 0.01f;
      }
    }
  }
}

// All 27 (ternary) or 8 (binary) outcomes of three weights.
TEST(LocalReparameterization, MomentsAreThoseOfEnumeration) {
  for (const bool ternary : {true, false}) {
    const LocalParameters p = RandomParameters(2, 3, ternary, 7);
    const float h[3] = {0.7f, -1.3f, 0.4f};
    for (int64_t r = 0; r < 2; ++r) {
      double mean = 0, square = 0, total = 0;
      const int values = ternary ? 3 : 2;
      for (int outcome = 0; outcome < values * values * values; ++outcome) {
        double probability = 1, z = p.bias[static_cast<size_t>(r)];
        for (int c = 0, left = outcome; c < 3; ++c, left /= values) {
          const auto i = static_cast<size_t>(r * 3 + c);
          const double a = 1 / (1 + std::exp(-double{p.a[i]}));
          double chance[3];  // of -1, 0, 1
          if (ternary) {
            const double b = 1 / (1 + std::exp(-double{p.b[i]}));
            chance[0] = (1 - a) * (1 - b), chance[1] = a, chance[2] = (1 - a) * b;
          } else {
            chance[0] = 1 - a, chance[1] = 0, chance[2] = a;
          }
          const int level = ternary ? left % 3 : 2 * (left % 2);
          probability *= chance[level];
          z += double{p.scale[i]} * (level - 1) * h[c];
        }
        total += probability;
        mean += probability * z;
        square += probability * z * z;
      }
      EXPECT_NEAR(total, 1, 1e-12);
      const LocalMoments found = OutputMomentsReference(p, r, h);
      EXPECT_NEAR(found.mean, mean, 1e-9) << ternary;
      EXPECT_NEAR(found.variance, square - mean * mean, 1e-9) << ternary;
    }
  }
}

// The loss in f32 against the reference in f64, and every derivative against central differences of the reference.
TEST(LocalReparameterization, GradientsAreThoseOfFiniteDifferences) {
  for (const bool ternary : {true, false}) {
    for (const Clamp behind : {Clamp{}, Clamp{0, kInf}, Clamp{0, 0.8}}) {
      for (const double samples : {1.0, 2.0, 8.0}) {
        LocalParameters p = RandomParameters(3, 11, ternary, 21);
        LocalBatch batch = RandomBatch(17, p, behind, 22);
        MoveOffBounds(p, &batch);
        LocalFitOptions options;
        options.samples = samples;
        options.entropy = 0.3;
        LocalParameters gradient;
        const std::vector<double> found = LocalLoss(p, batch, options, &gradient);
        const std::vector<double> expected = LocalLossReference(p, batch, options);
        for (size_t r = 0; r < found.size(); ++r) EXPECT_NEAR(found[r], expected[r], 1e-5 * (1 + std::fabs(expected[r])));
        const auto check = [&](std::vector<float>* parameters, const std::vector<float>& slopes, const char* name) {
          ASSERT_EQ(parameters->size(), slopes.size()) << name;
          const auto per_channel = parameters->size() / 3;
          for (size_t i = 0; i < parameters->size(); ++i) {
            const float at = (*parameters)[i], step = 1.0f / 1024;
            (*parameters)[i] = at + step;
            const double up = LocalLossReference(p, batch, options)[i / per_channel];
            (*parameters)[i] = at - step;
            const double down = LocalLossReference(p, batch, options)[i / per_channel];
            (*parameters)[i] = at;
            EXPECT_NEAR(slopes[i], (up - down) / (2.0 * step), 2e-4) << name << i << " " << samples;
          }
        };
        check(&p.a, gradient.a, "a");
        check(&p.b, gradient.b, "b");
        check(&p.bias, gradient.bias, "bias");
      }
    }
  }
}

// J in closed form is what the drawn loss is on average, and what means of T drawn outputs miss y by.
TEST(LocalReparameterization, TheExpectedErrorIsThatOfDraws) {
  for (const Clamp behind : {Clamp{}, Clamp{0, kInf}, Clamp{-0.2, 0.5}}) {
    for (const double samples : {1.0, 2.0, 5.0}) {
      LocalParameters p = RandomParameters(1, 4, true, 31);
      LocalFitOptions options;
      options.samples = samples;
      // One row of inputs, 200,000 times with noises of their own.
      LocalBatch batch = RandomBatch(200000, p, behind, 32);
      for (size_t i = 4; i < batch.src.size(); ++i) batch.src[i] = batch.src[i % 4];
      const double y = batch.target[0];
      std::fill(batch.target.begin(), batch.target.end(), batch.target[0]);
      const LocalMoments z = OutputMomentsReference(p, 0, batch.src.data());
      const double expected = ExpectedLocalError(z.mean, z.variance, y, behind, samples);
      EXPECT_NEAR(LocalLossReference(p, batch, options)[0], expected, 0.02 * expected + 0.005) << samples;
      const CounterRng rng(33);
      double sum = 0;
      constexpr int kTrials = 100000;
      for (uint64_t k = 0; k < kTrials; ++k) {
        double mean = 0;
        for (int t = 0; t < samples; ++t) {
          const double n = Normal(rng, k * 8 + static_cast<uint64_t>(t));
          mean += std::clamp(z.mean + std::sqrt(z.variance) * n, behind.low, behind.high) / samples;
        }
        sum += (mean - y) * (mean - y) / kTrials;
      }
      EXPECT_NEAR(sum, expected, 0.02 * expected + 0.002) << samples;
    }
  }
}

// Correlated inputs, all but a few directions weak, and a ReLU that cuts about half: a layer, its rounding and its rows.
struct Problem {
  WeightMatrix weights;
  Moments moments;
  LayerRows rows;
  QuantizedMatrix m;
  std::vector<float> bias;
  Clamp behind;
};

Problem MakeProblem(const char* grid, const Clamp& behind, int64_t channels, int64_t conv_groups = 1) {
  Problem p;
  p.behind = behind;
  const int64_t columns = 40;
  p.weights = RandomMatrix(channels, 1, columns, conv_groups, 3);
  LayerRows& rows = p.rows;
  rows.count = 4000;
  rows.held_aside = 1000;
  rows.columns = p.moments.columns = columns;
  rows.conv_groups = p.moments.conv_groups = conv_groups;
  rows.outputs = channels;
  p.moments.count = 3000;
  p.moments.gram.assign(static_cast<size_t>(conv_groups * columns * columns), 0);
  p.moments.mean.assign(static_cast<size_t>(conv_groups * columns), 0);
  for (int64_t g = 0; g < conv_groups; ++g) {
    const CounterRng mix(41, static_cast<uint64_t>(g)), draw(42, static_cast<uint64_t>(g));
    std::vector<float> src;
    for (int64_t i = 0; i < rows.count; ++i) {
      for (int64_t c = 0; c < columns; ++c) {
        double x = 0.3 * Normal(draw, static_cast<uint64_t>(i * 1000 + c));
        for (int64_t f = 0; f < 6; ++f) {
          x += (mix.Uniform(static_cast<uint64_t>(c * 6 + f)) - 0.4) * Normal(draw, static_cast<uint64_t>(i * 1000 + 500 + f));
        }
        src.push_back(static_cast<float>(std::max(x, 0.0)));
      }
      if (i >= p.moments.count) continue;
      const float* x = src.data() + i * columns;
      for (int64_t a = 0; a < columns; ++a) {
        p.moments.mean[static_cast<size_t>(g * columns + a)] += x[a] / 3000;
        for (int64_t b = 0; b < columns; ++b) {
          p.moments.gram[static_cast<size_t>((g * columns + a) * columns + b)] += x[a] * x[b] / 3000;
        }
      }
    }
    rows.src.push_back(std::move(src));
  }
  rows.target.resize(static_cast<size_t>(rows.count * channels));
  for (int64_t i = 0; i < rows.count; ++i) {
    for (int64_t r = 0; r < channels; ++r) {
      double sum = 0;
      const float* x = rows.Src(r / (channels / conv_groups), i);
      for (int64_t c = 0; c < columns; ++c) sum += p.weights.values[static_cast<size_t>(r * columns + c)] * x[c];
      rows.target[static_cast<size_t>(i * channels + r)] = static_cast<float>(sum);
    }
  }
  FitOptions fit;
  p.m = *FitGrid(p.weights, *MakeGrid(grid), {Granularity::Kind::kChannel, 0}, fit);
  EXPECT_EQ(RoundLearned(p.weights, p.moments, {}, &p.m), absl::OkStatus());
  EXPECT_EQ(FitDistribution(p.weights, p.moments, {.samples = 2}, &p.m), absl::OkStatus());
  p.bias = MeanShift(p.weights, p.m, p.moments.mean);
  return p;
}

LocalFitOptions FewSteps() {
  LocalFitOptions options;
  options.steps = 600;
  options.batch = 64;
  options.seed = 9;
  return options;
}

// J of all channels on rows [first, first + n), from what is stored.
double StoredError(const Problem& p, const QuantizedMatrix& m, const std::vector<float>& bias, int64_t first, int64_t n) {
  double sum = 0;
  for (int64_t i = first; i < first + n; ++i) {
    for (int64_t r = 0; r < m.rows; ++r) {
      double mean = bias[static_cast<size_t>(r)], variance = 0;
      for (int64_t c = 0; c < m.columns(); ++c) {
        const auto at = static_cast<size_t>(r * m.columns() + c);
        const double s = m.scale[m.ScaleIndex(r, c)], h = p.rows.Src(0, i)[c], probability = std::abs(m.steps[at]) / 254.0;
        const int other = m.codes[at] + (m.steps[at] > 0 ? 1 : m.steps[at] < 0 ? -1 : 0);
        const double gap = m.grid.levels[static_cast<size_t>(other)] - m.grid.levels[m.codes[at]];
        mean += s * h * (m.grid.levels[m.codes[at]] + probability * gap);
        variance += s * s * h * h * probability * (1 - probability) * gap * gap;
      }
      const double y = std::clamp<double>(p.rows.Target(i, r), p.behind.low, p.behind.high);
      sum += ExpectedLocalError(mean, variance, y, p.behind, 2);
    }
  }
  return sum;
}

TEST(LocalReparameterization, ImprovesOnTheClosedFormBehindAReluAndNeverLoses) {
  for (const char* grid : {"ternary", "binary"}) {
    Problem p = MakeProblem(grid, {0, kInf}, 40);
    const QuantizedMatrix start = p.m;
    const std::vector<float> start_bias = p.bias;
    // Rows that neither the fit nor the choice between it and its start sees.
    constexpr int64_t kFresh = 1000;
    p.rows.count -= kFresh;
    const auto report = FitLocally(p.rows, p.behind, p.weights, FewSteps(), &p.m, &p.bias);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->channels, 40);
    EXPECT_GT(report->improved, 10) << grid;
    EXPECT_LT(report->samples_after, 0.98 * report->samples_before) << grid;
    EXPECT_LE(report->mode_after, report->mode_before) << grid;
    const double before = StoredError(p, start, start_bias, p.rows.count, kFresh);
    EXPECT_LT(StoredError(p, p.m, p.bias, p.rows.count, kFresh), 0.99 * before) << grid;
    for (size_t i = 0; i < p.m.steps.size(); ++i) {
      const int to = p.m.codes[i] + (p.m.steps[i] > 0 ? 1 : p.m.steps[i] < 0 ? -1 : 0);
      ASSERT_TRUE(to >= 0 && to < static_cast<int>(p.m.grid.levels.size())) << "an alternative beyond the grid at " << i;
    }
  }
}

// With steps that are far too long nothing good comes out: the start stays, channel by channel.
TEST(LocalReparameterization, KeepsTheStartWhereDescentFails) {
  Problem p = MakeProblem("ternary", {0, kInf}, 8);
  const QuantizedMatrix start = p.m;
  const std::vector<float> bias = p.bias;
  LocalFitOptions options = FewSteps();
  options.steps = 3;
  options.learning_rate = 50;
  const auto report = FitLocally(p.rows, p.behind, p.weights, options, &p.m, &p.bias);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->improved, 0);
  EXPECT_EQ(report->samples_after, report->samples_before);
  EXPECT_EQ(p.m.codes, start.codes);
  EXPECT_EQ(p.m.steps, start.steps);
  EXPECT_EQ(p.bias, bias);
}

TEST(LocalReparameterization, ThreadsChangeNothingSeedsDo) {
  Problem one = MakeProblem("ternary", {0, kInf}, 80, 2), two = one, other = one;
  LocalFitOptions options = FewSteps();
  options.steps = 300;
  ASSERT_TRUE(FitLocally(one.rows, one.behind, one.weights, options, &one.m, &one.bias).ok());
  options.threads = 2;
  ASSERT_TRUE(FitLocally(two.rows, two.behind, two.weights, options, &two.m, &two.bias).ok());
  EXPECT_EQ(one.m.codes, two.m.codes);
  EXPECT_EQ(one.m.steps, two.m.steps);
  EXPECT_EQ(one.bias, two.bias);
  options.seed = 10;
  ASSERT_TRUE(FitLocally(other.rows, other.behind, other.weights, options, &other.m, &other.bias).ok());
  EXPECT_NE(one.m.steps, other.m.steps);
}

TEST(LocalReparameterization, RefusesWhatItCannotDo) {
  Problem p = MakeProblem("ternary", {}, 4);
  const auto code = [&](const LocalFitOptions& options) {
    return FitLocally(p.rows, p.behind, p.weights, options, &p.m, &p.bias).status().code();
  };
  EXPECT_EQ(code({.samples = 0.5}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.steps = 0}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.learning_rate = -1}), absl::StatusCode::kInvalidArgument);
  p.rows.held_aside = 0;
  EXPECT_EQ(code({}), absl::StatusCode::kInvalidArgument);
  p.rows.held_aside = 10;
  p.m = RoundNearest(p.weights, *MakeGrid("int4"));
  EXPECT_EQ(code({}), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace octet::compress
