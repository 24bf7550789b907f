// Decoding, resizing and normalising images.
#include "data/image.h"

#include <cmath>
#include <string>

#include "data/test_files.h"
#include "data/test_images.h"

namespace octet::data {
namespace {

using ::testing::ElementsAre;

const auto kInvalid = absl::StatusCode::kInvalidArgument;
const auto kLost = absl::StatusCode::kDataLoss;

absl::Span<const std::byte> AsBytes(const std::string& s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

// p[y, x, c] = (37 x + 91 y + 53 c + 7 x y) mod 256
Image Pattern(int64_t height, int64_t width, int64_t channels) {
  Image image{width, height, channels, {}};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < channels; ++c) {
        image.pixels.push_back(static_cast<uint8_t>((x * 37 + y * 91 + c * 53 + x * y * 7) % 256));
      }
    }
  }
  return image;
}

// Expected values: Pillow 13.0, Image.fromarray(pattern).resize((w, h), Image.BILINEAR).
TEST(ResizeBilinear, MatchesPillowWhenShrinking) {
  EXPECT_THAT(ResizeBilinear(Pattern(7, 11, 3), 4, 3).pixels,
              ElementsAre(109, 131, 142, 121, 134, 144, 121, 126, 136, 117, 128, 139, 123, 136, 130,
                          143, 138, 131, 137, 130, 123, 126, 131, 125, 112, 151, 120, 130, 133, 113,
                          140, 140, 120, 130, 132, 101));
  EXPECT_THAT(ResizeBilinear(Pattern(5, 6, 1), 6, 2).pixels,
              ElementsAre(79, 123, 109, 153, 92, 125, 87, 145, 145, 121, 168, 121));
}

TEST(ResizeBilinear, MatchesPillowWhenEnlarging) {
  EXPECT_THAT(ResizeBilinear(Pattern(5, 6, 1), 9, 7).pixels,
              ::testing::ElementsAreArray(
                  {0,   19,  43,  68,  93,  117, 142, 167, 185, 52,  73,  100, 127, 155, 158, 87,
                   90,  111, 117, 140, 158, 141, 159, 159, 67,  68,  91,  182, 208, 199, 62,  54,
                   88,  121, 156, 181, 64,  92,  118, 106, 131, 169, 205, 152, 88,  56,  87,  127,
                   168, 154, 140, 180, 148, 105, 108, 141, 184, 227, 143, 58,  101, 145, 177}));
}

TEST(ResizeBilinear, MatchesPillowOnManyPixels) {
  const Image small = ResizeBilinear(Pattern(300, 401, 3), 37, 29);
  int64_t sum = 0, weighted = 0;
  for (size_t i = 0; i < small.pixels.size(); ++i) {
    sum += small.pixels[i];
    weighted += small.pixels[i] * static_cast<int64_t>(i % 251);
  }
  EXPECT_EQ(sum, 409861);
  EXPECT_EQ(weighted, 50656617);
}

TEST(ToChannels, GrayAsPillow) {
  EXPECT_THAT(ToChannels(Pattern(1, 4, 3), 1).pixels, ElementsAre(43, 80, 117, 154));
  EXPECT_THAT(ToChannels(Pattern(1, 2, 1), 3).pixels, ElementsAre(0, 0, 0, 37, 37, 37));
}

TEST(ImageToTensor, OrdersAndNormalisesChannels) {
  const Image image{2, 1, 3, {10, 20, 30, 40, 50, 60}};
  auto options = ImageOptions::Parse("channels=bgr,scale=1,mean=1:2:3,std=1:2:4");
  ASSERT_TRUE(options.ok());
  auto tensor = ImageToTensor(image, *options);
  ASSERT_TRUE(tensor.ok());
  EXPECT_THAT(tensor->shape(), ElementsAre(3, 1, 2));
  EXPECT_THAT(tensor->ToF32(), ElementsAre(29, 59, 9, 24, 1.75, 9.25));
  options->order = ImageOptions::Order::kNhwc;
  tensor = ImageToTensor(image, *options);
  EXPECT_THAT(tensor->shape(), ElementsAre(1, 2, 3));
  EXPECT_THAT(tensor->ToF32(), ElementsAre(29, 9, 1.75, 59, 24, 9.25));
}

TEST(ImageToTensor, ShortSideThenCentreCropAsTorchvision) {
  const Image image = Pattern(50, 75, 3);  // short side 20: 30 x 20; crop 10 x 6 at left 10, top 7
  auto options = ImageOptions::Parse("short=20,size=10x6,scale=1,order=nhwc");
  ASSERT_TRUE(options.ok()) << options.status();
  auto tensor = ImageToTensor(image, *options);
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_THAT(tensor->shape(), ElementsAre(6, 10, 3));
  const Image resized = ResizeBilinear(image, 30, 20);
  EXPECT_EQ(tensor->ToF32()[0], resized.pixels[(7 * 30 + 10) * 3]);
  EXPECT_EQ(tensor->ToF32().back(), resized.pixels[(12 * 30 + 19) * 3 + 2]);
}

TEST(ImageToTensor, StretchesAndRefusesCropsThatDoNotFit) {
  auto stretch = ImageOptions::Parse("size=8x4,fit=stretch,scale=1,order=nhwc");
  ASSERT_TRUE(stretch.ok());
  auto tensor = ImageToTensor(Pattern(9, 9, 3), *stretch);
  ASSERT_TRUE(tensor.ok());
  const Image expected = ResizeBilinear(Pattern(9, 9, 3), 8, 4);
  EXPECT_EQ(tensor->ToF32(), std::vector<float>(expected.pixels.begin(), expected.pixels.end()));
  EXPECT_THAT(ImageToTensor(Pattern(9, 9, 3), *ImageOptions::Parse("size=10")).status(),
              FailsWith(kInvalid, "9x9"));
  // A strip whose short side is enlarged would need terabytes.
  EXPECT_THAT(ImageToTensor(Pattern(1, 60000, 1), *ImageOptions::Parse("short=16384")).status(),
              FailsWith(kInvalid, "limit"));
}

