// Sampling of codes with alternatives.
#include "graph/draws.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/philox.h"

namespace octet::graph {
namespace {

int LargestStep(DType dtype) { return dtype == DType::kS4 ? 7 : 127; }

bool IsSigned(DType dtype) { return dtype == DType::kS4 || dtype == DType::kS8; }

// Element i of packed codes, as the type's integer.
int CodeAt(absl::Span<const std::byte> bytes, DType dtype, int64_t i) {
  const int bits = BitsOf(dtype);
  const int per_byte = 8 / bits;
  const int raw = std::to_integer<int>(bytes[static_cast<size_t>(i / per_byte)]) >> (i % per_byte * bits) & ((1 << bits) - 1);
  return IsSigned(dtype) && raw >= 1 << (bits - 1) ? raw - (1 << bits) : raw;
}

void SetCode(absl::Span<std::byte> bytes, DType dtype, int64_t i, int code) {
  const int bits = BitsOf(dtype);
  const int per_byte = 8 / bits, shift = static_cast<int>(i % per_byte) * bits, mask = (1 << bits) - 1;
  std::byte& byte = bytes[static_cast<size_t>(i / per_byte)];
  byte = (byte & ~static_cast<std::byte>(mask << shift)) | static_cast<std::byte>((code & mask) << shift);
}

absl::Span<const std::byte> BytesOfTensor(const Tensor& t) {
  return {t.data(), static_cast<size_t>(t.size_bytes())};
}

int Sign(int step) { return step > 0 ? 1 : -1; }

uint32_t ReversedBits(uint32_t x) {
  uint32_t reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed = reversed << 1 | (x >> bit & 1);
  return reversed;
}

}  // namespace

absl::Status CheckAlternatives(const Value& weights) {
  const auto bad = [&](auto... parts) {
    return absl::InvalidArgumentError(absl::StrCat("alternatives of '", weights.name, "': ", parts...));
  };
  if (!weights.is_constant() || !weights.quant.has_value()) return bad("expected a constant with quantization");
  if (weights.quant->vector != 1) return bad("codes of vectors have none");
  const int bits = BitsOf(weights.dtype);
  if (!IsInteger(weights.dtype) || bits > 8) return bad("codes of type ", NameOf(weights.dtype), ", expected 8 bits or fewer");
  const Tensor& steps = weights.alternatives->steps;
  if (steps.dtype() != DType::kS8 && steps.dtype() != DType::kS4) {
    return bad("type ", NameOf(steps.dtype()), ", expected s8 or s4");
  }
  if (steps.shape() != weights.data->shape()) {
    return bad("shape ", ShapeString(steps.shape()), ", the codes have ", ShapeString(weights.data->shape()));
  }
  const int low = IsSigned(weights.dtype) ? -(1 << (bits - 1)) : 0;
  const int high = weights.quant->levels.empty() ? low + (1 << bits) - 1
                                                 : static_cast<int>(weights.quant->levels.size()) - 1;
  const absl::Span<const std::byte> codes = BytesOfTensor(*weights.data), all = BytesOfTensor(steps);
  for (int64_t i = 0; i < steps.num_elements(); ++i) {
    const int step = CodeAt(all, steps.dtype(), i);
    if (step == 0) continue;
    if (step < -LargestStep(steps.dtype())) return bad("element ", i, " is ", step, ", expected ", step + 1, " or more");
    const int code = CodeAt(codes, weights.dtype, i), other = code + Sign(step);
    if (other < low || other > high) {
      return bad("element ", i, ": a step from code ", code, " to ", other, ", expected codes from ", low, " to ", high);
    }
  }
  return absl::OkStatus();
}

double AlternativeProbability(int step, DType dtype) { return std::abs(step) / (2.0 * LargestStep(dtype)); }

bool IsUndecided(const Value& weights) {
  if (!weights.alternatives.has_value()) return false;
  const Tensor& steps = weights.alternatives->steps;
  for (int64_t i = 0; i < steps.num_elements(); ++i) {
    if (CodeAt(BytesOfTensor(steps), steps.dtype(), i) != 0) return true;
  }
  return false;
}

// FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv): any fixed function would do.
uint32_t StreamOf(absl::string_view name) {
  uint32_t hash = 2166136261u;
  for (char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

Tensor DrawCodes(const Value& weights, uint64_t seed, uint32_t sample) {
  const Tensor& codes = *weights.data;
  const Tensor& steps = weights.alternatives->steps;
  auto bytes = std::make_shared<std::vector<std::byte>>(codes.data(), codes.data() + codes.size_bytes());
  const absl::Span<const std::byte> all = BytesOfTensor(steps);
  const uint64_t unit = uint64_t{1} << 32;
  ElementRandom random(seed, weights.alternatives->stream, 0);
  const uint32_t turn = ReversedBits(sample);
  for (int64_t i = 0; i < codes.num_elements(); ++i) {
    const int step = CodeAt(all, steps.dtype(), i);
    if (step == 0) continue;
    // u < p with u = bits / 2^32, in integers: exact, so that no rounding of a platform decides.
    const uint64_t limit = unit * static_cast<uint64_t>(std::abs(step));
    const uint32_t bits = random.Bits(static_cast<uint64_t>(i)) + turn;  // modulo 2^32
    if (uint64_t{bits} * 2 * static_cast<uint64_t>(LargestStep(steps.dtype())) >= limit) continue;
    SetCode(absl::MakeSpan(*bytes), codes.dtype(), i, CodeAt(BytesOfTensor(codes), codes.dtype(), i) + Sign(step));
  }
  const std::byte* data = bytes->data();
  return Tensor(codes.dtype(), codes.shape(), data, std::move(bytes));
}

Graph DrawSample(Graph graph, uint64_t seed, uint32_t sample) {
  for (Value& value : graph.values) {
    if (!value.alternatives.has_value()) continue;
    if (IsUndecided(value)) value.data = DrawCodes(value, seed, sample);
    value.alternatives.reset();
  }
  return graph;
}

}  // namespace octet::graph
