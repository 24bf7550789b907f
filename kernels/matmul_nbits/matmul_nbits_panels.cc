// Packing of MatmulNBits' weights.
#include "kernels/matmul_nbits/matmul_nbits_panels.h"

#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/float16.h"
#include "base/status.h"
#include "kernels/elements.h"

namespace octet::kernels {
namespace {

using Transpose = MatmulNBitsParams::Transpose;
constexpr int64_t kMostBundle = 32;  // k of the longest bundle
constexpr int64_t kWidth = NBitsPanels::kWidth;

// What is subtracted from stored integers so that they fit: u4 and s4 with zero points become u4,
// the rest s4 or s8.
int StoredOffset(DType dtype, NBitsFormat format) {
  if (format == NBitsFormat::kU4) return dtype == DType::kS4 ? -8 : 0;
  return dtype == DType::kU4 ? 8 : dtype == DType::kU8 ? 128 : 0;
}

// Codes in as few bits as levels need and blocks admit: a bundle lies in one block.
NBitsFormat FormatOfLevels(const QuantParams& quant, int64_t k) {
  if (quant.vector > 1) return NBitsFormat::kVectors;
  const auto fits = [&](int64_t bundle) { return quant.block == 0 || quant.block >= k || quant.block % bundle == 0; };
  if (quant.levels.size() <= 2 && fits(32)) return NBitsFormat::kLevels1;
  return quant.levels.size() <= 4 && fits(16) ? NBitsFormat::kLevels2 : NBitsFormat::kLevels4;
}

NBitsFormat FormatOf(const TensorSpec& weights, int64_t k) {
  if (BitsOf(weights.dtype) == 8) return NBitsFormat::kS8;
  if (!weights.quant->levels.empty()) return FormatOfLevels(*weights.quant, k);
  const int centre = weights.dtype == DType::kU4 ? 8 : 0;
  const QuantParams& quant = *weights.quant;
  for (size_t i = 0; i < quant.scale.size(); ++i) {
    if (quant.zero_point_at(i) != centre) return NBitsFormat::kU4;
  }
  return NBitsFormat::kS4;
}

// The largest divisor of a block that is a multiple of a bundle and at most kMaxGroup.
int64_t GroupOf(const QuantParams& quant, const NBitsPanels& panels) {
  constexpr int64_t kMax = MatmulNBitsParams::kMaxGroup;
  if (quant.per_tensor() || quant.block == 0 || quant.block >= panels.k) {
    return std::min(panels.depth, MatmulNBitsParams::kColumnGroup);
  }
  for (int64_t parts = (quant.block + kMax - 1) / kMax;; ++parts) {
    if (quant.block % (parts * panels.bundle()) == 0) return quant.block / parts;
  }
}

// The power of two that brings the largest scale to [2^14, 2^15), f16's upper end. Scales may be 0
// or negative.
int ScaleExponent(const std::vector<float>& scales) {
  float largest = 0;
  for (const float scale : scales) largest = std::max(largest, std::fabs(scale));
  int exponent = 0;
  std::frexp(largest, &exponent);
  return 15 - exponent;
}

bool AllExactInF16(const std::vector<float>& scales, int exponent) {
  return std::all_of(scales.begin(), scales.end(), [&](float scale) {
    const float scaled = std::ldexp(scale, exponent);
    return F32FromF16(F16FromF32(scaled)) == scaled;
  });
}

// Reads stored weights as integers in [-8, 7], [0, 15] or [-128, 127], or their codes.
class Reader {
 public:
  Reader(const TensorSpec& weights, Transpose transpose, const NBitsPanels& panels,
         const void* data)
      : dtype_(weights.dtype),
        data_(static_cast<const uint8_t*>(data)),
        k_stride_(transpose == Transpose::kYes ? 1 : panels.n),
        n_stride_(transpose == Transpose::kYes ? panels.k : 1),
        depth_(panels.k),
        vector_(weights.quant->vector),
        offset_(weights.quant->levels.empty() ? StoredOffset(weights.dtype, panels.format) : 0) {}

