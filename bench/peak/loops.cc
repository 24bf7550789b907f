// Loops in intrinsics; functions carry their instruction set, the file is compiled for the baseline.
#include "bench/peak/loops.h"

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "oneapi/dnnl/dnnl.hpp"

namespace octet::bench {
namespace {

bool Allowed(dnnl::cpu_isa isa) {
  const auto wanted = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & wanted) == wanted;
}

// The value escapes into a register the compiler cannot see through.
template <typename V>
inline void Keep(V& v) {
  asm volatile("" : "+x"(v));
}

constexpr int kAccumulators = 12;  // latency 4 or 5, two per cycle

__attribute__((target("avx512f,avx512bw,avx512vnni"))) void Vnni512(int64_t iterations) {
  __m512i acc[kAccumulators];
  for (auto& a : acc) a = _mm512_setzero_si512();
  __m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(-5);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (auto& a : acc) asm volatile("vpdpbusd %2, %1, %0" : "+v"(a) : "v"(x), "v"(y));
  }
}

__attribute__((target("avx2,avxvnni"))) void Vnni256(int64_t iterations) {
  __m256i acc[kAccumulators];
  for (auto& a : acc) a = _mm256_setzero_si256();
  __m256i x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(-5);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (auto& a : acc) asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(a) : "x"(x), "x"(y));
  }
}

__attribute__((target("avx2"))) void Avx2Int8(int64_t iterations) {
  __m256i acc[8];
  for (auto& a : acc) a = _mm256_setzero_si256();
  __m256i x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(-5);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < iterations; ++i) {
    for (auto& a : acc) {
      Keep(x);
      a = _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));
      Keep(a);
    }
  }
}

// Linux hands out tile registers on request (arch_prctl ARCH_REQ_XCOMP_PERM of component 18).
bool AmxSupported() {
  return Allowed(dnnl::cpu_isa::avx512_core_amx) && syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t columns_bytes[16] = {};
  uint8_t rows[16] = {};
};

__attribute__((target("amx-tile,amx-int8"))) void Amx(int64_t iterations) {
  TileConfig config;
  for (int t = 0; t < 8; ++t) {
    config.columns_bytes[t] = 64;
    config.rows[t] = 16;
  }
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t i = 0; i < iterations; ++i) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_release();
}

__attribute__((target("avx512f"))) void Fma512(int64_t iterations) {
  __m512 acc[kAccumulators];
  for (auto& a : acc) a = _mm512_setzero_ps();
  __m512 x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(0.25f);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (auto& a : acc) asm volatile("vfmadd231ps %2, %1, %0" : "+v"(a) : "v"(x), "v"(y));
  }
}

__attribute__((target("avx2,fma"))) void Fma256(int64_t iterations) {
  __m256 acc[kAccumulators];
  for (auto& a : acc) a = _mm256_setzero_ps();
  __m256 x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (auto& a : acc) asm volatile("vfmadd231ps %2, %1, %0" : "+x"(a) : "x"(x), "x"(y));
  }
}

__attribute__((target("avx512f"))) uint64_t Read512(const char* data, int64_t bytes) {
  __m512i acc[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  for (int64_t i = 0; i + 256 <= bytes; i += 256) {
    for (int k = 0; k < 4; ++k) acc[k] = _mm512_xor_si512(acc[k], _mm512_loadu_si512(data + i + 64 * k));
  }
  acc[0] = _mm512_xor_si512(_mm512_xor_si512(acc[0], acc[1]), _mm512_xor_si512(acc[2], acc[3]));
  return static_cast<uint64_t>(_mm512_reduce_add_epi64(acc[0]));
}

bool Has512() { return Allowed(dnnl::cpu_isa::avx512_core); }

}  // namespace

const PeakLoop kInt8PeakLoops[kInt8Loops] = {
    {"tdpbusd", AmxSupported, Amx, int64_t{4} * 2 * 16 * 16 * 64},
    {"vpdpbusd (512 bits)", [] { return Allowed(dnnl::cpu_isa::avx512_core_vnni); }, Vnni512, kAccumulators * 2 * 64},
    {"vpdpbusd (256 bits)", [] { return Allowed(dnnl::cpu_isa::avx2_vnni); }, Vnni256, kAccumulators * 2 * 32},
    {"vpmaddubsw (256 bits)", [] { return Allowed(dnnl::cpu_isa::avx2); }, Avx2Int8, 8 * 2 * 32},
};

const PeakLoop kF32PeakLoops[kF32Loops] = {
    {"vfmadd231ps (512 bits)", Has512, Fma512, kAccumulators * 2 * 16},
    {"vfmadd231ps (256 bits)", [] { return Allowed(dnnl::cpu_isa::avx2); }, Fma256, kAccumulators * 2 * 8},
};

uint64_t ReadAll(const void* data, int64_t bytes) {
  if (Has512()) return Read512(static_cast<const char*>(data), bytes);
  uint64_t sum = 0;
  for (int64_t i = 0; i < bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, static_cast<const char*>(data) + i, 8);
    sum ^= word;
  }
  return sum;
}

}  // namespace octet::bench
