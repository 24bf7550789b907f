// Folders of images and of .npy files, single images.
#include "data/sample_reader.h"
#include "data/test_files.h"
#include "data/test_images.h"

namespace octet::data {
namespace {

using ::testing::ElementsAre;

const auto kInvalid = absl::StatusCode::kInvalidArgument;

class FolderTest : public DataTest {};

TEST_F(FolderTest, ReadsImagesRecursivelySortedByPath) {
  const auto png = [](uint8_t v) { return EncodePng(Image{2, 2, 1, std::vector<uint8_t>(4, v)}); };
  Write("b.PNG", png(20));
  Write("a/z.png", png(10));
  Write("labels.csv", "ignored");
  std::filesystem::create_symlink(dir_ + "/gone.png", dir_ + "/dangling.png");
  auto reader = OpenSamples(dir_, *ImageOptions::Parse("scale=1"), {"x"});
  ASSERT_TRUE(reader.ok()) << reader.status();
  ASSERT_EQ((*reader)->size(), 2);
  auto first = (*reader)->Read(0);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->name, dir_ + "/a/z.png");
  EXPECT_THAT(first->inputs[0].shape(), ElementsAre(3, 2, 2));
  EXPECT_EQ(first->inputs[0].ToF32()[0], 10);
  EXPECT_EQ((*reader)->Read(1)->inputs[0].ToF32()[0], 20);
  EXPECT_FALSE((*reader)->Read(2).ok());
}

TEST_F(FolderTest, NamesTheImageThatCannotBeRead) {
  Write("good.png", EncodePng(Image{2, 2, 1, {1, 2, 3, 4}}));
  Write("bad.jpg", "not a jpeg");
  auto reader = OpenSamples(dir_, {}, {"x"});
  ASSERT_TRUE(reader.ok());
  EXPECT_THAT((*reader)->Read(0).status(), FailsWith(kInvalid, "bad.jpg"));
  EXPECT_TRUE((*reader)->Read(1).ok());
  std::filesystem::remove(dir_ + "/good.png");
  EXPECT_THAT((*reader)->Read(1).status(), FailsWith(absl::StatusCode::kNotFound, "good.png"));
}

TEST_F(FolderTest, ReadsNpyFilesAsOneSampleEach) {
  Write("1.npy", NpyF32({2}, {1, 2}));
  Write("2.npy", NpyF32({2}, {3, 4}));
  Write("3.npy", NpyF32({0}, {}));
  auto reader = OpenSamples(dir_, {}, {"x"});
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->size(), 3);
  EXPECT_THAT((*reader)->Read(1)->inputs[0].ToF32(), ElementsAre(3, 4));
  EXPECT_THAT((*reader)->Read(2).status(), FailsWith(kInvalid, "3.npy"));
}

TEST_F(FolderTest, RefusesEmptyAndMixedFolders) {
  EXPECT_THAT(OpenSamples(dir_, {}, {"x"}).status(), FailsWith(kInvalid, "no samples"));
  Write("1.npy", NpyF32({2}, {1, 2}));
  EXPECT_THAT(OpenSamples(dir_, {}, {"x", "y"}).status(), FailsWith(kInvalid, "2 inputs"));
  Write("1.png", EncodePng(Image{1, 1, 1, {0}}));
  EXPECT_THAT(OpenSamples(dir_, {}, {"x"}).status(), FailsWith(kInvalid, "mixes"));
}

TEST_F(FolderTest, ReadsASingleImage) {
  const std::string path = Write("photo", EncodePng(Image{1, 1, 3, {3, 2, 1}}));
  auto reader = OpenSamples(path, *ImageOptions::Parse("scale=1"), {"x"});
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->size(), 1);
  EXPECT_THAT((*reader)->Read(0)->inputs[0].ToF32(), ElementsAre(3, 2, 1));
}

}  // namespace
}  // namespace octet::data
