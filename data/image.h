// Images on their way to a tensor: decoding, resizing, cropping, normalisation.
#ifndef OCTET_DATA_IMAGE_H_
#define OCTET_DATA_IMAGE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/tensor.h"
#include "data/sample_reader.h"

namespace octet::data {

inline constexpr int64_t kMaxImagePixels =
    100'000'000;  // beyond it an image is taken for a decompression bomb

// Rows of pixels, channels interleaved: [height, width, channels] u8. channels is 1 (gray) or 3
// (RGB).
struct Image {
  int64_t width = 0, height = 0, channels = 0;
  std::vector<uint8_t> pixels;
};

// True for the bytes that start a JPEG or PNG file.
bool HasImageMagic(absl::Span<const std::byte> head);

// Decodes JPEG or PNG, told apart by their first bytes. Alpha is dropped, CMYK becomes RGB, 16 bits
// become 8, EXIF rotation is ignored: as Pillow's convert("RGB") does. Never exits or aborts,
// whatever the bytes are. Errors: kInvalidArgument (neither format, above kMaxImagePixels),
// kDataLoss (corrupt or cut off).
absl::StatusOr<Image> DecodeImage(absl::Span<const std::byte> bytes);

// Bilinear, antialiased: each result pixel is a triangle-weighted mean of the source pixels under
// it; shrinking widens the triangle by the ratio. Horizontal pass, then vertical, each rounded to
// u8 in 22-bit fixed point: bit-exact with Pillow's Image.resize(size, BILINEAR), which the
// preprocessing of published models assumes. Requires: width, height > 0, image not empty.
Image ResizeBilinear(const Image& image, int64_t width, int64_t height);

// Gray from RGB with Pillow's weights (ITU-R 601-2), RGB from gray by repetition.
Image ToChannels(Image image, int64_t channels);

// Resize, crop, channel order, x = (pixel * scale - mean[c]) / std[c]; c counts the result's
// channels. The short side keeps the ratio, the long side is rounded down, a crop's offset half to
// even: as torchvision. Errors: kInvalidArgument when the crop is larger than the image.
absl::StatusOr<Tensor> ImageToTensor(Image image, const ImageOptions& options);

}  // namespace octet::data

#endif  // OCTET_DATA_IMAGE_H_
