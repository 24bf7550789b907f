// The decoding loops of code streams.
#include "kernels/code_stream_vector.h"

#include <algorithm>
#include <cstring>

#define HWY_DISABLED_TARGETS (HWY_ALL_SVE | HWY_RVV | HWY_SCALAR)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/code_stream_vector.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace octet::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using U8 = hn::CappedTag<uint8_t, 64>;
using U16 = hn::Repartition<uint16_t, U8>;
using U32 = hn::Repartition<uint32_t, U8>;
using V8 = hn::Vec<U8>;
using Form = CodeStream::Form;

constexpr int64_t kBytes = hn::MaxLanes(U8());
constexpr int64_t kChunk = CodeStream::kChunk;
constexpr int64_t kPrefetchBytes = 1024;  // ahead in the stream of codes

// The records of the chunks at hand, each spread over the 64 bytes of a chunk.
class SpreadRecords {
 public:
  SpreadRecords(const CodeStream& stream, const uint8_t* packed, int64_t first)
      : stream_(stream), records_(packed + stream.records_offset()), span_(stream.period * stream.repeat) {
    if (span_ == 0) return;
    Load(first / span_);
    slot_ = first % stream.period;
  }

  // Bytes [offset, offset + kBytes) of chunk `chunk` from what its codes stand for. Requires: chunks come in order; Next
  // is called in front of each.
  HWY_INLINE V8 Apply(V8 level, int64_t offset) const {
    const U8 d;
    const U16 d16;
    if (stream_.zero_points) level = hn::Sub(level, hn::Load(d, zero_points_[slot_] + offset));
    const auto m = hn::BitCast(d16, hn::Load(d, multipliers_[slot_] + offset));
    const auto w = hn::BitCast(d16, level);
    // Modulo 256 neither half of a 16-bit lane disturbs the other.
    const auto low = hn::And(hn::Mul(w, m), hn::Set(d16, 0x00ff));
    const auto high = hn::Mul(hn::And(w, hn::Set(d16, 0xff00)), m);
    return hn::BitCast(d, hn::Or(low, high));
  }
  HWY_INLINE void Next(int64_t chunk) {
    if (chunk == end_) {
      Load(chunk / span_);
      slot_ = 0;
    } else if (++slot_ == stream_.period) {
      slot_ = 0;
    }
  }
  // Next is called in front of the first chunk, too.
  void StepBack() { slot_ = slot_ == 0 ? stream_.period - 1 : slot_ - 1; }

 private:
  void Load(int64_t span) {
    end_ = (span + 1) * span_;
    const U32 d;
    const hn::Rebind<uint8_t, U32> d8;
    const uint8_t* from = records_ + span * stream_.period * stream_.record_bytes();
    for (int64_t p = 0; p < stream_.period; ++p, from += stream_.record_bytes()) {
      for (int64_t i = 0; i < kChunk; i += kBytes) {
        const auto m = hn::PromoteTo(d, hn::LoadU(d8, from + i / 4));
        hn::Store(hn::BitCast(U8(), hn::Or(m, hn::ShiftLeft<16>(m))), U8(), multipliers_[p] + i);
        if (!stream_.zero_points) continue;
        const auto z = hn::PromoteTo(d, hn::LoadU(d8, from + kChunk / 4 + i / 4));
        hn::Store(hn::BitCast(U8(), hn::Mul(z, hn::Set(d, 0x01010101u))), U8(), zero_points_[p] + i);
      }
    }
  }

  const CodeStream& stream_;
  const uint8_t* records_;
  int64_t span_, end_ = 0, slot_ = 0;
  alignas(64) uint8_t multipliers_[CodeStream::kMaxPeriod][kChunk];  // of 16 bits: one for two values
  alignas(64) uint8_t zero_points_[CodeStream::kMaxPeriod][kChunk];
};

enum class Scaled : uint8_t { kNo, kYes };

template <int kBits, Scaled kScaled, int kPart>
HWY_INLINE void DecodePart(const uint8_t* HWY_RESTRICT codes, int64_t block, V8 table, SpreadRecords& records,
                           int8_t* HWY_RESTRICT out) {
  const U8 d;
  constexpr int kParts = 8 / kBits;
  const int64_t chunk = block * kParts + kPart;
  if constexpr (kScaled == Scaled::kYes) records.Next(chunk);
  for (int64_t i = 0; i < kChunk; i += kBytes) {
    const auto x = hn::BitCast(U16(), hn::Load(d, codes + i));
    const auto index = hn::And(hn::BitCast(d, hn::ShiftRight<kBits * kPart>(x)), hn::Set(d, (1 << kBits) - 1));
    V8 w = hn::TableLookupBytes(table, index);
    if constexpr (kScaled == Scaled::kYes) w = records.Apply(w, i);
    hn::Store(w, d, reinterpret_cast<uint8_t*>(out) + kPart * kChunk + i);
  }
}

template <int kBits, Scaled kScaled>
void DecodeBits(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end, int8_t* out) {
  const V8 table = hn::LoadDup128(U8(), reinterpret_cast<const uint8_t*>(stream.levels.data()));
  SpreadRecords records(stream, packed, begin * stream.chunks_per_block());
  if constexpr (kScaled == Scaled::kYes) records.StepBack();
  constexpr int64_t kStep = 8 / kBits * kChunk;
  const uint8_t* codes = packed + begin * kChunk;
  int8_t* to = out + begin * kStep;
  for (int64_t block = begin; block < end; ++block, codes += kChunk, to += kStep) {
    hwy::Prefetch(codes + kPrefetchBytes);
    DecodePart<kBits, kScaled, 0>(codes, block, table, records, to);
    DecodePart<kBits, kScaled, 1>(codes, block, table, records, to);
    if constexpr (kBits <= 2) {
      DecodePart<kBits, kScaled, 2>(codes, block, table, records, to);
      DecodePart<kBits, kScaled, 3>(codes, block, table, records, to);
    }
    if constexpr (kBits == 1) {
      DecodePart<kBits, kScaled, 4>(codes, block, table, records, to);
      DecodePart<kBits, kScaled, 5>(codes, block, table, records, to);
      DecodePart<kBits, kScaled, 6>(codes, block, table, records, to);
      DecodePart<kBits, kScaled, 7>(codes, block, table, records, to);
    }
  }
}

