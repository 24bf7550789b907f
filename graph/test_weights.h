// Weights in every stored form, drawn at random, with the reals they stand for by plain loops; for tests only.
#ifndef OCTET_GRAPH_TEST_WEIGHTS_H_
#define OCTET_GRAPH_TEST_WEIGHTS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "graph/graph.h"

namespace octet::graph {

enum class Share : uint8_t { kTensor, kChannel, kGroup };  // one scale

struct WeightForm {
  std::string name;
  DType dtype = DType::kU2;
  size_t levels = 0;  // 0: the codes are integers
  int vector = 1;
  Share share = Share::kChannel;
  int64_t group = 0;
  bool zero_points = false;
  float unit = 1.0f / 4096;  // scales are 1 to 1000 of it: exact in f16
};

inline std::vector<WeightForm> WeightForms() {
  return {{"u1", DType::kU1, 2, 1, Share::kChannel, 0},
          {"u1_groups", DType::kU1, 2, 1, Share::kGroup, 8},
          {"u2", DType::kU2, 4, 1, Share::kChannel, 0},
          {"u2_three_levels", DType::kU2, 3, 1, Share::kTensor, 0},
          {"u2_groups", DType::kU2, 3, 1, Share::kGroup, 16},
          {"u4", DType::kU4, 16, 1, Share::kChannel, 0},
          {"u4_eight_levels", DType::kU4, 8, 1, Share::kGroup, 8},
          {"vectors", DType::kU2, 1024, 4, Share::kChannel, 0},
          {"vectors_groups", DType::kU2, 1024, 4, Share::kGroup, 8, false, 1.0f / 3},
          {"s4_groups", DType::kS4, 0, 1, Share::kGroup, 32},
          {"s4_groups_f32", DType::kS4, 0, 1, Share::kGroup, 8, false, 1.0f / 3},
          {"s4_channels", DType::kS4, 0, 1, Share::kChannel, 0},
          {"u4_affine_groups", DType::kU4, 0, 1, Share::kGroup, 8, true}};
}

struct StoredWeights {
  Value value;        // without name
  std::vector<float> reals;  // in the value's shape
};

// Weights of shape [O, I, k...], [N, K] (row_axis 0) or [K, N] (row_axis 1).
inline StoredWeights MakeWeights(const WeightForm& form, const Shape& shape, int row_axis, uint64_t seed) {
  const CounterRng rng(seed);
  uint64_t draw = 0;
  const int64_t rows = shape[static_cast<size_t>(row_axis)], inputs = shape[static_cast<size_t>(1 - row_axis)];
  int64_t positions = 1;
  for (size_t d = 2; d < shape.size(); ++d) positions *= shape[d];
  StoredWeights out;
  Value& v = out.value;
  v.dtype = form.dtype;
  v.shape = shape;
  QuantParams& q = v.quant.emplace();
  const int64_t blocks = form.share == Share::kGroup ? (inputs + form.group - 1) / form.group : 1;
  if (form.share == Share::kChannel) q.axis = row_axis;
  if (form.share == Share::kGroup) {
    q.axis = 1 - row_axis;
    q.block = form.group;
  }
  const bool one = form.share == Share::kTensor, channels = form.share == Share::kChannel;
  const int64_t scales = one ? 1 : channels ? rows : rows * blocks * positions;
  for (int64_t i = 0; i < scales; ++i) {
    q.scale.push_back(static_cast<float>(1 + rng.Bits(draw++) % 1000) * form.unit);
    if (form.zero_points) q.zero_point.push_back(static_cast<int32_t>(rng.Bits(draw++) % 16));
  }
  if (form.share == Share::kTensor && form.levels == 0) q.zero_point = {0};
  for (size_t i = 0; i < form.levels; ++i) {
    q.levels.push_back(static_cast<int8_t>(static_cast<int>(rng.Bits(draw++) % 255) - 127));
  }
  q.vector = form.vector;

  const int bits = BitsOf(form.dtype);
  auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(ByteSize(form.dtype, shape)));
  out.reals.resize(static_cast<size_t>(rows * positions * inputs));
  size_t byte = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t p = 0; p < positions; ++p) {
      for (int64_t i = 0; i < inputs; ++i) {
        const int64_t at = row_axis == 0 ? (r * inputs + i) * positions + p : i * rows + r;
        const int64_t b = form.group > 0 ? i / form.group : 0;
        const int64_t grouped = row_axis == 0 ? (r * blocks + b) * positions + p : b * rows + r;
        const auto s = static_cast<size_t>(one ? 0 : channels ? r : grouped);
        int number = 0;
        if (form.vector > 1) {
          if (i % 4 == 0) (*bytes)[byte++] = static_cast<std::byte>(rng.Bits(draw++) % 256);
          number = q.levels[std::to_integer<size_t>((*bytes)[byte - 1]) * 4 + static_cast<size_t>(i % 4)];
        } else {
          const uint64_t codes = form.levels > 0 ? form.levels : uint64_t{1} << bits;
          const int code = static_cast<int>(rng.Bits(draw++) % codes);
          const auto bit = static_cast<size_t>(at * bits);
          (*bytes)[bit / 8] |= static_cast<std::byte>(code << bit % 8);
          const int integer = form.dtype == DType::kS4 && code > 7 ? code - 16 : code;
          number = form.levels > 0 ? q.levels[static_cast<size_t>(code)] : integer - q.zero_point_at(s);
        }
        out.reals[static_cast<size_t>(at)] = static_cast<float>(number) * q.scale[s];
      }
    }
  }
  const std::byte* data = bytes->data();
  v.data = Tensor(form.dtype, shape, data, std::move(bytes));
  return out;
}

}  // namespace octet::graph

#endif  // OCTET_GRAPH_TEST_WEIGHTS_H_
