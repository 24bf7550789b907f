// Checks, the cut into groups, the choice of method for each, and rounding to nearest.
#include "compress/fit_grid.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "compress/codebook_kmeans.h"
#include "compress/codebook_vector.h"
#include "compress/fit_scale.h"
#include "compress/fit_vector.h"
#include "compress/hqq.h"
#include "compress/kquant.h"
#include "compress/learned_table.h"
#include "compress/level_table.h"
#include "compress/multi_binary.h"
#include "compress/scale_multiples.h"

namespace octet::compress {
namespace {

using Kind = Granularity::Kind;

constexpr float kLargestNumber = 0x1p120f;         // scales and reals of larger ones could be infinite
constexpr float kDeadScaleWithoutZero = 0x1p-64f;  // a normal number also times an activation's scale
constexpr float kDeadMultipleWithoutZero = 0x1p-19f;  // exact in f16
constexpr int kLargestLevelOfMultiples = 15;       // of fitted tables and nf4: leaves multiples up to 8
constexpr int kLargestVectorLevelOfMultiples = 18;

size_t Index(int64_t i) { return static_cast<size_t>(i); }

absl::Status CheckNumbers(absl::Span<const float> values, absl::string_view what, float least) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] >= least && values[i] <= kLargestNumber) continue;  // false for NaN
    return absl::InvalidArgumentError(absl::StrCat(what, " ", i, " is ", values[i], ", expected a number in [", least,
                                                   ", ", kLargestNumber, "]"));
  }
  return absl::OkStatus();
}

absl::Status CheckSize(absl::string_view what, size_t found, int64_t expected) {
  if (found == Index(expected)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " has ", found, " elements, expected ", expected));
}

absl::Status CheckRules(const WeightMatrix& m, const Grid& grid, const Granularity& granularity,
                        const FitOptions& options) {
  const bool groups = granularity.kind == Kind::kGroup;
  if (groups && (granularity.group <= 0 || granularity.group % 8 != 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("group ", granularity.group, ", expected a positive multiple of 8"));
  }
  if (m.inputs % grid.vector != 0) {
    return absl::InvalidArgumentError(absl::StrCat("grid '", grid.name, "' on ", m.inputs,
                                                   " input channels, expected a multiple of ", grid.vector));
  }
  if (grid.kind == GridKind::kAffine && granularity.kind == Kind::kTensor) {
    return absl::InvalidArgumentError(
        absl::StrCat("grid '", grid.name, "' per tensor, expected per channel or per group: it is affine"));
  }
  if (options.form == ScaleForm::kMultiples && !groups) {
    return absl::InvalidArgumentError("scales as multiples, expected granularity per group");
  }
  return absl::OkStatus();
}

absl::Status CheckArguments(const WeightMatrix& m, const Grid& grid, const Granularity& granularity,
                            const FitOptions& options) {
  OCTET_RETURN_IF_ERROR(CheckRules(m, grid, granularity, options));
  if (m.rows <= 0 || m.columns() <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a weight matrix of ", m.rows, " rows and ", m.columns(), " columns"));
  }
  OCTET_RETURN_IF_ERROR(CheckSize("the weight matrix", m.values.size(), m.rows * m.columns()));
  if (m.conv_groups <= 0 || m.rows % m.conv_groups != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(m.rows, " rows in ", m.conv_groups, " conv groups, expected a multiple"));
  }
  if (!options.importance.empty()) {
    OCTET_RETURN_IF_ERROR(CheckSize("importance", options.importance.size(), m.conv_groups * m.columns()));
  }
  if (!options.minimum_scale.empty()) {
    OCTET_RETURN_IF_ERROR(CheckSize("minimum_scale", options.minimum_scale.size(), m.rows));
  }
  OCTET_RETURN_IF_ERROR(CheckNumbers(m.values, "weight", -kLargestNumber));
  OCTET_RETURN_IF_ERROR(CheckNumbers(options.minimum_scale, "minimum_scale", 0));
  return CheckNumbers(options.importance, "importance", 0);
}