TEST(ImageOptions, ParsesEveryKey) {
  auto o = ImageOptions::Parse(
      "size=224,short=256,channels=gray,scale=0.5,mean=104:117:123,std=1:2:3,order=nhwc");
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(o->width, 224);
  EXPECT_EQ(o->height, 224);
  EXPECT_EQ(o->resize_short_side, 256);
  EXPECT_EQ(o->channels, ImageOptions::Channels::kGray);
  EXPECT_EQ(o->order, ImageOptions::Order::kNhwc);
  EXPECT_EQ(o->scale, 0.5f);
  EXPECT_THAT(o->mean, ElementsAre(104, 117, 123));
  EXPECT_THAT(o->std, ElementsAre(1, 2, 3));
  EXPECT_EQ(ImageOptions::Parse("")->scale, 1.0f / 255);
}

TEST(ImageOptions, RefusalsNameTheKey) {
  for (const char* text :
       {"size=0", "size=axb", "size=1x2x3", "size=99999", "short=-1", "channels=cmyk", "order=chw",
        "fit=pad", "scale=0", "scale=nan", "mean=1:2", "mean=x", "std=0", "std=1:1:-1",
        "size=1,size=2", "fit=stretch", "colour=1", "size", "mean"}) {
    const absl::Status status = ImageOptions::Parse(text).status();
    const std::string key = std::string(text).substr(0, std::string(text).find('='));
    EXPECT_THAT(status, FailsWith(kInvalid, key)) << text;
  }
}

TEST(DecodeImage, ReadsPngExactly) {
  const Image rgb = Pattern(5, 6, 3), gray = Pattern(5, 6, 1);
  EXPECT_EQ(DecodeImage(AsBytes(EncodePng(rgb)))->pixels, rgb.pixels);
  auto decoded = DecodeImage(AsBytes(EncodePng(gray)));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->channels, 1);
  EXPECT_EQ(decoded->width, 6);
  EXPECT_EQ(decoded->pixels, gray.pixels);
}

TEST(DecodeImage, DropsAlphaWithoutBlending) {
  const Image rgba{1, 2, 4, {200, 100, 50, 0, 10, 20, 30, 128}};
  EXPECT_THAT(DecodeImage(AsBytes(EncodePng(rgba)))->pixels, ElementsAre(200, 100, 50, 10, 20, 30));
}

TEST(DecodeImage, ReadsJpegWithinItsLoss) {
  Image flat{16, 24, 3, {}};
  for (int i = 0; i < 16 * 24; ++i) flat.pixels.insert(flat.pixels.end(), {200, 90, 30});
  auto decoded = DecodeImage(AsBytes(EncodeJpeg(flat)));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->width, 16);
  EXPECT_EQ(decoded->height, 24);
  ASSERT_EQ(decoded->pixels.size(), flat.pixels.size());
  for (size_t i = 0; i < flat.pixels.size(); ++i) {
    ASSERT_LE(std::abs(decoded->pixels[i] - flat.pixels[i]), 3) << i;
  }
  auto gray = DecodeImage(AsBytes(EncodeJpeg(Image{8, 8, 1, std::vector<uint8_t>(64, 77)})));
  ASSERT_TRUE(gray.ok()) << gray.status();
  EXPECT_EQ(gray->channels, 1);
  EXPECT_NEAR(gray->pixels[20], 77, 1);
}

TEST(DecodeImage, SurvivesEveryTruncationAndFlippedByte) {
  for (const std::string& whole : {EncodePng(Pattern(9, 11, 3)), EncodeJpeg(Pattern(24, 24, 3))}) {
    ASSERT_TRUE(DecodeImage(AsBytes(whole)).ok());
    for (size_t n = 0; n < whole.size(); ++n) {
      // The last bytes of either format hold no pixels: PNG's IEND chunk, JPEG's padding and EOI.
      const absl::Status cut = DecodeImage(AsBytes(whole.substr(0, n))).status();
      if (n + 16 < whole.size()) {
        EXPECT_FALSE(cut.ok()) << n;
      }
      for (int mask : {0xff, 0x01, 0x80}) {
        std::string flipped = whole;
        flipped[n] = static_cast<char>(flipped[n] ^ mask);
        DecodeImage(AsBytes(flipped)).IgnoreError();
      }
    }
  }
}

TEST(DecodeImage, RefusesBombsBeforeAllocating) {
  std::string jpeg = EncodeJpeg(Pattern(8, 8, 3));
  const size_t frame = jpeg.find("\xff\xc0");
  ASSERT_NE(frame, std::string::npos);
  for (size_t i : {5, 6, 7, 8}) jpeg[frame + i] = '\xf0';  // 61680 x 61680 pixels
  EXPECT_THAT(DecodeImage(AsBytes(jpeg)).status(), FailsWith(kInvalid, "61680x61680"));
  EXPECT_THAT(DecodeImage(AsBytes(HugePng(100000, 100000))).status(),
              FailsWith(kInvalid, "100000x100000"));
  EXPECT_THAT(DecodeImage(AsBytes(EncodeJpeg(Pattern(8, 8, 3)).substr(0, 100))).status(),
              FailsWith(kLost, "JPEG"));
  EXPECT_THAT(DecodeImage(AsBytes("GIF89a")).status(), FailsWith(kInvalid, "neither"));
}

}  // namespace
}  // namespace octet::data
