// `octet compress`: a float ONNX file and samples in, a quantized ONNX file and a report out.
#include <cmath>
#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/cpu.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/compress_file.h"
#include "cli/console.h"

ABSL_FLAG(std::string, calibration, "", "compress: samples (.npy, .npz, IDX, folder of images or .npy)");
ABSL_FLAG(std::string, out, "", "compress: the file to write");
ABSL_FLAG(std::string, scheme, "int8", "compress: how; int8");
ABSL_FLAG(std::string, ranges, "mse", "compress: ranges of activations: minmax, percentile or mse");
ABSL_FLAG(double, percentile, 0.99999, "compress: share of values kept by --ranges=percentile");
ABSL_FLAG(std::string, weight_range, "mse", "compress: scale of each output channel: max or mse");
ABSL_FLAG(bool, bias_correction, true, "compress: correct the mean shift of rounded weights");
ABSL_FLAG(std::string, keep_float, "", "compress: comma-separated names of nodes that stay f32");
ABSL_FLAG(double, held_back, 0.2, "compress: share of the samples used for comparison only");
ABSL_FLAG(int64_t, max_samples, 0, "compress: use at most this many samples (0: all)");
ABSL_FLAG(std::string, image, "",
          "preprocessing of images: size=224,short=256,channels=bgr,scale=1,mean=104:117:123,std=1:1:1,order=nhwc");
ABSL_FLAG(int, threads, 0, "threads of one inference (0: the CPU budget)");

namespace octet::cli {
namespace {

void PrintReport(const CompressedFile& file) {
  const compress::CompressReport& r = file.report;
  std::vector<std::vector<std::string>> layers;
  for (const compress::LayerReport& l : r.layers) {
    layers.push_back({l.node, l.op, absl::StrCat(l.weights_elements), Fixed(l.sqnr_db, 1)});
  }
  std::printf("%s\n", Table({"layer (worst first)", "op", "weights", "SQNR dB"}, layers).c_str());
  std::vector<std::vector<std::string>> outputs;
  for (const compress::OutputReport& o : r.outputs) {
    outputs.push_back({o.name, Fixed(100 * o.top1_agreement, 2), Fixed(o.sqnr_db, 1), Fixed(o.cosine, 5)});
  }
  std::printf("%s\n", Table({"output", "top-1 agreement %", "SQNR dB", "cosine"}, outputs).c_str());
  auto ratio = [](int64_t a, int64_t b) {
    return Fixed(b == 0 ? NAN : static_cast<double>(a) / static_cast<double>(b), 3);
  };
  std::printf("%s", Table({"", "float", "compressed", "ratio"},
                          {{"file", Bytes(file.float_bytes), Bytes(file.bytes), ratio(file.bytes, file.float_bytes)},
                           {"weights", Bytes(r.float_weights_bytes), Bytes(r.weights_bytes),
                            ratio(r.weights_bytes, r.float_weights_bytes)}})
                        .c_str());
  std::printf("\ncalibrated on %d samples, compared with float on %d held back\n",
              static_cast<int>(r.calibration_samples), static_cast<int>(r.held_back_samples));
}

}  // namespace

absl::Status Compress(const Words& words) {
  if (words.size() != 1) return absl::InvalidArgumentError("expected one model file");
  const std::string calibration = absl::GetFlag(FLAGS_calibration), out = absl::GetFlag(FLAGS_out);
  if (calibration.empty()) return absl::InvalidArgumentError("--calibration is missing");
  if (out.empty()) return absl::InvalidArgumentError("--out is missing");
  compress::CompressOptions options;
  options.scheme = absl::GetFlag(FLAGS_scheme);
  OCTET_ASSIGN_OR_RETURN(options.ranges, compress::ParseRangeMethod(absl::GetFlag(FLAGS_ranges)));
  options.percentile = absl::GetFlag(FLAGS_percentile);
  const std::string weight_range = absl::GetFlag(FLAGS_weight_range);
  if (weight_range != "max" && weight_range != "mse") {
    return absl::InvalidArgumentError(absl::StrCat("--weight-range ", weight_range, ", expected max or mse"));
  }
  options.weight_range = weight_range == "max" ? compress::WeightRange::kMaximum : compress::WeightRange::kMse;
  options.bias_correction = absl::GetFlag(FLAGS_bias_correction)
                                ? compress::CompressOptions::BiasCorrection::kOn
                                : compress::CompressOptions::BiasCorrection::kOff;
  options.keep_float = absl::StrSplit(absl::GetFlag(FLAGS_keep_float), ',', absl::SkipEmpty());
  options.held_back = absl::GetFlag(FLAGS_held_back);
  options.max_samples = absl::GetFlag(FLAGS_max_samples);
  options.threads = absl::GetFlag(FLAGS_threads) > 0 ? absl::GetFlag(FLAGS_threads) : DetectCpuBudget().threads;
  ProgressBar bar;
  options.progress = [&bar](const compress::Progress& p) { bar.Show(p); };
  OCTET_ASSIGN_OR_RETURN(const data::ImageOptions image, data::ImageOptions::Parse(absl::GetFlag(FLAGS_image)));
  OCTET_ASSIGN_OR_RETURN(const CompressedFile file, CompressFile(words[0], calibration, image, out, options));
  PrintReport(file);
  return absl::OkStatus();
}

}  // namespace octet::cli
