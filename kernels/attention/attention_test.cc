// Attention: hand-computed values against the reference, every implementation against the reference.
#include "kernels/attention/attention.h"

#include <cmath>

#include "gmock/gmock.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using ::testing::Contains;
using ::testing::DoubleNear;
using ::testing::Pointwise;

struct Extents {
  int64_t batch, heads, queries, keys, depth, values;
};

// Rows of one head strided by all heads: [batch, rows, heads, columns], the form in front of a Transpose.
AttentionOperand Interleaved(const Extents& e, int64_t rows, int64_t columns, TensorSpec spec) {
  spec.shape = {e.batch, rows, e.heads, columns};
  return {spec, {rows * e.heads * columns, columns, e.heads * columns, 1}};
}
// [batch, heads, rows, columns].
AttentionOperand Dense(const Extents& e, int64_t rows, int64_t columns, TensorSpec spec) {
  spec.shape = {e.batch, e.heads, rows, columns};
  return {spec, {e.heads * rows * columns, rows * columns, columns, 1}};
}
// [batch, heads, columns, rows]: transposed in memory.
AttentionOperand Turned(const Extents& e, int64_t rows, int64_t columns, TensorSpec spec) {
  spec.shape = {e.batch, e.heads, columns, rows};
  return {spec, {e.heads * rows * columns, rows * columns, 1, rows}};
}

AttentionParams Params(const Extents& e, const TensorSpec& in, const TensorSpec& out) {
  AttentionParams p;
  p.batch = e.batch;
  p.heads = e.heads;
  p.queries = e.queries;
  p.keys = e.keys;
  p.depth = e.depth;
  p.values = e.values;
  p.q = Interleaved(e, e.queries, e.depth, in);
  p.k = Interleaved(e, e.keys, e.depth, in);
  p.v = Interleaved(e, e.keys, e.values, in);
  p.y = Interleaved(e, e.queries, e.values, out);
  p.scale = 1 / std::sqrt(static_cast<float>(e.depth));
  return p;
}

std::vector<Operand> Sources(const AttentionParams& p) {
  std::vector<Operand> s = Operands(MakeRandom(p.q.spec, 1), MakeRandom(p.k.spec, 2), MakeRandom(p.v.spec, 3));
  if (p.mask.has_value()) s.push_back(MakeRandom(p.mask->spec, -6, 2, 4));
  return s;
}

void Compare(const AttentionParams& p, const std::string& what, const std::string& implementation = "blocks") {
  // Reals: sums of up to a thousand products in f32. Integers: a real next to a tie may round to either side, and a
  // probability that does moves y by a small part of a step.
  const Tolerance tolerance = p.y.spec.quant ? Tolerance{1, 0} : Tolerance{p.probabilities ? 2e-2 : 3e-5, 3e-5};
  const auto accepted = CompareImplementations(AttentionImplementations(), p, Sources(p), p.y.spec, tolerance, what);
  EXPECT_THAT(accepted, Contains(implementation)) << what;
}

const TensorSpec kF32 = Spec(DType::kF32, {});
const TensorSpec kU8 = QuantSpec(DType::kU8, {}, 0.02f, 128);
const TensorSpec kS8 = QuantSpec(DType::kS8, {}, 0.02f, 0);

TEST(AttentionReferenceTest, KnownValues) {
  AttentionParams p = Params({1, 1, 1, 2, 1, 2}, kF32, kF32);
  p.scale = 2;
  const auto run = [&](const AttentionParams& params, std::vector<Operand> sources) {
    return ReferenceNumbers(AttentionImplementations(), params, sources, params.y.spec);
  };
  // Scores 2 * 0.5 * {0, ln 3} = {0, ln 3}: probabilities 1/4 and 3/4.
  const auto sources = [&] {
    return Operands(MakeOperand(p.q.spec, {0.5}), MakeOperand(p.k.spec, {0, std::log(3.0)}),
                    MakeOperand(p.v.spec, {4, 8, 40, 16}));
  };
  EXPECT_THAT(run(p, sources()), Pointwise(DoubleNear(1e-5), {31.0, 14.0}));
  AttentionParams masked = p;
  masked.mask = AttentionOperand{Spec(DType::kF32, {2}), {0, 0, 0, 1}};
  std::vector<Operand> with_mask = sources();
  with_mask.push_back(MakeOperand(Spec(DType::kF32, {2}), {0, -1e9}));
  EXPECT_THAT(run(masked, std::move(with_mask)), Pointwise(DoubleNear(1e-5), {4.0, 8.0}));
  AttentionParams rounded = p;
  rounded.probabilities = AttentionParams::Rounding{DType::kU8, 0.5f, 0};  // 0.25 -> 0 (tie to even), 0.75 -> 1
  EXPECT_THAT(run(rounded, sources()), Pointwise(DoubleNear(1e-5), {40.0, 16.0}));
}

TEST(AttentionTest, EqualsTheReferenceForExtentsAndTypes) {
  for (const Extents& e : {Extents{1, 1, 1, 1, 1, 1}, Extents{1, 2, 13, 13, 8, 8}, Extents{2, 3, 5, 40, 16, 33},
                           Extents{1, 2, 128, 128, 64, 64}, Extents{1, 1, 200, 77, 20, 4}, Extents{3, 2, 4, 3, 65, 17},
                           Extents{0, 2, 4, 3, 8, 8}}) {
    for (const TensorSpec& in : {kF32, kU8, kS8}) {
      for (const TensorSpec& out : {kF32, kU8, kS8}) {
        AttentionParams p = Params(e, in, out);
        const std::string what = absl::StrCat("keys ", e.keys, " depth ", e.depth, " ", NameOf(in.dtype), " to ", NameOf(out.dtype));
        Compare(p, what);
        p.probabilities = AttentionParams::Rounding{DType::kU8, 1 / 255.0f, 0};
        Compare(p, what + " rounded");
      }
    }
  }
}

