// Geometry and normalisation of decoded images.
#include "data/image.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/buffer.h"
#include "base/status.h"

namespace octet::data {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;  // Pillow's: 8 bits of pixel, 2 of headroom

// For each result position: the first source position and the fixed-point weights from there on.
struct Taps {
  int64_t count = 0;  // weights kept per result position; those beyond `length` are unused
  std::vector<int64_t> first, length;
  std::vector<int32_t> weights;
};

// Source: Pillow, src/libImaging/Resample.c, precompute_coeffs and normalize_coeffs_8bpc.
Taps TriangleTaps(int64_t src_size, int64_t dst_size) {
  const double scale = static_cast<double>(src_size) / static_cast<double>(dst_size);
  const double support = std::max(scale, 1.0);
  Taps taps;
  taps.count = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  taps.first.resize(dst_size);
  taps.length.resize(dst_size);
  taps.weights.resize(dst_size * taps.count);
  std::vector<double> w(taps.count);
  for (int64_t i = 0; i < dst_size; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t end = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), src_size);
    double sum = 0;
    for (int64_t x = first; x < end; ++x) {
      const double distance = std::abs((static_cast<double>(x) - center + 0.5) * (1.0 / support));
      w[x - first] = std::max(1.0 - distance, 0.0);
      sum += w[x - first];
    }
    for (int64_t k = 0; k < end - first; ++k) {
      if (sum != 0) w[k] /= sum;
      taps.weights[i * taps.count + k] = static_cast<int32_t>(0.5 + w[k] * (1 << kPrecisionBits));
    }
    taps.first[i] = first;
    taps.length[i] = end - first;
  }
  return taps;
}

uint8_t Rounded(int64_t acc) {
  return static_cast<uint8_t>(std::clamp<int64_t>(acc >> kPrecisionBits, 0, 255));
}

Image ResizeWidth(const Image& src, int64_t width) {
  const Taps taps = TriangleTaps(src.width, width);
  Image dst{width, src.height, src.channels, {}};
  dst.pixels.resize(width * src.height * src.channels);
  uint8_t* out = dst.pixels.data();
  for (int64_t y = 0; y < src.height; ++y) {
    const uint8_t* row = src.pixels.data() + y * src.width * src.channels;
    for (int64_t x = 0; x < width; ++x) {
      const int32_t* w = taps.weights.data() + x * taps.count;
      for (int64_t c = 0; c < src.channels; ++c) {
        int64_t acc = int64_t{1} << (kPrecisionBits - 1);
        const uint8_t* pixel = row + taps.first[x] * src.channels + c;
        for (int64_t k = 0; k < taps.length[x]; ++k) acc += pixel[k * src.channels] * int64_t{w[k]};
        *out++ = Rounded(acc);
      }
    }
  }
  return dst;
}

Image ResizeHeight(const Image& src, int64_t height) {
  const Taps taps = TriangleTaps(src.height, height);
  const int64_t row_bytes = src.width * src.channels;
  Image dst{src.width, height, src.channels, {}};
  dst.pixels.resize(height * row_bytes);
  std::vector<int64_t> acc(row_bytes);
  for (int64_t y = 0; y < height; ++y) {
    std::fill(acc.begin(), acc.end(), int64_t{1} << (kPrecisionBits - 1));
    for (int64_t k = 0; k < taps.length[y]; ++k) {
      const int64_t w = taps.weights[y * taps.count + k];
      const uint8_t* row = src.pixels.data() + (taps.first[y] + k) * row_bytes;
      for (int64_t i = 0; i < row_bytes; ++i) acc[i] += row[i] * w;
    }
    std::transform(acc.begin(), acc.end(), dst.pixels.begin() + y * row_bytes, Rounded);
  }
  return dst;
}

absl::StatusOr<Image> Resized(Image image, int64_t width, int64_t height) {
  if (width > kMaxImagePixels || height > kMaxImagePixels / width) {
    return absl::InvalidArgumentError(absl::StrCat("the resized image would be ", width, "x",
                                                   height, " pixels, the limit is ",
                                                   kMaxImagePixels));
  }
  // The intermediate image has the new width and the old height.
  if (image.height > kMaxImagePixels / width) {
    return absl::InvalidArgumentError(
        absl::StrCat("an image of height ", image.height, " cannot be resized to width ", width));
  }
  return ResizeBilinear(image, width, height);
}

