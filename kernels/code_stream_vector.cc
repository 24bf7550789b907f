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
constexpr int64_t kPrefetchBytes = 2048;  // ahead in the stream of codes

// The records of a span of chunks, each spread over the 64 bytes of a chunk.
struct SpreadRecords {
  void Load(const CodeStream& stream, const uint8_t* packed, int64_t span) {
    const U32 d;
    const hn::Rebind<uint8_t, U32> d8;
    const uint8_t* from = packed + stream.records_offset() + span * stream.period * stream.record_bytes();
    for (int64_t p = 0; p < stream.period; ++p, from += stream.record_bytes()) {
      for (int64_t i = 0; i < kChunk; i += kBytes) {
        const auto m = hn::PromoteTo(d, hn::LoadU(d8, from + i / 4));
        hn::Store(hn::BitCast(U8(), hn::Or(m, hn::ShiftLeft<16>(m))), U8(), multipliers[p] + i);
        if (!stream.zero_points) continue;
        const auto z = hn::PromoteTo(d, hn::LoadU(d8, from + kChunk / 4 + i / 4));
        hn::Store(hn::BitCast(U8(), hn::Mul(z, hn::Set(d, 0x01010101u))), U8(), zero_points[p] + i);
      }
    }
  }

  alignas(64) uint8_t multipliers[CodeStream::kMaxPeriod][kChunk];  // of 16 bits: one for two values
  alignas(64) uint8_t zero_points[CodeStream::kMaxPeriod][kChunk] = {};
};

// body(chunk, multipliers, zero points) for chunks [begin, end). Counters are locals: bytes that a body stores may alias
// anything else, and a counter in memory costs more than a chunk.
template <typename Body>
HWY_INLINE void ForEachScaledChunk(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end,
                                   const Body& body) {
  const int64_t period = stream.period, span = period * stream.repeat;
  SpreadRecords records;
  for (int64_t chunk = begin; chunk < end;) {
    records.Load(stream, packed, chunk / span);
    const int64_t stop = std::min(end, (chunk / span + 1) * span);
    for (int64_t slot = chunk % period; chunk < stop; ++chunk) {
      body(chunk, records.multipliers[slot], records.zero_points[slot]);
      if (++slot == period) slot = 0;
    }
  }
}

// kBytes values from what their codes stand for.
HWY_INLINE V8 Scale(V8 level, V8 multipliers, V8 zero_points) {
  const U8 d;
  const U16 d16;
  const auto m = hn::BitCast(d16, multipliers);
  const auto w = hn::BitCast(d16, hn::Sub(level, zero_points));
  // Modulo 256 neither half of a 16-bit lane disturbs the other.
  const auto low = hn::And(hn::Mul(w, m), hn::Set(d16, 0x00ff));
  const auto high = hn::Mul(hn::And(w, hn::Set(d16, 0xff00)), m);
  return hn::BitCast(d, hn::Or(low, high));
}
HWY_INLINE V8 Scale(V8 level, const uint8_t* multipliers, const uint8_t* zero_points) {
  return Scale(level, hn::Load(U8(), multipliers), hn::Load(U8(), zero_points));
}

struct NoScale {
  HWY_INLINE V8 operator()(V8 level) const { return level; }
};

// kBytes of all chunks of one block; `scale` takes levels.
template <int kBits, int kPart = 0, typename Scaler>
HWY_INLINE void DecodePart(const uint8_t* HWY_RESTRICT codes, V8 table, uint8_t* HWY_RESTRICT out, int64_t step, const Scaler& scale) {
  if constexpr (kPart < 8 / kBits) {
    const U8 d;
    const auto x = hn::BitCast(U16(), hn::Load(d, codes));
    const auto index = hn::And(hn::BitCast(d, hn::ShiftRight<kBits * kPart>(x)), hn::Set(d, (1 << kBits) - 1));
    hn::Store(scale(hn::TableLookupBytes(table, index)), d, out + kPart * step);
    DecodePart<kBits, kPart + 1>(codes, table, out, step, scale);
  }
}