TEST(AttentionTest, IntegersThroughout) {
  for (const Extents& e : {Extents{1, 1, 1, 1, 1, 1}, Extents{1, 2, 13, 13, 8, 8}, Extents{2, 3, 5, 40, 16, 33},
                           Extents{1, 2, 128, 128, 64, 64}, Extents{1, 1, 50, 77, 18, 20}, Extents{3, 2, 4, 3, 65, 17}}) {
    for (int32_t zero_point : {0, 128, 255}) {
      for (const TensorSpec& out : {kF32, kU8, kS8}) {
        AttentionParams p = Params(e, kS8, out);
        p.q = Interleaved(e, e.queries, e.depth, QuantSpec(DType::kU8, {}, 0.01f, zero_point));
        p.probabilities = AttentionParams::Rounding{DType::kU8, 1 / 255.0f, 0};
        const std::string what = absl::StrCat("keys ", e.keys, " depth ", e.depth, " to ", NameOf(out.dtype));
        Compare(p, what, "int8");
        p.mask = AttentionOperand{Spec(DType::kF32, {e.queries, e.keys}), {0, 0, e.keys, 1}};
        p.q = Turned(e, e.queries, e.depth, p.q.spec);
        p.k = Turned(e, e.keys, e.depth, p.k.spec);
        p.v = Turned(e, e.keys, e.values, p.v.spec);
        Compare(p, what + " turned and masked", "int8");
      }
    }
  }
}

TEST(AttentionTest, MixedTypesAndOtherOrdersOfMemory) {
  const Extents e{2, 3, 17, 19, 12, 10};
  AttentionParams p = Params(e, kF32, kF32);
  p.q = Turned(e, e.queries, e.depth, kU8);
  p.k = Dense(e, e.keys, e.depth, kS8);
  Compare(p, "turned q, dense k");
  p.k = Turned(e, e.keys, e.depth, kF32);
  p.v = Turned(e, e.keys, e.values, kU8);
  Compare(p, "turned k and v");
  p.y = Turned(e, e.queries, e.values, kS8);
  Compare(p, "turned y");
  p.y = Dense(e, e.queries, e.values, kF32);
  p.k.strides[1] = 0;  // one head of keys for all
  p.v.strides[1] = 0;
  Compare(p, "shared keys");
  p.probabilities = AttentionParams::Rounding{DType::kS8, 1 / 127.0f, 0};
  Compare(p, "s8 probabilities");
}

TEST(AttentionTest, MasksBroadcastAlongAnyDimension) {
  const Extents e{2, 3, 9, 21, 8, 8};
  for (int pattern = 0; pattern < 16; ++pattern) {
    AttentionParams p = Params(e, kF32, kF32);
    const Shape full{e.batch, e.heads, e.queries, e.keys};
    AttentionOperand mask{Spec(DType::kF32, {1, 1, 1, 1}), {}};
    int64_t stride = 1;
    for (size_t d = 4; d-- > 0;) {
      if ((pattern >> d & 1) == 0) continue;
      mask.spec.shape[d] = full[d];
      mask.strides[d] = stride;
      stride *= full[d];
    }
    p.mask = mask;
    Compare(p, absl::StrCat("mask ", ShapeString(mask.spec.shape)));
  }
}

TEST(AttentionTest, ARowDoesNotDependOnTheOthers) {
  const Extents all{2, 2, 29, 31, 16, 16};
  const AttentionParams p = Params(all, kF32, kF32);
  std::vector<Operand> sources = Sources(p);
  const auto run = [&](const AttentionParams& params, const void* q, const void* k, const void* v) {
    Operand y = MakeOperand(params.y.spec);
    auto kernel = CreateAttention(params, KernelEnv{nullptr, 2});
    EXPECT_TRUE(kernel.ok());
    EXPECT_TRUE(RunKernel(**kernel, {q, k, v}, {y.data()}).ok());
    return Numbers(y);
  };
  const std::vector<double> both = run(p, sources[0].data(), sources[1].data(), sources[2].data());
  Extents one = all;
  one.batch = 1;
  const AttentionParams alone = Params(one, kF32, kF32);
  const auto second = [&](size_t i, int64_t rows) {
    return static_cast<const float*>(sources[i].data()) + rows * 2 * 16;
  };
  const std::vector<double> row = run(alone, second(0, 29), second(1, 31), second(2, 31));
  EXPECT_EQ(row, std::vector<double>(both.begin() + static_cast<int64_t>(row.size()), both.end()));
}

TEST(AttentionTest, RefusesStridesThatLeadOut) {
  AttentionParams p = Params({1, 2, 4, 4, 8, 8}, kF32, kF32);
  p.k.strides[2] += 1;
  EXPECT_EQ(CreateAttention(p, KernelEnv{}).status().code(), absl::StatusCode::kInvalidArgument);
  p = Params({1, 2, 4, 4, 8, 8}, Spec(DType::kS32, {}), kF32);
  EXPECT_EQ(CreateAttention(p, KernelEnv{}).status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace octet::kernels