// Four chunks of one block of vector codes.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
// A table of 256 bytes in four registers.
struct Table256 {
  explicit Table256(const int8_t* p) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(p);
    for (int i = 0; i < 4; ++i) part[i] = hn::LoadU(U8(), bytes + i * 64);
  }
  HWY_INLINE V8 operator()(V8 code) const {
    const U8 d;
    const auto index = hn::IndicesFromVec(d, hn::And(code, hn::Set(d, 127)));
    const auto low = hn::TwoTablesLookupLanes(d, part[0], part[1], index);
    const auto high = hn::TwoTablesLookupLanes(d, part[2], part[3], index);
    return hn::IfThenElse(hn::Ge(code, hn::Set(d, 128)), high, low);
  }
  V8 part[4];
};

class VectorTable {
 public:
  explicit VectorTable(const int8_t* v) : t0_(v), t1_(v + 256), t2_(v + 512), t3_(v + 768) {}
  HWY_INLINE void operator()(const uint8_t* HWY_RESTRICT codes, int8_t* HWY_RESTRICT out) const {
    const U8 d;
    const U16 d16;
    const V8 code = hn::Load(d, codes);
    const V8 w0 = t0_(code), w1 = t1_(code), w2 = t2_(code), w3 = t3_(code);
    const auto low01 = hn::BitCast(d16, hn::InterleaveLower(d, w0, w1)), high01 = hn::BitCast(d16, hn::InterleaveUpper(d, w0, w1));
    const auto low23 = hn::BitCast(d16, hn::InterleaveLower(d, w2, w3)), high23 = hn::BitCast(d16, hn::InterleaveUpper(d, w2, w3));
    auto* to = reinterpret_cast<uint8_t*>(out);
    hn::Store(hn::BitCast(d, hn::InterleaveLower(d16, low01, low23)), d, to);
    hn::Store(hn::BitCast(d, hn::InterleaveUpper(d16, low01, low23)), d, to + 64);
    hn::Store(hn::BitCast(d, hn::InterleaveLower(d16, high01, high23)), d, to + 128);
    hn::Store(hn::BitCast(d, hn::InterleaveUpper(d16, high01, high23)), d, to + 192);
  }

 private:
  Table256 t0_, t1_, t2_, t3_;
};
#else
class VectorTable {
 public:
  explicit VectorTable(const int8_t* v) {
    for (int code = 0; code < 256; ++code) {
      for (int e = 0; e < 4; ++e) table_[code][e] = v[e * 256 + code];
    }
  }
  void operator()(const uint8_t* HWY_RESTRICT codes, int8_t* HWY_RESTRICT out) const {
    for (int q = 0; q < 4; ++q) {
      for (int j = 0; j < 4; ++j) {
        for (int i = 0; i < 4; ++i) std::memcpy(out + j * kChunk + (q * 4 + i) * 4, table_[codes[q * 16 + j * 4 + i]], 4);
      }
    }
  }

 private:
  int8_t table_[256][4];
};
#endif

template <Scaled kScaled>
void DecodeVectors(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end, int8_t* out) {
  const VectorTable table(stream.vectors.data());
  SpreadRecords records(stream, packed, begin * 4);
  if constexpr (kScaled == Scaled::kYes) records.StepBack();
  for (int64_t block = begin; block < end; ++block) {
    const uint8_t* codes = packed + block * kChunk;
    int8_t* to = out + block * 4 * kChunk;
    hwy::Prefetch(codes + kPrefetchBytes);
    table(codes, to);
    if constexpr (kScaled == Scaled::kYes) {
      for (int64_t j = 0; j < 4; ++j) {
        records.Next(block * 4 + j);
        auto* chunk = reinterpret_cast<uint8_t*>(to) + j * kChunk;
        for (int64_t i = 0; i < kChunk; i += kBytes) {
          hn::Store(records.Apply(hn::Load(U8(), chunk + i), i), U8(), chunk + i);
        }
      }
    }
  }
}

template <Scaled kScaled>
void DecodeForm(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end, int8_t* out) {
  switch (stream.form) {
    case Form::k1Bit:
      return DecodeBits<1, kScaled>(stream, packed, begin, end, out);
    case Form::k2Bit:
      return DecodeBits<2, kScaled>(stream, packed, begin, end, out);
    case Form::k4Bit:
      return DecodeBits<4, kScaled>(stream, packed, begin, end, out);
    case Form::kVector:
      return DecodeVectors<kScaled>(stream, packed, begin, end, out);
  }
}

void Decode(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end, int8_t* out) {
  if (begin == end) return;
  if (stream.repeat > 0) {
    DecodeForm<Scaled::kYes>(stream, packed, begin, end, out);
  } else {
    DecodeForm<Scaled::kNo>(stream, packed, begin, end, out);
  }
}

// Highway's exports are functions: one that hands out another.
CodeStreamDecodeFn Chosen() { return Decode; }

}  // namespace HWY_NAMESPACE
}  // namespace octet::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octet::kernels {
HWY_EXPORT(Chosen);

CodeStreamDecodeFn ChooseCodeStreamDecode() { return HWY_DYNAMIC_DISPATCH(Chosen)(); }

}  // namespace octet::kernels
#endif