// 16-bit multipliers of a chunk, two values each, and zero points: from records of 16 lanes.
struct RecordVectors {
  RecordVectors(const CodeStream& stream, const uint8_t* record, int64_t i) {
    const U32 d;
    const hn::Rebind<uint8_t, U32> d8;
    const auto m = hn::PromoteTo(d, hn::LoadU(d8, record + i / 4));
    multipliers = hn::BitCast(U8(), hn::Or(m, hn::ShiftLeft<16>(m)));
    zero_points = hn::Zero(U8());
    if (stream.zero_points) {
      zero_points = hn::BitCast(U8(), hn::Mul(hn::PromoteTo(d, hn::LoadU(d8, record + kChunk / 4 + i / 4)), hn::Set(d, 0x01010101u)));
    }
  }
  V8 multipliers, zero_points;
};

// Whole blocks under one record each, which stays in registers for several of them.
template <int kBits>
void DecodeScaledBlocks(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end, uint8_t* out, int64_t step) {
  constexpr int64_t kParts = 8 / kBits;
  const V8 table = hn::LoadDup128(U8(), reinterpret_cast<const uint8_t*>(stream.levels.data()));
  const int64_t span = stream.repeat / kParts;
  for (int64_t block = begin; block < end;) {
    const uint8_t* record = packed + stream.records_offset() + block / span * stream.record_bytes();
    const int64_t stop = std::min(end, (block / span + 1) * span);
    for (int64_t i = 0; i < kChunk; i += kBytes) {
      const RecordVectors r(stream, record, i);
      const auto scale = [&](V8 level) HWY_ATTR { return Scale(level, r.multipliers, r.zero_points); };
      for (int64_t b = block; b < stop; ++b) {
        hwy::Prefetch(packed + b * kChunk + kPrefetchBytes);
        DecodePart<kBits>(packed + b * kChunk + i, table, out + (b - block) * kParts * step + i, step, scale);
      }
    }
    out += (stop - block) * kParts * step;
    block = stop;
  }
}

// The same where levels are linear and nothing carries from one byte into the next: one product for two values.
void DecodeLinearBlocks(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end, uint8_t* out, int64_t step) {
  const U8 d;
  const V8 nibble = hn::Set(d, 15), lowest = hn::Set(d, static_cast<uint8_t>(stream.levels[0]));
  const int64_t span = stream.repeat / 2;
  for (int64_t block = begin; block < end;) {
    const uint8_t* record = packed + stream.records_offset() + block / span * stream.record_bytes();
    const int64_t stop = std::min(end, (block / span + 1) * span);
    for (int64_t i = 0; i < kChunk; i += kBytes) {
      const RecordVectors r(stream, record, i);
      const V8 offset = Scale(lowest, r.multipliers, r.zero_points);
      const auto multipliers = hn::BitCast(U16(), r.multipliers);
      const auto store = [&](V8 codes, uint8_t* to) HWY_ATTR {
        hn::Store(hn::Add(hn::BitCast(d, hn::Mul(hn::BitCast(U16(), codes), multipliers)), offset), d, to);
      };
      const uint8_t* codes = packed + block * kChunk + i;
      uint8_t* to = out + i;
      for (int64_t b = block; b < stop; ++b, codes += kChunk, to += 2 * step) {
        hwy::Prefetch(codes + kPrefetchBytes);
        const V8 x = hn::Load(d, codes);
        store(hn::And(x, nibble), to);
        store(hn::And(hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(U16(), x))), nibble), to + step);
      }
    }
    out += (stop - block) * 2 * step;
    block = stop;
  }
}

