// Reading and varying samples.
#include "bench/quality/samples.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/rng.h"
#include "base/status.h"
#include "onnx/onnx_pb.h"

namespace octet::bench {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<Tensor> ReadPhoto(const std::string& path, const PhotoOptions& options) {
  OCTET_ASSIGN_OR_RETURN(const auto bytes, ReadFile(path));
  absl::StatusOr<data::Image> image =
      data::DecodeImage({bytes->data(), static_cast<size_t>(bytes->size_bytes())});
  if (!image.ok()) return Annotate(image.status(), path);
  if (options.letterbox_side > 0) {
    const int64_t side = options.letterbox_side;
    data::Image whole = data::ToChannels(*std::move(image), 3);
    const double ratio = static_cast<double>(side) / static_cast<double>(std::max(whole.width, whole.height));
    const auto scaled = [&](int64_t n) { return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(n) * ratio)); };
    const data::Image part = data::ResizeBilinear(whole, scaled(whole.width), scaled(whole.height));
    data::Image box{side, side, 3, std::vector<uint8_t>(static_cast<size_t>(side * side * 3), 114)};
    for (int64_t y = 0; y < part.height; ++y) {
      std::copy_n(part.pixels.begin() + y * part.width * 3, part.width * 3, box.pixels.begin() + y * side * 3);
    }
    image = std::move(box);
  }
  absl::StatusOr<Tensor> tensor = data::ImageToTensor(*std::move(image), options.image);
  return tensor.ok() ? std::move(tensor) : Annotate(tensor.status(), path);
}

std::vector<std::string> SortedNames(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

double Normal(const CounterRng& rng, uint64_t i) {
  return std::sqrt(-2 * std::log(1 - rng.Uniform(2 * i))) * std::cos(2 * std::numbers::pi * rng.Uniform(2 * i + 1));
}

}  // namespace

absl::StatusOr<Labelled> ReadIdx(const std::string& images_path, const std::string& labels_path, int64_t count) {
  OCTET_ASSIGN_OR_RETURN(const auto reader, data::OpenSamples(images_path, data::ImageOptions{}, {"image"}));
  Labelled set;
  const int64_t n = count > 0 ? std::min(count, reader->size()) : reader->size();
  for (int64_t i = 0; i < n; ++i) {
    OCTET_ASSIGN_OR_RETURN(data::Sample sample, reader->Read(i));
    set.samples.push_back(std::move(sample.inputs[0]));
  }
  if (labels_path.empty()) return set;
  OCTET_ASSIGN_OR_RETURN(set.labels, data::ReadLabels(labels_path));
  if (static_cast<int64_t>(set.labels.size()) < n) {
    return absl::InvalidArgumentError(absl::StrCat(labels_path, " has ", set.labels.size(), " labels for ", n, " images"));
  }
  set.labels.resize(static_cast<size_t>(n));
  return set;
}

absl::StatusOr<std::pair<Labelled, Labelled>> ReadClassFolders(const std::string& folder, int64_t per_class,
                                                               const data::ImageOptions& options) {
  std::pair<Labelled, Labelled> sets;
  const std::vector<std::string> classes = SortedNames(folder);
  if (classes.empty()) return absl::NotFoundError(absl::StrCat(folder, " is absent or empty"));
  for (size_t label = 0; label < classes.size(); ++label) {
    const std::string path = absl::StrCat(folder, "/", classes[label]);
    int64_t i = 0;
    for (const std::string& name : SortedNames(path)) {
      OCTET_ASSIGN_OR_RETURN(Tensor sample, ReadPhoto(absl::StrCat(path, "/", name), {options, 0}));
      Labelled& set = i++ < per_class ? sets.first : sets.second;
      set.samples.push_back(std::move(sample));
      set.labels.push_back(static_cast<int64_t>(label));
    }
  }
  return sets;
}

