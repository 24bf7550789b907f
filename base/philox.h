// Philox4x32-10: random bits as a pure function of a key and a counter, so that every element of every tensor has bits of
// its own whatever thread asks, in whatever order.
//
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; its published vectors are in
// philox_test.cc. Seeds of tests and initial guesses use the cheaper base/rng.h; what a served answer depends on uses this.
#ifndef OCTET_BASE_PHILOX_H_
#define OCTET_BASE_PHILOX_H_

#include <array>
#include <cstdint>

namespace octet {

using PhiloxBlock = std::array<uint32_t, 4>;

constexpr PhiloxBlock Philox(PhiloxBlock counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xd2511f53u} * counter[0], b = uint64_t{0xcd9e8d57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9e3779b9u;
    key[1] += 0xbb67ae85u;
  }
  return counter;
}

// One number per element of a tensor. The counter is (element / 4, stream, draw). Consecutive elements are cheap: a block is
// kept. Not thread-safe: one per thread.
class ElementRandom {
 public:
  // `stream` tells tensors apart, `draw` repeated draws of one tensor.
  constexpr ElementRandom(uint64_t seed, uint32_t stream, uint32_t draw)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}, stream_(stream), draw_(draw) {}

  constexpr uint32_t Bits(uint64_t element) {
    if (element / 4 != at_) {
      at_ = element / 4;
      block_ = Philox({static_cast<uint32_t>(at_), static_cast<uint32_t>(at_ >> 32), stream_, draw_}, key_);
    }
    return block_[element % 4];
  }
  // Uniform in [0, 1), a multiple of 2^-32.
  constexpr double Uniform(uint64_t element) { return Bits(element) * 0x1.0p-32; }

 private:
  std::array<uint32_t, 2> key_;
  uint32_t stream_, draw_;
  uint64_t at_ = ~uint64_t{0};
  PhiloxBlock block_ = {};
};

}  // namespace octet

#endif  // OCTET_BASE_PHILOX_H_