template <int kBits>
void DecodeBits(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end, uint8_t* out, int64_t step) {
  constexpr int64_t kParts = 8 / kBits;
  const V8 table = hn::LoadDup128(U8(), reinterpret_cast<const uint8_t*>(stream.levels.data()));
  if (stream.repeat == 0) {
    for (int64_t block = begin; block < end; ++block, out += kParts * step) {
      hwy::Prefetch(packed + block * kChunk + kPrefetchBytes);
      for (int64_t i = 0; i < kChunk; i += kBytes) DecodePart<kBits>(packed + block * kChunk + i, table, out + i, step, NoScale());
    }
    return;
  }
  if (stream.period == 1 && stream.repeat % kParts == 0) {
    if (kBits == 4 && stream.linear) return DecodeLinearBlocks(stream, packed, begin, end, out, step);
    return DecodeScaledBlocks<kBits>(stream, packed, begin, end, out, step);
  }
  const auto decode = [&](int64_t chunk, const uint8_t* multipliers, const uint8_t* zero_points) HWY_ATTR {
    const U8 d;
    const uint8_t* codes = packed + chunk / kParts * kChunk;
    hwy::Prefetch(codes + kPrefetchBytes);
    for (int64_t i = 0; i < kChunk; i += kBytes) {
      const auto x = hn::BitCast(U16(), hn::Load(d, codes + i));
      const auto shifted = hn::BitCast(d, hn::ShiftRightSame(x, static_cast<int>(chunk % kParts) * kBits));
      const V8 level = hn::TableLookupBytes(table, hn::And(shifted, hn::Set(d, (1 << kBits) - 1)));
      hn::Store(Scale(level, multipliers + i, zero_points + i), d, out + (chunk - begin * kParts) * step + i);
    }
  };
  ForEachScaledChunk(stream, packed, begin * kParts, end * kParts, decode);
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
  HWY_INLINE void operator()(const uint8_t* HWY_RESTRICT codes, uint8_t* HWY_RESTRICT to, int64_t step) const {
    const U8 d;
    const U16 d16;
    const V8 code = hn::Load(d, codes);
    const V8 w0 = t0_(code), w1 = t1_(code), w2 = t2_(code), w3 = t3_(code);
    const auto low01 = hn::BitCast(d16, hn::InterleaveLower(d, w0, w1)), high01 = hn::BitCast(d16, hn::InterleaveUpper(d, w0, w1));
    const auto low23 = hn::BitCast(d16, hn::InterleaveLower(d, w2, w3)), high23 = hn::BitCast(d16, hn::InterleaveUpper(d, w2, w3));
    hn::Store(hn::BitCast(d, hn::InterleaveLower(d16, low01, low23)), d, to);
    hn::Store(hn::BitCast(d, hn::InterleaveUpper(d16, low01, low23)), d, to + step);
    hn::Store(hn::BitCast(d, hn::InterleaveLower(d16, high01, high23)), d, to + 2 * step);
    hn::Store(hn::BitCast(d, hn::InterleaveUpper(d16, high01, high23)), d, to + 3 * step);
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
  void operator()(const uint8_t* HWY_RESTRICT codes, uint8_t* HWY_RESTRICT out, int64_t step) const {
    for (int q = 0; q < 4; ++q) {
      for (int j = 0; j < 4; ++j) {
        for (int i = 0; i < 4; ++i) std::memcpy(out + j * step + (q * 4 + i) * 4, table_[codes[q * 16 + j * 4 + i]], 4);
      }
    }
  }

 private:
  int8_t table_[256][4];
};
#endif

void DecodeVectors(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end, uint8_t* out, int64_t step) {
  const VectorTable table(stream.vectors.data());
  for (int64_t block = begin; block < end; ++block, out += 4 * step) {
    const uint8_t* codes = packed + block * kChunk;
    hwy::Prefetch(codes + kPrefetchBytes);
    table(codes, out, step);
  }
}

// Vector codes with records: a piece that stays in L1 is decoded first, then scaled in place.
void DecodeScaledVectors(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end, uint8_t* out, int64_t step) {
  constexpr int64_t kBlocks = 64;
  const auto scale = [&](int64_t chunk, const uint8_t* multipliers, const uint8_t* zero_points) HWY_ATTR {
    uint8_t* at = out + (chunk - begin * 4) * step;
    for (int64_t i = 0; i < kChunk; i += kBytes) {
      hn::Store(Scale(hn::Load(U8(), at + i), multipliers + i, zero_points + i), U8(), at + i);
    }
  };
  for (int64_t first = begin; first < end; first += kBlocks) {
    const int64_t last = std::min(first + kBlocks, end);
    DecodeVectors(stream, packed, first, last, out + (first - begin) * 4 * step, step);
    ForEachScaledChunk(stream, packed, first * 4, last * 4, scale);
  }
}

void Decode(const CodeStream& stream, const uint8_t* packed, int64_t begin, int64_t end, int8_t* out, int64_t step) {
  auto* const bytes = reinterpret_cast<uint8_t*>(out);
  switch (stream.form) {
    case Form::k1Bit:
      return DecodeBits<1>(stream, packed, begin, end, bytes, step);
    case Form::k2Bit:
      return DecodeBits<2>(stream, packed, begin, end, bytes, step);
    case Form::k4Bit:
      return DecodeBits<4>(stream, packed, begin, end, bytes, step);
    case Form::kVector:
      return stream.repeat > 0 ? DecodeScaledVectors(stream, packed, begin, end, bytes, step)
                               : DecodeVectors(stream, packed, begin, end, bytes, step);
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
