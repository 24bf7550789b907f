// Encoding of code streams, and their decoding on a team.
#include "kernels/code_stream.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/code_stream_vector.h"
#include "kernels/elements.h"

namespace octet::kernels {
namespace {

constexpr int64_t kChunk = CodeStream::kChunk;
constexpr int64_t kLanes = kChunk / 4;
constexpr int kAnything = -1000;  // of a lane that is padding
constexpr int64_t kGrainValues = 64 << 10;

// What the four values of every lane share.
struct Lanes {
  std::vector<int16_t> multipliers, zero_points, vector_codes;
};

// The one value of `values` at the lane's elements that are not padding. Errors: there are two.
template <typename T>
absl::StatusOr<int> Shared(const CodeSource& s, const std::vector<T>& values, size_t lane, int absent) {
  if (values.empty()) return absent;
  int found = kAnything;
  for (size_t i = lane * 4; i < std::min(lane * 4 + 4, s.codes.size()); ++i) {
    if (s.codes[i] < 0) continue;
    if (found != kAnything && found != values[i]) {
      return absl::UnimplementedError("four neighbouring weights of this layout belong to different groups");
    }
    found = values[i];
  }
  return found;
}

// True when padding falls on whole lanes, which a multiplier of 0 can blank.
bool PaddingIsWholeLanes(const CodeSource& s) {
  for (size_t i = 0; i < s.codes.size(); ++i) {
    if ((s.codes[i] < 0) != (s.codes[i / 4 * 4] < 0)) return false;
  }
  return true;
}

bool HasPadding(const CodeSource& s) {
  return std::any_of(s.codes.begin(), s.codes.end(), [](int16_t code) { return code < 0; });
}

// Form, table and the code of padding; a multiplier of 0 must blank padding when there is none.
struct Table {
  CodeStream::Form form = CodeStream::Form::k4Bit;
  int bits = 4;
  std::array<int8_t, 16> levels = {};
  std::vector<int8_t> vectors;
  std::optional<int> padding;
  int flip = 0;  // bits of a code that are stored inverted
};

// All 16 levels, each one more than that of the code before.
bool AreLinear(const std::array<int8_t, 16>& levels) {
  for (size_t c = 1; c < levels.size(); ++c) {
    if (levels[c] != levels[0] + static_cast<int>(c)) return false;
  }
  return true;
}

Table MakeTable(const CodeSource& s) {
  Table t;
  if (s.vector > 1) {
    t.form = CodeStream::Form::kVector;
    t.vectors.assign(1024, 0);
    for (size_t i = 0; i < s.levels.size(); ++i) t.vectors[i % 4 * 256 + i / 4] = s.levels[i];
    return t;
  }
  std::copy(s.levels.begin(), s.levels.end(), t.levels.begin());
  const auto zero = std::find(s.levels.begin(), s.levels.end(), 0);
  // A zero point moves what a code stands for.
  if (zero != s.levels.end() && s.zero_points.empty()) t.padding = static_cast<int>(zero - s.levels.begin());
  size_t entries = s.levels.size();
  if (!t.padding && s.zero_points.empty() && entries < 16 && HasPadding(s)) t.padding = static_cast<int>(entries++);
  t.bits = entries <= 2 ? 1 : entries <= 4 ? 2 : 4;
  std::array<int8_t, 16> flipped;
  for (size_t c = 0; c < flipped.size(); ++c) flipped[c] = t.levels[c ^ 8];
  if (AreLinear(flipped)) {
    t.levels = flipped;
    t.flip = 8;
  }
  t.form = t.bits == 1 ? CodeStream::Form::k1Bit : t.bits == 2 ? CodeStream::Form::k2Bit : CodeStream::Form::k4Bit;
  return t;
}

absl::StatusOr<Lanes> MakeLanes(const CodeSource& s, const Table& table) {
  const bool blank = !table.padding && HasPadding(s);
  if (blank && !PaddingIsWholeLanes(s)) return absl::UnimplementedError("padding has no code for 0");
  const bool multiplied = blank || !s.multipliers.empty() || !s.zero_points.empty();
  Lanes lanes;
  for (size_t lane = 0; lane * 4 < s.codes.size(); ++lane) {
    if (multiplied) {
      OCTET_ASSIGN_OR_RETURN(int m, Shared(s, s.multipliers, lane, 1));
      if (blank && s.codes[lane * 4] < 0) m = 0;
      lanes.multipliers.push_back(static_cast<int16_t>(m));
    }
    if (!s.zero_points.empty()) {
      OCTET_ASSIGN_OR_RETURN(const int z, Shared(s, s.zero_points, lane, 0));
      lanes.zero_points.push_back(static_cast<int16_t>(z));
    }
    if (s.vector > 1) {
      OCTET_ASSIGN_OR_RETURN(const int code, Shared(s, s.codes, lane, 0));
      lanes.vector_codes.push_back(static_cast<int16_t>(code == kAnything ? 0 : code));
    }
  }
  return lanes;
}

// Lanes [lane, lane + 16) of chunks `period` apart under one record each: merges `repeat` chunks where they agree.
class Records {
 public:
  Records(const Lanes& lanes, int64_t chunks) : lanes_(lanes), chunks_(chunks) {}