// [rows, columns]: every weight's importance, bounded from below, ones when there is none.
std::vector<float> SpreadImportance(const WeightMatrix& m, absl::Span<const float> importance) {
  const size_t columns = Index(m.columns());
  std::vector<float> spread(m.values.size(), 1.0f);
  if (importance.empty()) return spread;
  for (int64_t r = 0; r < m.rows; ++r) {
    const size_t group = Index(r / (m.rows / m.conv_groups));
    const absl::Span<const float> from = importance.subspan(group * columns, columns);
    double sum = 0;
    for (float h : from) sum += h;
    const auto least = static_cast<float>(sum / static_cast<double>(columns) * 1e-6);
    if (!(least > 0)) continue;  // nothing seen: all alike
    std::transform(from.begin(), from.end(), spread.begin() + static_cast<std::ptrdiff_t>(Index(r) * columns),
                   [least](float h) { return std::max(h, least); });
  }
  return spread;
}

// Ternary and binary.
bool HasOneMagnitude(const LevelTable& table) { return table.low() == -1 && table.high() == 1; }

class Fitter {
 public:
  Fitter(const WeightMatrix& matrix, const Grid& grid, const Granularity& granularity, const FitOptions& options)
      : matrix_(matrix), options_(options), importance_(SpreadImportance(matrix, options.importance)) {
    result_.grid = grid;
    result_.granularity = granularity;
    result_.rows = matrix.rows;
    result_.positions = matrix.positions;
    result_.inputs = matrix.inputs;
    result_.conv_groups = matrix.conv_groups;
    powers_of_two_ = grid.scales == Grid::Scales::kPowersOfTwo;
    multiples_ = options.form == ScaleForm::kMultiples;
    Cut();
  }

  QuantizedMatrix Run() && {
    if (result_.grid.kind == GridKind::kVector) {
      FitVectorLevels();
      return std::move(result_);
    }
    LearnLevels();
    const LevelTable table(result_.grid.levels);
    std::vector<int32_t> zeros;
    for (const Segment& segment : segments_) {
      const ScaleZero fitted = FitSegment(table, segment);
      result_.scale.push_back(fitted.scale);
      zeros.push_back(fitted.zero);
    }
    const auto error = [&](size_t i, float scale) { return SquaredError(table, segments_[i], {scale, zeros[i]}); };
    Constrain(table.largest(), table.has_zero(), error, absl::MakeSpan(result_.scale));
    if (result_.grid.kind == GridKind::kAffine) result_.zero = std::move(zeros);
    RoundToNearest(matrix_, &result_);
    return std::move(result_);
  }

 private:
  // Fills segments_ in the order of QuantizedMatrix::scale: each is a stretch of the row-major matrix.
  void Cut() {
    const Segment all{matrix_.values, importance_};
    const size_t columns = Index(matrix_.columns());
    if (result_.granularity.kind == Kind::kTensor) {
      segments_.push_back(all);
      return;
    }
    const bool channel = result_.granularity.kind == Kind::kChannel;
    const size_t stretch = channel ? columns : Index(matrix_.inputs);
    const size_t group = channel ? columns : Index(result_.granularity.group);
    for (size_t first = 0; first < matrix_.values.size(); first += stretch) {
      for (size_t i = 0; i < stretch; i += group) {
        segments_.push_back(all.Sub(first + i, std::min(group, stretch - i)));
      }
    }
  }

  // Tables of learned and multi-binary grids.
  void LearnLevels() {
    const Grid& grid = result_.grid;
    TableOptions table{multiples_ ? kLargestLevelOfMultiples : 127, powers_of_two_, nullptr};
    if (grid.kind == GridKind::kLearned) {
      table.choose = [&grid](const LevelHistogram& h, int largest) { return KMeansLevels(h, 1 << grid.bits, largest); };
    } else if (grid.kind == GridKind::kMultiBinary) {
      table.choose = [&grid](const LevelHistogram& h, int largest) { return SignedSums(h, grid.bits, largest); };
    } else {
      if (multiples_ && grid.kind == GridKind::kFixed) ShrinkLevels();
      return;
    }
    result_.grid.levels = LearnTable(segments_, table);
  }

