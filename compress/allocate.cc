// Lagrangian allocation.
#include "compress/allocate.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace octet::compress {
namespace {

using Layers = std::vector<std::vector<Candidate>>;

constexpr double kInfinite = std::numeric_limits<double>::infinity();

Allocation Sum(const Layers& layers, std::vector<size_t> choice) {
  Allocation a{std::move(choice), {}};
  for (size_t l = 0; l < layers.size(); ++l) {
    const Candidate& c = layers[l][a.choice[l]];
    a.total.noise += c.noise;
    a.total.bytes += c.bytes;
    a.total.seconds += c.seconds;
  }
  return a;
}

// Share by which the limits are exceeded; 0 when both hold.
double Excess(const Allocation& a, double max_bytes, double max_seconds) {
  return std::max({0.0, a.total.bytes / max_bytes - 1, a.total.seconds / max_seconds - 1});
}

bool Better(const Allocation& a, const Allocation& b, double max_bytes, double max_seconds) {
  const double ea = Excess(a, max_bytes, max_seconds), eb = Excess(b, max_bytes, max_seconds);
  return ea != eb ? ea < eb : a.total.noise < b.total.noise;
}

// Takes the change of one layer that saves most noise and still fits, until there is none.
Allocation Improve(const Layers& layers, Allocation a, double max_bytes, double max_seconds) {
  for (bool changed = true; changed;) {
    changed = false;
    Allocation best = a;
    for (size_t l = 0; l < layers.size(); ++l) {
      for (size_t c = 0; c < layers[l].size(); ++c) {
        std::vector<size_t> choice = a.choice;
        choice[l] = c;
        Allocation other = Sum(layers, std::move(choice));
        if (Better(other, best, max_bytes, max_seconds)) {
          best = std::move(other);
          changed = true;
        }
      }
    }
    a = best;
  }
  return a;
}

// Calls f with multipliers from 0 upwards on a logarithmic scale around `unit`, noise per unit of the resource.
template <typename F>
void ForEachMultiplier(double unit, F f) {
  f(0.0);
  for (int e = -60; e <= 60; ++e) f(unit * std::exp2(e * 0.5));
}

// Noise that one unit of a resource is worth on average: where to look for multipliers.
double NoisePer(const Layers& layers, double Candidate::*resource) {
  double noise = 0, amount = 0;
  for (const auto& layer : layers) {
    for (const Candidate& c : layer) {
      noise += c.noise;
      amount += c.*resource;
    }
  }
  return amount > 0 && noise > 0 ? noise / amount : 0;
}

}  // namespace

Allocation Choose(const Layers& layers, double per_byte, double per_second) {
  std::vector<size_t> choice;
  for (const auto& layer : layers) {
    const auto cost = [&](const Candidate& c) { return c.noise + per_byte * c.bytes + per_second * c.seconds; };
    const auto best = std::min_element(layer.begin(), layer.end(),
                                       [&](const Candidate& a, const Candidate& b) { return cost(a) < cost(b); });
    choice.push_back(static_cast<size_t>(best - layer.begin()));
  }
  return Sum(layers, std::move(choice));
}

Allocation LeastNoise(const Layers& layers, double max_bytes, double max_seconds) {
  Allocation best = Choose(layers, 0, 0);
  const double byte = max_bytes < kInfinite ? NoisePer(layers, &Candidate::bytes) : 0;
  const double second = max_seconds < kInfinite ? NoisePer(layers, &Candidate::seconds) : 0;
  const auto consider = [&](double per_byte, double per_second) {
    Allocation a = Choose(layers, per_byte, per_second);
    if (Better(a, best, max_bytes, max_seconds)) best = std::move(a);
  };
  ForEachMultiplier(byte, [&](double per_byte) {
    if (second == 0) return consider(per_byte, 0);
    ForEachMultiplier(second, [&](double per_second) { consider(per_byte, per_second); });
  });
  return Improve(layers, std::move(best), max_bytes, max_seconds);
}

std::vector<Allocation> Path(const Layers& layers, double per_byte, double per_second) {
  std::vector<Allocation> path;
  const double unit = per_byte > 0 ? NoisePer(layers, &Candidate::bytes) / per_byte
                                   : NoisePer(layers, &Candidate::seconds) / std::max(per_second, 1e-300);
  ForEachMultiplier(unit, [&](double m) {
    Allocation a = Choose(layers, m * per_byte, m * per_second);
    if (path.empty() || !(path.back() == a)) path.push_back(std::move(a));
  });
  return path;
}

}  // namespace octet::compress
