// Dynamic programming over levels.
#include "compress/codebook_kmeans.h"

#include <limits>

namespace octet::compress {

std::vector<int8_t> KMeansLevels(const LevelHistogram& histogram, int entries, int largest) {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const int count = 2 * largest + 1;
  const auto at = [](int i) { return static_cast<size_t>(i); };
  // error[k][l]: of the weights below level l - largest, which is entry k; before[k][l]: the entry in front of it.
  std::vector<std::vector<double>> error(at(entries), std::vector<double>(at(count), kNever));
  std::vector<std::vector<int>> before(at(entries), std::vector<int>(at(count), -1));
  std::vector<double> between(at(count) * at(count), kNever);
  for (int j = 0; j < count; ++j) {
    for (int l = j + 1; l < count; ++l) {
      if (j < largest && largest < l) break;  // passes over 0
      between[at(l * count + j)] = histogram.Between(j - largest, l - largest);
    }
  }
  for (int l = 0; l <= largest; ++l) error[0][at(l)] = histogram.Below(l - largest);
  for (int k = 1; k < entries; ++k) {
    for (int l = k; l < count; ++l) {
      for (int j = l > largest ? largest : k - 1; j < l; ++j) {
        const double next = error[at(k - 1)][at(j)] + between[at(l * count + j)];
        if (next < error[at(k)][at(l)]) {
          error[at(k)][at(l)] = next;
          before[at(k)][at(l)] = j;
        }
      }
    }
  }
  int last = largest;
  double best = kNever;
  for (int l = largest; l < count; ++l) {
    const double total = error[at(entries - 1)][at(l)] + histogram.Above(l - largest);
    if (total < best) {
      best = total;
      last = l;
    }
  }
  std::vector<int8_t> levels(at(entries));
  for (int k = entries - 1; k >= 0; --k) {
    levels[at(k)] = static_cast<int8_t>(last - largest);
    last = before[at(k)][at(last)];
  }
  return levels;
}

}  // namespace octet::compress