absl::StatusOr<std::pair<Labelled, Labelled>> ReadPhotos(const std::string& folder, const PhotoOptions& options) {
  const std::string list = folder + "/labels.csv";
  std::ifstream in(list);
  if (!in) return absl::NotFoundError(absl::StrCat(list, " is absent"));
  std::pair<Labelled, Labelled> sets;
  std::string line;
  std::getline(in, line);  // names of the columns
  while (std::getline(in, line)) {
    const std::vector<std::string> words = absl::StrSplit(absl::StripAsciiWhitespace(line), ',');
    int64_t label = 0;
    if (words.size() < 3 || !absl::SimpleAtoi(words[1], &label)) {
      return absl::InvalidArgumentError(absl::StrCat(list, ": line '", line, "', expected file,class index,...,split"));
    }
    OCTET_ASSIGN_OR_RETURN(Tensor sample, ReadPhoto(absl::StrCat(folder, "/", words[0]), options));
    Labelled& set = words.back() == "calibration" ? sets.first : sets.second;
    set.samples.push_back(std::move(sample));
    set.labels.push_back(label);
  }
  return sets;
}

absl::StatusOr<Tensor> ReadStoredSample(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat(path, " is absent"));
  ::onnx::TensorProto proto;
  if (!proto.ParseFromIstream(&in) || proto.dims_size() < 2 || proto.dims(0) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a tensor with a batch axis of 1"));
  }
  const Shape shape(proto.dims().begin() + 1, proto.dims().end());
  if (static_cast<int64_t>(proto.raw_data().size()) == ByteSize(DType::kF32, shape)) {
    return Tensor::FromValues<char>(DType::kF32, shape, proto.raw_data());
  }
  if (proto.float_data_size() == NumElements(shape)) {
    return Tensor::FromF32(shape, {proto.float_data().data(), static_cast<size_t>(proto.float_data_size())});
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": not f32"));
}

std::vector<Tensor> VarySpeech(const Tensor& speech, int64_t count, uint64_t seed) {
  const std::vector<float> whole = speech.ToF32();
  const size_t n = whole.size();
  std::vector<Tensor> out;
  for (int64_t v = 0; v < count; ++v) {
    const CounterRng rng(seed, static_cast<uint64_t>(v)), noise(seed + 1, static_cast<uint64_t>(v));
    const auto first = static_cast<size_t>(rng.Uniform(0) * static_cast<double>(n));
    const auto second = static_cast<size_t>(rng.Uniform(1) * static_cast<double>(n));
    const double gain = 0.25 + 1.5 * rng.Uniform(2);
    const double mix = v % 2 == 1 ? 0.6 * rng.Uniform(3) : 0;
    const double deviation = v % 3 == 2 ? 0.02 * rng.Uniform(4) : 0;
    std::vector<float> x(n);
    for (size_t i = 0; i < n; ++i) {
      const double clean = gain * (whole[(i + first) % n] + mix * whole[(i + second) % n]);
      x[i] = static_cast<float>(std::clamp(clean + (deviation > 0 ? deviation * Normal(noise, i) : 0), -1.0, 1.0));
    }
    out.push_back(Tensor::FromF32(speech.shape(), x));
  }
  return out;
}

std::vector<Tensor> VaryImage(const Tensor& image, int64_t count, uint64_t seed) {
  const std::vector<float> whole = image.ToF32();
  const int64_t channels = image.shape()[0], height = image.shape()[1], width = image.shape()[2];
  std::vector<Tensor> out;
  for (int64_t v = 0; v < count; ++v) {
    const CounterRng rng(seed, static_cast<uint64_t>(v));
    const auto down = static_cast<int64_t>(rng.Uniform(0) * static_cast<double>(height));
    const auto right = static_cast<int64_t>(rng.Uniform(1) * static_cast<double>(width));
    const auto contrast = static_cast<float>(0.6 + 0.5 * rng.Uniform(2));
    std::vector<float> x;
    x.reserve(whole.size());
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t y = 0; y < height; ++y) {
        const int64_t row = (c * height + (y + down) % height) * width;
        for (int64_t col = 0; col < width; ++col) x.push_back(contrast * whole[row + (col + right) % width]);
      }
    }
    out.push_back(Tensor::FromF32(image.shape(), x));
  }
  return out;
}

std::vector<Tensor> UniformNoise(const Shape& shape, int64_t count, uint64_t seed) {
  std::vector<Tensor> out;
  for (int64_t v = 0; v < count; ++v) {
    const CounterRng rng(seed, static_cast<uint64_t>(v));
    std::vector<float> x(static_cast<size_t>(NumElements(shape)));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.Uniform(i));
    out.push_back(Tensor::FromF32(shape, x));
  }
  return out;
}

}  // namespace octet::bench
