// Counter-based random numbers: the same seed, stream and index give the same bits on any thread.
//
// SplitMix64's finaliser over a key built from seed and stream. Source: Steele, Lea, Flood, "Fast splittable
// pseudorandom number generators", OOPSLA 2014.
#ifndef OCTET_BASE_RNG_H_
#define OCTET_BASE_RNG_H_

#include <cstdint>

namespace octet {

class CounterRng {
 public:
  explicit constexpr CounterRng(uint64_t seed, uint64_t stream = 0)
      : key_(Mix(seed + 0x9e3779b97f4a7c15u) ^ Mix(stream + 0xd1b54a32d192ed03u)) {}

  constexpr uint64_t Bits(uint64_t index) const {
    return Mix(key_ + (index + 1) * 0x9e3779b97f4a7c15u);
  }
  // Uniform in [0, 1).
  constexpr double Uniform(uint64_t index) const {
    return static_cast<double>(Bits(index) >> 11) * 0x1.0p-53;
  }

 private:
  static constexpr uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  uint64_t key_;
};

}  // namespace octet

#endif  // OCTET_BASE_RNG_H_