  // A fixed table to levels that leave room for multiples; nf4's stay distinct.
  void ShrinkLevels() {
    std::vector<int8_t>& levels = result_.grid.levels;
    if (levels.back() <= kLargestLevelOfMultiples) return;
    const double factor = static_cast<double>(kLargestLevelOfMultiples) / levels.back();
    for (int8_t& level : levels) level = static_cast<int8_t>(std::lround(level * factor));
  }

  // Scale 0: a dead group.
  ScaleZero FitSegment(const LevelTable& table, const Segment& segment) const {
    const ScaleZero fitted = result_.grid.kind == GridKind::kAffine ? FitAffine(table, segment)
                                                                    : FitSymmetric(table, segment);
    if (fitted.scale == 0 || !powers_of_two_) return fitted;
    return ToPowerOfTwo(table, segment, fitted);
  }

  ScaleZero FitAffine(const LevelTable& table, const Segment& segment) const {
    switch (options_.method) {
      case ScaleMethod::kMaximum:
        return MaximumAffine(table, segment.weights);
      case ScaleMethod::kMse:
        return MseAffine(table, segment);
      case ScaleMethod::kKQuant:
        return KQuantAffine(table, segment);
      case ScaleMethod::kHqq:
        break;
    }
    const ScaleZero start = MseAffine(table, segment);
    return start.scale == 0 ? start : HqqZero(table, segment, start);
  }

  ScaleZero FitSymmetric(const LevelTable& table, const Segment& segment) const {
    const float maximum = MaximumScale(table, segment.weights);
    if (maximum == 0) return {0, 0};
    if (ByMaximum(table)) return {maximum, 0};
    const float scale = !HasOneMagnitude(table) ? MseScale(table, segment)
                        : table.has_zero()      ? TernaryScale(segment)
                                                : BinaryScale(segment);
    if (!(scale > kSmallestScale)) return {maximum, 0};
    return options_.method == ScaleMethod::kHqq ? HqqScale(table, segment, {scale, 0}) : ScaleZero{scale, 0};
  }

  // Whether the outermost level is meant for the largest weight.
  bool ByMaximum(const LevelTable& table) const {
    const GridKind kind = result_.grid.kind;
    return options_.method == ScaleMethod::kMaximum && kind != GridKind::kLearned && kind != GridKind::kMultiBinary &&
           !HasOneMagnitude(table);
  }

  ScaleZero ToPowerOfTwo(const LevelTable& table, const Segment& segment, const ScaleZero& s) const {
    const auto with_scale = [&](float scale) {
      const double zero = static_cast<double>(s.zero) * s.scale / scale;
      return ScaleZero{scale, std::min(static_cast<int32_t>(std::nearbyint(zero)), table.high())};
    };
    const float above = PowerOfTwoAbove(s.scale);
    if (ByMaximum(table)) return with_scale(above);
    ScaleZero best = with_scale(above);
    double error = SquaredError(table, segment, best);
    for (float scale : {above / 2, above * 2}) {
      if (!(scale > kSmallestScale) || !std::isfinite(scale)) continue;
      const ScaleZero next = with_scale(scale);
      const double next_error = SquaredError(table, segment, next);
      if (next_error < error) {
        error = next_error;
        best = next;
      }
    }
    return best;
  }

  // Multiples, scales of dead groups and lower bounds. error(i, scale): of the i-th segment.
  void Constrain(int largest_level, bool has_zero, const std::function<double(size_t, float)>& error,
                 absl::Span<float> scales) const {
    const size_t per_row = segments_.size() / std::max<size_t>(Index(matrix_.rows), 1);
    for (size_t first = 0; multiples_ && first < scales.size(); first += per_row) {
      MakeMultiples(largest_level, powers_of_two_ ? MultipleKind::kPowersOfTwo : MultipleKind::kAny,
                    [&](size_t g, float scale) { return error(first + g, scale); }, scales.subspan(first, per_row));
    }
    const float dead = has_zero ? 1.0f : multiples_ ? kDeadMultipleWithoutZero : kDeadScaleWithoutZero;
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = Bounded(i, scales[i] == 0 ? dead : scales[i]);
  }