absl::StatusOr<Image> ShortSide(Image image, int64_t size) {
  const int64_t width = image.width <= image.height ? size : size * image.width / image.height;
  const int64_t height = image.width <= image.height ? size * image.height / image.width : size;
  return Resized(std::move(image), width, height);
}

absl::StatusOr<Image> CentreCrop(Image image, int64_t width, int64_t height) {
  if (width > image.width || height > image.height) {
    return absl::InvalidArgumentError(absl::StrCat("the image is ", image.width, "x", image.height,
                                                   " pixels, too small for a crop of ", width, "x",
                                                   height, " (short=N resizes before the crop)"));
  }
  const auto offset = [](int64_t whole, int64_t part) {
    return static_cast<int64_t>(std::nearbyint(static_cast<double>(whole - part) / 2));
  };
  const int64_t left = offset(image.width, width), top = offset(image.height, height);
  Image out{width, height, image.channels, {}};
  out.pixels.resize(width * height * image.channels);
  for (int64_t y = 0; y < height; ++y) {
    std::memcpy(out.pixels.data() + y * width * image.channels,
                image.pixels.data() + ((top + y) * image.width + left) * image.channels,
                static_cast<size_t>(width * image.channels));
  }
  return out;
}

absl::StatusOr<Image> Fitted(Image image, const ImageOptions& options) {
  const int64_t width = options.width > 0 ? options.width : image.width;
  const int64_t height = options.height > 0 ? options.height : image.height;
  if (options.fit == ImageOptions::Fit::kStretch) return Resized(std::move(image), width, height);
  if (options.resize_short_side > 0) {
    OCTET_ASSIGN_OR_RETURN(image, ShortSide(std::move(image), options.resize_short_side));
  }
  return CentreCrop(std::move(image), options.width > 0 ? options.width : image.width,
                    options.height > 0 ? options.height : image.height);
}

}  // namespace

Image ResizeBilinear(const Image& image, int64_t width, int64_t height) {
  if (width == image.width && height == image.height) return image;
  if (width == image.width) return ResizeHeight(image, height);
  const Image wide = ResizeWidth(image, width);
  return height == image.height ? wide : ResizeHeight(wide, height);
}

Image ToChannels(Image image, int64_t channels) {
  if (image.channels == channels) return image;
  Image out{image.width, image.height, channels, {}};
  const int64_t count = image.width * image.height;
  out.pixels.resize(count * channels);
  const uint8_t* src = image.pixels.data();
  for (int64_t i = 0; i < count; ++i) {
    if (channels == 3) {
      std::fill_n(out.pixels.begin() + 3 * i, 3, src[i]);
    } else {
      const uint32_t sum = src[3 * i] * 19595u + src[3 * i + 1] * 38470u + src[3 * i + 2] * 7471u;
      out.pixels[i] = static_cast<uint8_t>((sum + 0x8000u) >> 16);
    }
  }
  return out;
}

absl::StatusOr<Tensor> ImageToTensor(Image image, const ImageOptions& options) {
  const bool gray = options.channels == ImageOptions::Channels::kGray;
  image = ToChannels(std::move(image), gray ? 1 : 3);
  OCTET_ASSIGN_OR_RETURN(image, Fitted(std::move(image), options));
  const int64_t channels = image.channels, pixels = image.width * image.height;
  const bool nchw = options.order == ImageOptions::Order::kNchw;
  Shape shape = nchw ? Shape{channels, image.height, image.width}
                     : Shape{image.height, image.width, channels};
  OCTET_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(ByteSize(DType::kF32, shape)));
  float* out = reinterpret_cast<float*>(buffer.data());
  for (int64_t c = 0; c < channels; ++c) {
    std::array<float, 256> value;
    for (int i = 0; i < 256; ++i) {
      value[i] = (static_cast<float>(i) * options.scale - options.mean[c]) / options.std[c];
    }
    const int64_t from = options.channels == ImageOptions::Channels::kBgr ? 2 - c : c;
    const uint8_t* src = image.pixels.data() + from;
    float* dst = nchw ? out + c * pixels : out + c;
    const int64_t step = nchw ? 1 : channels;
    for (int64_t i = 0; i < pixels; ++i) dst[i * step] = value[src[i * channels]];
  }
  return Tensor::FromBuffer(DType::kF32, std::move(shape), std::move(buffer));
}

}  // namespace octet::data
