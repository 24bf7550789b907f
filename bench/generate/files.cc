// Where generated files lie and how int8 forms are made.
#include "bench/generate/files.h"

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/rng.h"
#include "base/status.h"
#include "bench/generate/networks.h"
#include "compress/compress.h"
#include "onnx/export.h"
#include "onnx/import.h"

namespace octet::bench {
namespace {

namespace fs = std::filesystem;

constexpr int kFormat = 1;  // raise when generators change: older files are then made again
constexpr int64_t kSamples = 6;

// Variations of one sample, made as they are read.
class VariedSamples final : public data::SampleReader {
 public:
  explicit VariedSamples(std::vector<Tensor> sample) : sample_(std::move(sample)) {}

  int64_t size() const override { return kSamples; }

  absl::StatusOr<data::Sample> Read(int64_t i) override {
    data::Sample out{absl::StrCat("variation ", i), {}};
    for (const Tensor& tensor : sample_) {
      Shape shape = tensor.shape();
      if (!shape.empty()) shape.erase(shape.begin());
      out.inputs.push_back(Vary(tensor, i).Reshaped(shape));
    }
    return out;
  }

 private:
  static Tensor Vary(const Tensor& tensor, int64_t i) {
    if (tensor.dtype() != DType::kF32 || i == 0) return tensor;
    std::vector<float> values = tensor.ToF32();
    float largest = 0;
    for (float v : values) largest = std::max(largest, std::abs(v));
    const CounterRng rng(99, static_cast<uint64_t>(i));
    const auto scale = static_cast<float>(0.7 + 0.4 * rng.Uniform(0));
    for (size_t k = 0; k < values.size(); ++k) {
      values[k] = values[k] * scale + 0.05f * largest * static_cast<float>(2 * rng.Uniform(k + 1) - 1);
    }
    return Tensor::FromF32(tensor.shape(), values);
  }

  std::vector<Tensor> sample_;
};

bool UpToDate(const fs::path& made, const fs::path& from) {
  std::error_code error;
  return fs::exists(made, error) && (from.empty() || fs::last_write_time(made, error) >= fs::last_write_time(from, error));
}

absl::StatusOr<fs::path> PathOf(const std::string& name, const std::string& form) {
  OCTET_ASSIGN_OR_RETURN(const std::string folder, CacheFolder());
  return fs::path(folder) / absl::StrCat(name, ".", form, ".v", kFormat, ".onnx");
}

}  // namespace

absl::StatusOr<std::string> CacheFolder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const fs::path base = cache != nullptr ? fs::path(cache) : fs::path(home != nullptr ? home : "/tmp") / ".cache";
  const fs::path folder = base / "octet" / "bench";
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return absl::InternalError(absl::StrCat("cannot make ", folder.string(), ": ", error.message()));
  return folder.string();
}

absl::StatusOr<std::string> GeneratedFile(const std::string& name, bool fresh) {
  OCTET_ASSIGN_OR_RETURN(const fs::path path, PathOf(name, "f32"));
  if (!fresh && UpToDate(path, {})) return path.string();
  OCTET_ASSIGN_OR_RETURN(const graph::Graph graph, MakeNetwork(name));
  OCTET_ASSIGN_OR_RETURN(const std::string bytes, onnx_io::ExportModel(graph));
  OCTET_RETURN_IF_ERROR(WriteFileAtomically(path.string(), bytes));
  return path.string();
}

absl::StatusOr<std::string> CompressedFile(const std::string& name, const std::string& float_file,
                                           const std::vector<Tensor>& sample, int threads, bool fresh) {
  OCTET_ASSIGN_OR_RETURN(const fs::path path, PathOf(name, "int8"));
  if (!fresh && UpToDate(path, float_file)) return path.string();
  OCTET_ASSIGN_OR_RETURN(const graph::Graph graph, onnx_io::ImportFile(float_file));
  VariedSamples samples(sample);
  compress::CompressOptions options;
  options.threads = threads;
  OCTET_ASSIGN_OR_RETURN(const compress::CompressResult result, compress::Compress(graph, samples, *compress::MakeRecipe("int8-nearest"), options));
  OCTET_ASSIGN_OR_RETURN(const std::string bytes, onnx_io::ExportModel(result.graph));
  OCTET_RETURN_IF_ERROR(WriteFileAtomically(path.string(), bytes));
  return path.string();
}

}  // namespace octet::bench