  // At least the minimum scale of the i-th segment.
  float Bounded(size_t i, float scale) const {
    const absl::Span<const float> minimum = options_.minimum_scale;
    if (minimum.empty() || result_.granularity.kind == Kind::kGroup) return scale;
    float least = result_.granularity.kind == Kind::kChannel ? minimum[i]
                                                             : *std::max_element(minimum.begin(), minimum.end());
    if (powers_of_two_ && least > 0) least = PowerOfTwoAbove(least);
    return std::max(scale, least);
  }

  void FitVectorLevels() {
    VectorOptions vectors;
    vectors.largest = multiples_ ? kLargestVectorLevelOfMultiples : 127;
    vectors.powers_of_two = powers_of_two_;
    vectors.seed = options_.seed;
    vectors.constrain = [this](int largest_level, const std::function<double(size_t, float)>& error,
                               absl::Span<float> scales) { Constrain(largest_level, true, error, scales); };
    VectorFit fit = FitVectorGroups(segments_, vectors);
    result_.grid.levels = std::move(fit.levels);
    result_.scale = std::move(fit.scale);
    result_.codes = std::move(fit.codes);
  }

  const WeightMatrix& matrix_;
  const FitOptions& options_;
  std::vector<float> importance_;  // [rows, columns]
  std::vector<Segment> segments_;
  bool powers_of_two_ = false, multiples_ = false;
  QuantizedMatrix result_;
};

// Codes of vectors, all weights counting alike.
void RoundVectors(const WeightMatrix& matrix, QuantizedMatrix* m) {
  std::vector<float> x(matrix.values.size());
  const int64_t columns = m->columns();
  for (int64_t r = 0; r < m->rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      x[Index(r * columns + c)] = matrix.values[Index(r * columns + c)] / m->scale[m->ScaleIndex(r, c)];
    }
  }
  const std::vector<float> h(x.size(), 1.0f);
  AssignVectors(x, h, m->grid.levels, absl::MakeSpan(m->codes));
}

}  // namespace

absl::StatusOr<QuantizedMatrix> FitGrid(const WeightMatrix& matrix, const Grid& grid, const Granularity& granularity,
                                        const FitOptions& options) {
  OCTET_RETURN_IF_ERROR(CheckArguments(matrix, grid, granularity, options));
  return Fitter(matrix, grid, granularity, options).Run();
}

void RoundToNearest(const WeightMatrix& matrix, QuantizedMatrix* m) {
  m->codes.resize(matrix.values.size() / Index(m->grid.vector));
  if (m->grid.vector > 1) {
    RoundVectors(matrix, m);
    return;
  }
  const int64_t columns = m->columns();
  for (int64_t r = 0; r < m->rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const size_t s = m->ScaleIndex(r, c), i = Index(r * columns + c);
      double x = static_cast<double>(matrix.values[i]) / m->scale[s];
      // As QuantizeLinear does: half to even before the zero point is added.
      if (!m->zero.empty()) x = std::nearbyint(x) + m->zero[s];
      m->codes[i] = static_cast<uint8_t>(NearestLevel(m->grid, x));
    }
  }
}

WeightError ErrorOf(const WeightMatrix& matrix, const QuantizedMatrix& m, absl::Span<const float> importance) {
  WeightError error;
  const int64_t columns = m.columns();
  for (int64_t r = 0; r < m.rows; ++r) {
    const int64_t group = importance.empty() ? 0 : r / (m.rows / m.conv_groups);
    for (int64_t c = 0; c < columns; ++c) {
      const double w = matrix.values[Index(r * columns + c)], d = w - m.Real(r, c);
      const double h = importance.empty() ? 1 : importance[Index(group * columns + c)];
      error.signal += h * w * w;
      error.noise += h * d * d;
    }
  }
  return error;
}

}  // namespace octet::compress