  int At(int64_t k, int64_t n) const {
    if (vector_ > 1) return data_[(n * depth_ + k) / vector_];
    const int64_t i = k * k_stride_ + n * n_stride_;
    switch (dtype_) {
      case DType::kS8:
        return static_cast<int8_t>(data_[i]) - offset_;
      case DType::kU8:
        return data_[i] - offset_;
      default:
        return static_cast<int>(LoadInteger(dtype_, data_, i)) - offset_;
    }
  }

 private:
  DType dtype_;
  const uint8_t* data_;
  int64_t k_stride_, n_stride_, depth_, vector_;
  int offset_;
};

class Packer {
 public:
  Packer(const TensorSpec& weights, Transpose transpose, const NBitsPanels& panels,
         const void* data, std::byte* out)
      : quant_(*weights.quant),
        dtype_(weights.dtype),
        panels_(panels),
        reader_(weights, transpose, panels, data),
        out_(reinterpret_cast<uint8_t*>(out)),
        sums_(static_cast<size_t>(panels.padded_n()), 0.0),
        unfactor_(1 / panels.factor) {
    const bool blocked = quant_.block > 0 && quant_.block < panels.k;
    const int64_t blocks = blocked ? (panels.k + quant_.block - 1) / quant_.block : 1;
    records_per_block_ = blocked ? quant_.block / panels.group : panels.groups();
    if (quant_.per_tensor()) return;
    const bool transposed = transpose == Transpose::kYes;
    n_step_ = transposed && quant_.block > 0 ? blocks : 1;
    block_step_ = quant_.block == 0 ? 0 : transposed ? 1 : panels.n;
  }

  void Run() {
    for (int64_t p = 0; p < panels_.panels(); ++p) {
      uint8_t* to = out_ + panels_.panel_offset(p);
      for (int64_t g = 0; g < panels_.groups(); ++g) {
        PackRecord(p * kWidth, panels_.width(p), g, to);
        to += panels_.record_bytes(panels_.width(p), panels_.group_depth(g));
      }
    }
    const float real =
        panels_.format == NBitsFormat::kS4 ? 16 : 1;  // units of the unpacked weights
    for (size_t n = 0; n < sums_.size(); ++n) {
      const auto sum = static_cast<float>(sums_[n] * real);
      std::memcpy(out_ + panels_.sums_offset() + n * sizeof(float), &sum, sizeof(sum));
    }
  }

 private:
  size_t QuantIndex(int64_t g, int64_t n) const {
    return static_cast<size_t>(g / records_per_block_ * block_step_ + n * n_step_);
  }

  void PackRecord(int64_t first, int64_t width, int64_t g, uint8_t* to) {
    const int64_t k0 = g * panels_.group, depth = panels_.group_depth(g);
    const int64_t columns = std::min(width, panels_.n - first);
    uint8_t zeros[kWidth] = {};
    int sums[kWidth] = {};
    for (int64_t c = 0; c < columns && panels_.format == NBitsFormat::kU4; ++c) {
      const int z = quant_.zero_point_at(QuantIndex(g, first + c));
      zeros[c] = static_cast<uint8_t>(dtype_ == DType::kS4 ? z + 8 : z);
    }
    const int64_t bundle = panels_.bundle();
    for (int64_t first_k = 0; first_k < depth; first_k += bundle) {
      int8_t values[kMostBundle][kWidth];
      for (int64_t i = 0; i < bundle; ++i) {
        const int64_t k = k0 + first_k + i;
        for (int64_t c = 0; c < width; ++c) {
          const bool inside = k < panels_.k && c < columns;
          const int w = inside ? reader_.At(k, first + c) : zeros[c];
          values[i][c] = static_cast<int8_t>(w);
          if (inside) sums[c] += LevelOf(w, k) - zeros[c];
        }
      }
      StoreBundle(values, width, to + panels_.weight_bytes(width, first_k));
    }
    to += panels_.weight_bytes(width, depth);
    for (int64_t c = 0; c < columns; ++c) {
      const float scale = quant_.scale[QuantIndex(g, first + c)] * unfactor_;
      sums_[static_cast<size_t>(first + c)] += static_cast<double>(scale) * sums[c];
      StoreScale(scale, c, to);
    }
    if (panels_.format == NBitsFormat::kU4) {
      std::memcpy(to + panels_.scale_bytes(width), zeros, static_cast<size_t>(width));
    }
  }

