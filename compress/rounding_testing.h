// Test helper: random weight matrices, moments of correlated inputs, and rounding to the nearest.
#ifndef OCTET_COMPRESS_ROUNDING_TESTING_H_
#define OCTET_COMPRESS_ROUNDING_TESTING_H_

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/rng.h"
#include "compress/grid.h"
#include "compress/moments.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

// Rows, kernel positions, input channels per conv group, conv groups.
inline WeightMatrix RandomMatrix(int64_t rows, int64_t positions, int64_t inputs, int64_t conv_groups, uint64_t seed) {
  WeightMatrix m{rows, positions, inputs, conv_groups, {}};
  const CounterRng rng(seed, 1);
  for (uint64_t i = 0; i < static_cast<uint64_t>(rows * m.columns()); ++i) {
    m.values.push_back(static_cast<float>(rng.Uniform(2 * i) + rng.Uniform(2 * i + 1) - 1));
  }
  return m;
}

// Scales by the largest magnitude of a row (or group of inputs), every group of columns its own zero point where the grid
// has them, codes by the nearest level or, of vectors, the nearest vector.
inline QuantizedMatrix RoundNearest(const WeightMatrix& w, const Grid& grid, Granularity granularity = {}) {
  QuantizedMatrix m{grid, granularity, w.rows, w.positions, w.inputs, w.conv_groups, {}, {}, {}};
  const int64_t columns = w.columns(), vector = grid.vector;
  m.scale.resize(m.ScaleIndex(w.rows - 1, columns - 1) + 1);
  const int top = *std::max_element(grid.levels.begin(), grid.levels.end());
  const bool affine = grid.kind == GridKind::kAffine;
  if (affine) m.zero.assign(m.scale.size(), top / 2);
  for (int64_t r = 0; r < w.rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      float& s = m.scale[m.ScaleIndex(r, c)];
      s = std::max(s, std::fabs(w.values[static_cast<size_t>(r * columns + c)]) / static_cast<float>(affine ? top / 2 : top));
    }
  }
  for (int64_t r = 0; r < w.rows; ++r) {
    for (int64_t c = 0; c < columns; c += vector) {
      const size_t s = m.ScaleIndex(r, c);
      const float* x = &w.values[static_cast<size_t>(r * columns + c)];
      if (vector == 1) {
        m.codes.push_back(static_cast<uint8_t>(NearestLevel(grid, *x / double{m.scale[s]} + (affine ? m.zero[s] : 0))));
        continue;
      }
      size_t best = 0;
      double least = INFINITY;
      for (size_t code = 0; code < grid.levels.size() / static_cast<size_t>(vector); ++code) {
        double sum = 0;
        for (int64_t d = 0; d < vector; ++d) {
          sum += std::pow(x[d] - double{m.scale[s]} * grid.levels[code * static_cast<size_t>(vector) + static_cast<size_t>(d)], 2);
        }
        if (sum < least) {
          least = sum;
          best = code;
        }
      }
      m.codes.push_back(static_cast<uint8_t>(best));
    }
  }
  return m;
}

// Moments of `samples` vectors per conv group that mix `factors` independent numbers (all columns when 0), with a mean of
// their own: strongly correlated where factors < columns, and singular where samples < columns.
inline Moments CorrelatedMoments(int64_t columns, int64_t conv_groups, int64_t samples, int64_t factors, uint64_t seed) {
  Moments m;
  m.columns = columns;
  m.conv_groups = conv_groups;
  m.count = samples;
  for (int64_t g = 0; g < conv_groups; ++g) {
    const CounterRng mix(seed, static_cast<uint64_t>(2 * g)), draw(seed, static_cast<uint64_t>(2 * g + 1));
    const int64_t n = factors == 0 ? columns : factors;
    std::vector<double> gram(static_cast<size_t>(columns * columns)), mean(static_cast<size_t>(columns));
    for (int64_t s = 0; s < samples; ++s) {
      std::vector<double> x(static_cast<size_t>(columns));
      for (int64_t c = 0; c < columns; ++c) {
        // Columns differ in size by a factor up to 4, and share factors.
        const double size = 1 + 3 * mix.Uniform(static_cast<uint64_t>(1000000 + c));
        double sum = 0.2 * draw.Uniform(static_cast<uint64_t>(s * 100000 + 50000 + c));
        for (int64_t f = 0; f < n; ++f) {
          sum += mix.Uniform(static_cast<uint64_t>(c * n + f)) * (draw.Uniform(static_cast<uint64_t>(s * 100000 + f)) - 0.4);
        }
        x[static_cast<size_t>(c)] = size * sum;
      }
      for (size_t i = 0; i < x.size(); ++i) {
        mean[i] += x[i] / static_cast<double>(samples);
        for (size_t j = 0; j < x.size(); ++j) gram[i * x.size() + j] += x[i] * x[j] / static_cast<double>(samples);
      }
    }
    for (double v : gram) m.gram.push_back(static_cast<float>(v));
    for (double v : mean) m.mean.push_back(static_cast<float>(v));
  }
  return m;
}

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_ROUNDING_TESTING_H_
