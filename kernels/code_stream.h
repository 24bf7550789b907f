// A run of s8 integers kept as codes of 1, 2 or 4 bits, or as bytes that each stand for four: constant operands in the
// byte order that a primitive of 8 bits wants, at the size of their codes.
//
//   value[i] = multiplier[i / 4] * (levels[code[i]] - zero_point[i / 4])      modulo 256: callers see that it fits s8
//
// Values are cut into chunks of 64 bytes (16 lanes of 4 neighbours), chunks into blocks of 64 stored bytes:
//   4 bits  byte k of block b holds byte k of chunks 2 b (low nibble) and 2 b + 1; 2 bits: of four chunks, 1 bit: of eight
//           two's complement is stored with its sign bit inverted, so that its levels are linear
//   vector  byte 16 q + 4 j + i of block b is the code of lane 4 q + i of chunk 4 b + j
// so that a vector register decodes into vector registers. Multipliers and zero points are records of 16 lanes; chunk c
// uses record c / (period * repeat) * period + c % period: of a blocked layout whose groups are neighbours each record
// is stored once. Memory: codes | records (multipliers, zero points) | tail: bytes that follow the values as they are.
//
// Why not multiply codes directly: for convolutions the best kernels are a library's, and they read s8 in layouts of
// their own. Decoding runs at the rate of the L2 cache, the codes cross the memory bus at their size, and the result is
// bit for bit that of the s8 weights.
#ifndef OCTET_KERNELS_CODE_STREAM_H_
#define OCTET_KERNELS_CODE_STREAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/kernel.h"

namespace octet::kernels {

struct CodeStream {
  static constexpr int64_t kChunk = 64;
  static constexpr int64_t kMaxPeriod = 8;
  enum class Form : uint8_t { k1Bit, k2Bit, k4Bit, kVector };

  Form form = Form::k4Bit;
  int64_t chunks = 0;
  int64_t value_bytes = 0, tail_bytes = 0;  // as decoded; the tail begins right behind the values
  int64_t period = 1, repeat = 0;           // repeat 0: no records
  bool zero_points = false;                 // records have zero points behind their multipliers
  // As decoded, chunks are rows of `columns`; the stream has them column after column, `height` chunks (whole blocks) each.
  // columns 1: as they are.
  int64_t columns = 1, height = 0;
  std::array<int8_t, 16> levels = {};       // of codes of bits
  bool linear = false;                      // levels[c] = levels[0] + c, and multiplier * c is below 256 for every code c
  std::vector<int8_t> vectors;              // kVector: [4][256], element d of all codes first

  int64_t chunks_per_block() const { return form == Form::k1Bit ? 8 : form == Form::k4Bit ? 2 : 4; }
  int64_t blocks() const { return (chunks + chunks_per_block() - 1) / chunks_per_block(); }
  int64_t record_bytes() const { return zero_points ? 32 : 16; }
  int64_t records() const {
    return repeat == 0 ? 0 : (chunks + period * repeat - 1) / (period * repeat) * period;
  }
  int64_t records_offset() const { return blocks() * kChunk; }
  int64_t tail_offset() const { return records_offset() + records() * record_bytes(); }
  int64_t size_bytes() const { return tail_offset() + tail_bytes; }
  // Memory that Decode writes: whole blocks, or values and tail where that is more.
  int64_t decoded_bytes() const {
    return std::max(blocks() * chunks_per_block() * kChunk, value_bytes + tail_bytes);
  }
  std::string Name() const;  // "4 bit", "2 bit x2": the form, and what its records hold
};

// Values in the order of the stream. Vectors of multipliers and zero points may be empty (all 1, all 0).
struct CodeSource {
  DType dtype = DType::kU4;                 // as stored; with `levels` as LevelsOf (narrow_weights.h) gives them
  std::vector<int8_t> levels;
  int vector = 1;
  std::vector<int16_t> codes;               // one per value; -1: the value is 0 whatever the table (padding)
  std::vector<uint8_t> multipliers;
  std::vector<int8_t> zero_points;
  absl::Span<const std::byte> tail;
  int64_t columns = 1, height = 0;          // as in CodeStream; all of the above is in the order of the stream
};

// detail of the result is the CodeStream. Errors: kUnimplemented when four neighbours do not share their multiplier
// (zero point, vector code), or when padding has no code.
absl::StatusOr<PackedWeights> EncodeStream(const CodeSource& source);

// Writes values and tail to `out` (decoded_bytes(), 64-byte aligned) on the team.
void DecodeStream(const CodeStream& stream, const std::byte* packed, ParallelFor* parallel, std::byte* out);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CODE_STREAM_H_