  // Finds the period and the repetition that need the fewest records.
  void Choose(CodeStream& stream) const {
    int64_t fewest = chunks_ + 1;
    const auto longest = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(chunks_)));
    for (int64_t period = 1; period <= CodeStream::kMaxPeriod; ++period) {
      for (int64_t repeat = longest; repeat > 0; repeat /= 2) {  // the first that fits needs the fewest
        CodeStream trial = stream;
        trial.period = period;
        trial.repeat = repeat;
        if (trial.records() < fewest && Make(trial)) {
          fewest = trial.records();
          stream.period = period;
          stream.repeat = repeat;
          break;
        }
      }
    }
  }

  // The records in memory order, or nothing when chunks of one record differ.
  std::optional<std::vector<uint8_t>> Make(const CodeStream& stream) const {
    std::vector<int16_t> merged(static_cast<size_t>(stream.records() * 2 * kLanes), kAnything);
    for (int64_t c = 0; c < chunks_; ++c) {
      const int64_t record = c / (stream.period * stream.repeat) * stream.period + c % stream.period;
      int16_t* to = merged.data() + record * 2 * kLanes;
      if (!Merge(lanes_.multipliers, c, to) || !Merge(lanes_.zero_points, c, to + kLanes)) return std::nullopt;
    }
    std::vector<uint8_t> bytes;
    for (int64_t r = 0; r < stream.records(); ++r) {
      for (int64_t i = 0; i < stream.record_bytes(); ++i) {
        const int16_t value = merged[static_cast<size_t>(r * 2 * kLanes + i)];
        bytes.push_back(value == kAnything ? 0 : static_cast<uint8_t>(value));
      }
    }
    return bytes;
  }

 private:
  static bool Merge(const std::vector<int16_t>& lanes, int64_t chunk, int16_t* to) {
    if (lanes.empty()) return true;
    for (int64_t l = 0; l < kLanes; ++l) {
      const auto at = static_cast<size_t>(chunk * kLanes + l);
      if (at >= lanes.size() || lanes[at] == kAnything) continue;
      if (to[l] != kAnything && to[l] != lanes[at]) return false;
      to[l] = lanes[at];
    }
    return true;
  }

  const Lanes& lanes_;
  int64_t chunks_;
};

void StoreCodes(const CodeSource& s, const Table& table, const Lanes& lanes, const CodeStream& stream, uint8_t* out) {
  const int64_t per_block = stream.chunks_per_block();
  if (table.form == CodeStream::Form::kVector) {
    for (size_t lane = 0; lane < lanes.vector_codes.size(); ++lane) {
      const auto at = static_cast<int64_t>(lane);
      const int64_t chunk = at / kLanes, l = at % kLanes;
      out[chunk / 4 * kChunk + l / 4 * 16 + chunk % 4 * 4 + l % 4] = static_cast<uint8_t>(lanes.vector_codes[lane]);
    }
    return;
  }
  const int padding = table.padding.value_or(0);
  for (int64_t i = 0; i < stream.blocks() * per_block * kChunk; ++i) {
    const bool inside = i < static_cast<int64_t>(s.codes.size()) && s.codes[static_cast<size_t>(i)] >= 0;
    const int code = (inside ? s.codes[static_cast<size_t>(i)] : padding) ^ table.flip;
    const int64_t chunk = i / kChunk;
    uint8_t& byte = out[chunk / per_block * kChunk + i % kChunk];
    byte = static_cast<uint8_t>(byte | code << (chunk % per_block * table.bits));
  }
}

