// Samples from .npy and .npz arrays and from IDX images, read one at a time by position.
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "data/idx.h"
#include "data/image.h"
#include "data/npy.h"
#include "data/readers.h"

namespace octet::data {
namespace {

std::string SampleName(const std::string& path, int64_t i) {
  return absl::StrCat(path, "[", i, "]");
}

absl::Status CheckIndex(const std::string& path, int64_t i, int64_t size) {
  if (i >= 0 && i < size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(SampleName(path, i), ": the set has ", size, " samples"));
}

struct Column {
  std::unique_ptr<ByteSource> source;
  NpyHeader header;
  Shape sample_shape;
};

class ArrayReader final : public SampleReader {
 public:
  ArrayReader(std::string path, std::vector<Column> columns)
      : path_(std::move(path)), columns_(std::move(columns)) {}

  int64_t size() const override { return columns_.front().header.shape[0]; }

  absl::StatusOr<Sample> Read(int64_t i) override {
    OCTET_RETURN_IF_ERROR(CheckIndex(path_, i, size()));
    Sample sample{SampleName(path_, i), {}};
    for (Column& column : columns_) {
      auto tensor = ReadNpyElements(*column.source, column.header,
                                    i * NumElements(column.sample_shape), column.sample_shape);
      if (!tensor.ok()) return Annotate(tensor.status(), sample.name);
      sample.inputs.push_back(AsModelInput(*std::move(tensor)));
    }
    return sample;
  }

 private:
  const std::string path_;
  std::vector<Column> columns_;
};

absl::StatusOr<Column> OpenColumn(ArrayInput array) {
  OCTET_ASSIGN_OR_RETURN(NpyHeader header, ReadNpyHeader(*array.source));
  if (header.shape.empty()) {
    return absl::InvalidArgumentError("a scalar; axis 0 must count samples");
  }
  if (header.shape[0] == 0) return absl::InvalidArgumentError("no samples: axis 0 is 0");
  Column column{std::move(array.source), header,
                Shape(header.shape.begin() + 1, header.shape.end())};
  if (ByteSize(header.dtype, column.sample_shape) > kMaxSampleBytes) {
    return absl::InvalidArgumentError(absl::StrCat("one sample ", ShapeString(column.sample_shape),
                                                   " is larger than ", kMaxSampleBytes, " bytes"));
  }
  return column;
}

class IdxReader final : public SampleReader {
 public:
  IdxReader(std::string path, std::unique_ptr<ByteSource> source, IdxHeader header,
            const ImageOptions& options)
      : path_(std::move(path)),
        source_(std::move(source)),
        header_(std::move(header)),
        options_(options) {
    options_.channels = ImageOptions::Channels::kGray;
  }

  int64_t size() const override { return header_.shape[0]; }

  absl::StatusOr<Sample> Read(int64_t i) override {
    OCTET_RETURN_IF_ERROR(CheckIndex(path_, i, size()));
    Image image{header_.shape[2], header_.shape[1], 1, {}};
    image.pixels.resize(static_cast<size_t>(image.width * image.height));
    const std::string name = SampleName(path_, i);
    const absl::Status read = source_->ReadAt(
        header_.data_offset + i * image.width * image.height,
        absl::MakeSpan(reinterpret_cast<std::byte*>(image.pixels.data()), image.pixels.size()));
    if (!read.ok()) return Annotate(read, name);
    auto tensor = ImageToTensor(std::move(image), options_);
    if (!tensor.ok()) return Annotate(tensor.status(), name);
    return Sample{name, {*std::move(tensor)}};
  }

 private:
  const std::string path_;
  std::unique_ptr<ByteSource> source_;
  const IdxHeader header_;
  ImageOptions options_;
};

}  // namespace

Tensor AsModelInput(Tensor tensor) {
  if (!IsFloat(tensor.dtype()) || tensor.dtype() == DType::kF32) return tensor;
  return Tensor::FromF32(tensor.shape(), tensor.ToF32());
}

absl::StatusOr<std::unique_ptr<SampleReader>> OpenArrays(const std::string& path,
                                                         std::vector<ArrayInput> arrays) {
  std::vector<Column> columns;
  std::string first_name;
  for (ArrayInput& array : arrays) {
    const std::string name =
        array.name.empty() ? path : absl::StrCat(path, ": array '", array.name, "'");
    auto column = OpenColumn(std::move(array));
    if (!column.ok()) return Annotate(column.status(), name);
    if (!columns.empty() && columns.front().header.shape[0] != column->header.shape[0]) {
      return absl::InvalidArgumentError(absl::StrCat(name, " has ", column->header.shape[0],
                                                     " samples, ", first_name, " has ",
                                                     columns.front().header.shape[0]));
    }
    if (columns.empty()) first_name = name;
    columns.push_back(*std::move(column));
  }
  return std::make_unique<ArrayReader>(path, std::move(columns));
}

absl::StatusOr<std::unique_ptr<SampleReader>> OpenIdxImages(const std::string& path,
                                                            std::unique_ptr<ByteSource> source,
                                                            const ImageOptions& options) {
  auto header = ReadIdxHeader(*source);
  if (!header.ok()) return Annotate(header.status(), path);
  if (header->shape.size() != 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": images are IDX of shape [N, H, W], this is ", ShapeString(header->shape)));
  }
  if (NumElements(header->shape) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": no samples in shape ", ShapeString(header->shape)));
  }
  if (header->shape[1] > kMaxImagePixels / header->shape[2]) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": images of ", header->shape[2], "x",
                                                   header->shape[1], " pixels, the limit is ",
                                                   kMaxImagePixels));
  }
  return std::make_unique<IdxReader>(path, std::move(source), *std::move(header), options);
}

}  // namespace octet::data
