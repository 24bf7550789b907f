// JPEG through libjpeg, PNG through libpng's simplified interface; their errors become statuses.
#include <cstddef>  // jpeglib.h names size_t and FILE without including them
#include <cstdio>

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "data/image.h"

namespace octet::data {
namespace {

constexpr unsigned char kPngMagic[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr unsigned char kJpegMagic[] = {0xff, 0xd8, 0xff};
constexpr int kMaxScans =
    500;  // a progressive file of a few bytes a scan would otherwise decode for minutes

bool StartsWith(absl::Span<const std::byte> bytes, absl::Span<const unsigned char> magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

absl::Status CheckSize(int64_t width, int64_t height) {
  if (width > 0 && height > 0 && height <= kMaxImagePixels / width) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("an image of ", width, "x", height, " pixels, the limit is ", kMaxImagePixels));
}

// libjpeg's state with handlers that jump back to us instead of exiting. Only C data: longjmp runs
// no destructor.
struct JpegDecoder {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jpeg_progress_mgr progress;
  jmp_buf back;
  char message[JMSG_LENGTH_MAX];

  static void Fail(j_common_ptr common) {
    auto* self = static_cast<JpegDecoder*>(common->client_data);
    self->errors.format_message(common, self->message);
    longjmp(self->back, 1);
  }

  // Corruption that libjpeg would paint over is only a warning to it; a file that ends early is an
  // error to us.
  static void Note(j_common_ptr common, int level) {
    if (level < 0 && common->err->msg_code == JWRN_JPEG_EOF) Fail(common);
  }

  static void CountScans(j_common_ptr common) {
    auto* self = static_cast<JpegDecoder*>(common->client_data);
    if (!common->is_decompressor || self->info.input_scan_number <= kMaxScans) return;
    std::strncpy(self->message, "more than 500 scans", sizeof(self->message));
    longjmp(self->back, 1);
  }
};

// The three steps below may be left by longjmp: they own nothing.
bool ReadJpegHeader(JpegDecoder* d, absl::Span<const std::byte> bytes) {
  if (setjmp(d->back) != 0) return false;
  jpeg_create_decompress(&d->info);
  d->info.client_data = d;  // cleared by jpeg_create_decompress in some versions
  d->info.progress = &d->progress;
  d->info.mem->max_memory_to_use = 1L << 30;
  jpeg_mem_src(&d->info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&d->info, TRUE);
  return true;
}

bool StartJpeg(JpegDecoder* d) {
  if (setjmp(d->back) != 0) return false;
  switch (d->info.jpeg_color_space) {
    case JCS_GRAYSCALE:
      d->info.out_color_space = JCS_GRAYSCALE;
      break;
    case JCS_CMYK:
    case JCS_YCCK:
      d->info.out_color_space = JCS_CMYK;
      break;
    default:
      d->info.out_color_space = JCS_RGB;
  }
  jpeg_start_decompress(&d->info);
  return true;
}

bool ReadJpegRows(JpegDecoder* d, unsigned char* pixels) {
  if (setjmp(d->back) != 0) return false;
  const size_t row_bytes = size_t{d->info.output_width} * d->info.output_components;
  while (d->info.output_scanline < d->info.output_height) {
    unsigned char* row = pixels + d->info.output_scanline * row_bytes;
    jpeg_read_scanlines(&d->info, &row, 1);
  }
  jpeg_finish_decompress(&d->info);
  return true;
}

// Source: Pillow, src/libImaging/Convert.c, cmyk2rgb. Adobe writes CMYK inverted.
Image CmykToRgb(const Image& cmyk, bool inverted) {
  Image rgb{cmyk.width, cmyk.height, 3, {}};
  rgb.pixels.resize(static_cast<size_t>(cmyk.width * cmyk.height * 3));
  for (int64_t i = 0; i < cmyk.width * cmyk.height; ++i) {
    const uint8_t* in = cmyk.pixels.data() + 4 * i;
    const int light = inverted ? in[3] : 255 - in[3];
    for (int c = 0; c < 3; ++c) {
      const int product = (inverted ? 255 - in[c] : in[c]) * light + 128;
      const int darker = ((product >> 8) + product) >> 8;  // product / 255, rounded
      rgb.pixels[3 * i + c] = static_cast<uint8_t>(std::max(light - darker, 0));
    }
  }
  return rgb;
}

absl::StatusOr<Image> DecodeJpegWith(JpegDecoder* d, absl::Span<const std::byte> bytes) {
  const auto corrupt = [&] {
    return absl::DataLossError(
        absl::StrCat("corrupt JPEG: ", static_cast<const char*>(d->message)));
  };
  if (!ReadJpegHeader(d, bytes)) return corrupt();
  if (absl::Status status = CheckSize(d->info.image_width, d->info.image_height); !status.ok()) {
    return status;
  }
  if (!StartJpeg(d)) return corrupt();
  Image image{d->info.output_width, d->info.output_height, d->info.output_components, {}};
  image.pixels.resize(static_cast<size_t>(image.width * image.height * image.channels));
  if (!ReadJpegRows(d, image.pixels.data())) return corrupt();
  if (image.channels == 4) return CmykToRgb(image, d->info.saw_Adobe_marker != 0);
  return image;
}

absl::StatusOr<Image> DecodeJpeg(absl::Span<const std::byte> bytes) {
  auto decoder = std::make_unique<JpegDecoder>();
  std::memset(static_cast<void*>(decoder.get()), 0, sizeof(JpegDecoder));
  decoder->info.err = jpeg_std_error(&decoder->errors);
  decoder->info.client_data = decoder.get();
  decoder->errors.error_exit = JpegDecoder::Fail;
  decoder->errors.emit_message = JpegDecoder::Note;
  decoder->progress.progress_monitor = JpegDecoder::CountScans;
  absl::StatusOr<Image> image = DecodeJpegWith(decoder.get(), bytes);
  jpeg_destroy_decompress(&decoder->info);
  return image;
}

absl::StatusOr<Image> DecodePng(absl::Span<const std::byte> bytes) {
  png_image png;
  std::memset(&png, 0, sizeof(png));
  png.version = PNG_IMAGE_VERSION;
  const auto corrupt = [&] {
    return absl::DataLossError(
        absl::StrCat("corrupt PNG: ", static_cast<const char*>(png.message)));
  };
  if (png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()) == 0) return corrupt();
  if (absl::Status status = CheckSize(png.width, png.height); !status.ok()) {
    png_image_free(&png);
    return status;
  }
  // Read with alpha, which libpng would otherwise blend in; 16-bit values are as sRGB as 8-bit
  // ones.
  const bool gray = (png.format & PNG_FORMAT_FLAG_COLOR) == 0;
  png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  png.format = gray ? PNG_FORMAT_GA : PNG_FORMAT_RGBA;
  std::vector<uint8_t> pixels(PNG_IMAGE_SIZE(png));
  if (png_image_finish_read(&png, nullptr, pixels.data(), 0, nullptr) == 0) return corrupt();
  Image image{png.width, png.height, gray ? 1 : 3, {}};
  const int64_t count = image.width * image.height, channels = image.channels;
  image.pixels.resize(static_cast<size_t>(count * channels));
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(image.pixels.data() + i * channels, pixels.data() + i * (channels + 1),
                static_cast<size_t>(channels));
  }
  return image;
}

}  // namespace

bool HasImageMagic(absl::Span<const std::byte> head) {
  return StartsWith(head, kPngMagic) || StartsWith(head, kJpegMagic);
}

absl::StatusOr<Image> DecodeImage(absl::Span<const std::byte> bytes) {
  if (StartsWith(bytes, kPngMagic)) return DecodePng(bytes);
  if (StartsWith(bytes, kJpegMagic)) return DecodeJpeg(bytes);
  return absl::InvalidArgumentError("neither a JPEG nor a PNG image");
}

}  // namespace octet::data