  // What a weight as read stands for.
  int LevelOf(int w, int64_t k) const {
    if (quant_.levels.empty()) return w;
    return quant_.levels[static_cast<size_t>(w * quant_.vector + k % quant_.vector)];
  }

  void StoreBundle(const int8_t (&values)[kMostBundle][kWidth], int64_t width, uint8_t* to) const {
    const int64_t quads = panels_.bundle() / 4;
    for (int64_t c = 0; c < width; ++c) {
      for (int64_t i = 0; i < 4; ++i) {
        if (panels_.format == NBitsFormat::kVectors) {
          to[c * 4 + i] = static_cast<uint8_t>(values[4 * i][c]);
        } else if (panels_.format == NBitsFormat::kS8) {
          for (int64_t q = 0; q < quads; ++q) to[(q * width + c) * 4 + i] = static_cast<uint8_t>(values[4 * q + i][c]);
        } else {
          const auto bits = static_cast<int>(8 / quads);
          int byte = 0;
          for (int q = 0; q < quads; ++q) byte |= (values[4 * q + i][c] & ((1 << bits) - 1)) << (q * bits);
          to[c * 4 + i] = static_cast<uint8_t>(byte);
        }
      }
    }
  }

  void StoreScale(float scale, int64_t c, uint8_t* to) const {
    if (panels_.scales == ScaleFormat::kF16) {
      const uint16_t bits = F16FromF32(scale);
      std::memcpy(to + 2 * c, &bits, sizeof(bits));
    } else {
      std::memcpy(to + 4 * c, &scale, sizeof(scale));
    }
  }

  const QuantParams& quant_;
  DType dtype_;
  const NBitsPanels& panels_;
  Reader reader_;
  uint8_t* out_;
  std::vector<double> sums_;
  float unfactor_;
  int64_t records_per_block_ = 1, n_step_ = 0, block_step_ = 0;
};

}  // namespace

const char* NameOf(NBitsFormat format) {
  switch (format) {
    case NBitsFormat::kS4:
      return "s4";
    case NBitsFormat::kU4:
      return "u4";
    case NBitsFormat::kS8:
      return "s8";
    case NBitsFormat::kLevels4:
      return "levels4";
    case NBitsFormat::kLevels2:
      return "levels2";
    case NBitsFormat::kLevels1:
      return "levels1";
    case NBitsFormat::kVectors:
      return "vectors";
  }
  return "";
}

NBitsPanels PlanPanels(const TensorSpec& weights, Transpose transpose) {
  NBitsPanels panels;
  panels.k = weights.shape[transpose == Transpose::kYes ? 1 : 0];
  panels.n = weights.shape[transpose == Transpose::kYes ? 0 : 1];
  panels.format = FormatOf(weights, panels.k);
  panels.depth = (panels.k + panels.bundle() - 1) / panels.bundle() * panels.bundle();
  panels.group = GroupOf(*weights.quant, panels);
  const int exponent = ScaleExponent(weights.quant->scale);
  if (std::abs(exponent) < 100 && AllExactInF16(weights.quant->scale, exponent)) {
    panels.scales = ScaleFormat::kF16;
    panels.factor = std::ldexp(1.0f, -exponent);
  }
  const std::vector<int8_t>& levels = weights.quant->levels;
  if (panels.format == NBitsFormat::kVectors) {
    panels.vectors.assign(1024, 0);
    for (size_t i = 0; i < levels.size(); ++i) panels.vectors[i % 4 * 256 + i / 4] = levels[i];
  } else {
    std::copy(levels.begin(), levels.end(), panels.levels.begin());
  }
  return panels;
}

absl::StatusOr<PackedWeights> PackPanels(const TensorSpec& weights, Transpose transpose,
                                         const void* data) {
  const NBitsPanels panels = PlanPanels(weights, transpose);
  PackedWeights packed;
  OCTET_ASSIGN_OR_RETURN(packed.data, Buffer::Allocate(panels.size_bytes()));
  Packer(weights, transpose, panels, data, packed.data.data()).Run();
  packed.layout = absl::StrCat("panels64:", NameOf(panels.format), panels.scales == ScaleFormat::kF16 ? ":f16" : ":f32");
  packed.detail = panels;
  return packed;
}

}  // namespace octet::kernels