// body(first, last, chunk) for runs of blocks [begin, end) within a column; `chunk` is where the first belongs as decoded.
template <typename Body>
void ForEachRun(const CodeStream& stream, int64_t begin, int64_t end, const Body& body) {
  const int64_t per_block = stream.chunks_per_block();
  if (stream.columns == 1) return body(begin, end, begin * per_block);
  const int64_t per_column = stream.height / per_block;
  while (begin < end) {
    const int64_t column = begin / per_column, last = std::min(end, (column + 1) * per_column);
    const int64_t row = column / stream.columns * stream.height + begin % per_column * per_block;
    body(begin, last, row * stream.columns + column % stream.columns);
    begin = last;
  }
}

}  // namespace

std::string CodeStream::Name() const {
  const char* name = form == Form::k1Bit ? "1 bit" : form == Form::k2Bit ? "2 bit" : form == Form::k4Bit ? "4 bit" : "vectors";
  return absl::StrCat(name, repeat > 0 ? " groups" : "", zero_points ? " zero points" : "");
}

absl::StatusOr<PackedWeights> EncodeStream(const CodeSource& source) {
  const Table table = MakeTable(source);
  OCTET_ASSIGN_OR_RETURN(const Lanes lanes, MakeLanes(source, table));
  CodeStream stream;
  stream.form = table.form;
  stream.levels = table.levels;
  stream.vectors = table.vectors;
  stream.value_bytes = static_cast<int64_t>(source.codes.size());
  stream.tail_bytes = static_cast<int64_t>(source.tail.size());
  stream.chunks = (stream.value_bytes + kChunk - 1) / kChunk;
  stream.zero_points = !lanes.zero_points.empty();
  stream.columns = source.columns;
  stream.height = source.height;
  const Records records(lanes, stream.chunks);
  if (!lanes.multipliers.empty()) records.Choose(stream);
  stream.linear = AreLinear(stream.levels) &&
                  std::all_of(lanes.multipliers.begin(), lanes.multipliers.end(), [](int16_t m) { return m * 15 < 256; });
  PackedWeights packed;
  OCTET_ASSIGN_OR_RETURN(packed.data, Buffer::Allocate(stream.size_bytes()));
  StoreCodes(source, table, lanes, stream, reinterpret_cast<uint8_t*>(packed.data.data()));
  if (stream.repeat > 0) {
    const std::vector<uint8_t> bytes = *records.Make(stream);
    std::memcpy(packed.data.data() + stream.records_offset(), bytes.data(), bytes.size());
  }
  if (!source.tail.empty()) {
    std::memcpy(packed.data.data() + stream.tail_offset(), source.tail.data(), source.tail.size());
  }
  packed.layout = stream.Name();
  packed.detail = std::move(stream);
  return packed;
}

void DecodeStream(const CodeStream& stream, const std::byte* packed, ParallelFor* parallel, std::byte* out) {
  const int64_t grain = std::max<int64_t>(kGrainValues / (stream.chunks_per_block() * kChunk), 1);
  const CodeStreamDecodeFn decode = ChooseCodeStreamDecode();
  RunParallel(parallel, stream.blocks(), grain, [&](int64_t begin, int64_t end) {
    ForEachRun(stream, begin, end, [&](int64_t first, int64_t last, int64_t chunk) {
      decode(stream, reinterpret_cast<const uint8_t*>(packed), first, last, reinterpret_cast<int8_t*>(out) + chunk * kChunk,
             stream.columns * kChunk);
    });
    // The last block may have run over the place of the tail.
    if (end == stream.blocks() && stream.tail_bytes > 0) {
      std::memcpy(out + stream.value_bytes, packed + stream.tail_offset(), static_cast<size_t>(stream.tail_bytes));
    }
  });
}

}  // namespace octet::kernels
