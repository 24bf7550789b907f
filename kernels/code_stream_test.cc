// Code streams against the formula, element by element, on every instruction set of this CPU.
#include "kernels/code_stream.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/match.h"
#include "base/rng.h"
#include "hwy/targets.h"
#include "kernels/narrow_weights.h"

namespace octet::kernels {
namespace {

struct Case {
  std::string name;
  DType dtype = DType::kU4;
  std::vector<int8_t> levels;
  int vector = 1;
  int64_t values = 0;
  int64_t group_lanes = 0;      // lanes of one multiplier; 0: none
  bool zero_points = false;
  int padding_every = 0;        // every so many values is padding
  int padding_lanes_every = 0;  // every so many lanes is padding
};

CodeSource MakeSource(const Case& c) {
  const CounterRng rng(c.values);
  CodeSource s;
  s.dtype = c.dtype;
  s.levels = c.levels;
  s.vector = c.vector;
  const auto entries = static_cast<int64_t>(c.levels.size()) / c.vector;
  for (int64_t i = 0; i < c.values; ++i) {
    const int64_t lane = i / 4;
    const auto at = static_cast<uint64_t>(c.vector > 1 ? lane : i);
    const bool padding = (c.padding_every > 0 && i % c.padding_every == 0) ||
                         (c.padding_lanes_every > 0 && lane % c.padding_lanes_every == 0);
    s.codes.push_back(padding ? int16_t{-1} : static_cast<int16_t>(rng.Bits(at) % static_cast<uint64_t>(entries)));
    if (c.group_lanes > 0) {
      // Channels run along the lanes of a chunk, groups along chunks.
      const auto group = static_cast<uint64_t>(lane / 16 / c.group_lanes * 16 + lane % 16);
      s.multipliers.push_back(static_cast<uint8_t>(1 + rng.Bits(group + 999) % 8));
      if (c.zero_points) s.zero_points.push_back(static_cast<int8_t>(rng.Bits(group + 5555) % 16));
    }
  }
  return s;
}

int8_t Value(const CodeSource& s, size_t i) {
  if (s.codes[i] < 0) return 0;
  const auto entry = s.vector > 1 ? static_cast<size_t>(s.codes[i]) * 4 + i % 4 : static_cast<size_t>(s.codes[i]);
  const int zero_point = s.zero_points.empty() ? 0 : s.zero_points[i];
  const int multiplier = s.multipliers.empty() ? 1 : s.multipliers[i];
  return static_cast<int8_t>(multiplier * (s.levels[entry] - zero_point));
}

void ExpectDecodes(const CodeSource& s) {
  const absl::StatusOr<PackedWeights> packed = EncodeStream(s);
  ASSERT_TRUE(packed.ok()) << packed.status();
  const auto& stream = std::any_cast<const CodeStream&>(packed->detail);
  EXPECT_EQ(packed->data.size_bytes(), stream.size_bytes());
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    for (const int threads : {1, 3}) {
      OpenMpFor team(threads);
      Buffer out = *Buffer::Allocate(stream.decoded_bytes());
      DecodeStream(stream, packed->data.data(), &team, out.data());
      for (size_t i = 0; i < s.codes.size(); ++i) {
        ASSERT_EQ(static_cast<int8_t>(out.data()[i]), Value(s, i)) << i;
      }
      for (size_t i = 0; i < s.tail.size(); ++i) ASSERT_EQ(out.data()[s.codes.size() + i], s.tail[i]) << i;
    }
    hwy::SetSupportedTargetsForTest(0);
  }
}

std::vector<int8_t> Levels(int n) {
  std::vector<int8_t> levels;
  for (int i = 0; i < n; ++i) levels.push_back(static_cast<int8_t>(i * 255 / n - 127));
  return levels;
}

const std::vector<Case>& Cases() {
  static const auto* const list = new std::vector<Case>{
      {"s4", DType::kS4, LevelsOf(DType::kS4, {}), 1, 64 * 37},
      {"s4 groups", DType::kS4, LevelsOf(DType::kS4, {}), 1, 64 * 64, 8},
      {"s4 zero points", DType::kS4, LevelsOf(DType::kS4, {}), 1, 64 * 48, 4, true},
      {"s4 groups of a chunk", DType::kS4, LevelsOf(DType::kS4, {}), 1, 64 * 24, 1},
      {"u4 groups", DType::kU4, {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}, 1, 64 * 64, 8},
      {"u4 zero points", DType::kU4, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, 1, 64 * 48, 4, true},
      {"16 levels", DType::kU4, Levels(16), 1, 4096},
      {"ternary", DType::kU2, {-1, 0, 1}, 1, 64 * 50 + 24, 0, false, 5},
      {"ternary groups", DType::kU2, {-1, 0, 1}, 1, 64 * 96, 8, false, 5},
      {"binary", DType::kU1, {-1, 1}, 1, 64 * 35},
      {"binary, padding inside lanes", DType::kU1, {-1, 1}, 1, 64 * 35, 0, false, 3},
      {"16 levels without 0, padding in lanes", DType::kU4, {-8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8}, 1, 640, 0, false, 0, 3},
      {"vectors", DType::kU2, Levels(1024), 4, 64 * 41},
      {"vectors, padding", DType::kU2, Levels(1024), 4, 64 * 41, 0, false, 0, 7},
      {"vectors, groups", DType::kU2, Levels(120), 4, 64 * 32, 4},
      {"large", DType::kU4, Levels(16), 1, 64 * 5000},
      {"few", DType::kU2, {-1, 0, 1, 2}, 1, 4},
  };
  return *list;
}

TEST(CodeStreamTest, DecodesToTheFormula) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    CodeSource s = MakeSource(c);
    ExpectDecodes(s);
    const std::vector<std::byte> tail(260, std::byte{77});
    s.tail = tail;
    ExpectDecodes(s);
  }
}

TEST(CodeStreamTest, KeepsOneRecordPerGroup) {
  const Case c{"groups", DType::kU4, Levels(16), 1, 64 * 256, 8};
  const absl::StatusOr<PackedWeights> packed = EncodeStream(MakeSource(c));
  ASSERT_TRUE(packed.ok()) << packed.status();
  EXPECT_EQ(packed->data.size_bytes(), 64 * 256 / 2 + 256 / 8 * 16);
}

TEST(CodeStreamTest, BitsFollowTheNumberOfLevels) {
  for (const auto& [levels, bits] : std::vector<std::pair<int, int>>{{2, 1}, {3, 2}, {4, 2}, {5, 4}, {16, 4}}) {
    const Case c{"bits", DType::kU4, Levels(levels), 1, 64 * 64};
    EXPECT_EQ(EncodeStream(MakeSource(c))->data.size_bytes(), 64 * 64 * bits / 8) << levels;
  }
}

TEST(CodeStreamTest, RefusesNeighboursOfTwoGroups) {
  CodeSource s = MakeSource({"", DType::kU4, Levels(16), 1, 256, 4});
  s.multipliers[5] = static_cast<uint8_t>(s.multipliers[5] + 1);
  const absl::StatusOr<PackedWeights> packed = EncodeStream(s);
  EXPECT_TRUE(absl::IsUnimplemented(packed.status()));
  EXPECT_TRUE(absl::StrContains(packed.status().message(), "different groups"));
}

TEST(CodeStreamTest, RefusesPaddingWithoutCode) {
  const CodeSource s = MakeSource({"", DType::kU4, {-8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8}, 1, 256, 0, false, 3});
  EXPECT_TRUE(absl::IsUnimplemented(EncodeStream(s).status()));
}

}  // namespace
}  // namespace octet::kernels
