// The networks: files, preprocessing (../shared/models/README.md) and metrics of each.
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status.h"
#include "bench/quality/detection.h"
#include "bench/quality/metrics.h"
#include "bench/quality/samples.h"
#include "bench/quality/task.h"
#include "models/embedded.h"

namespace octet::bench {
namespace {

using data::ImageOptions;

constexpr int64_t kFashionCalibration = 1000, kFashionTrained = 55000, kFashionTuning = 1000;
constexpr int64_t kCifarCalibrationPerClass = 10;
constexpr int64_t kForeignSamples = 1000, kWordSamples = 100;
constexpr int64_t kSpeechSamples = 48, kTextSamples = 24;  // variations, for calibration and for evaluation each
constexpr int64_t kYoloxSide = 416, kYoloxClasses = 80;
constexpr float kYoloxScore = 0.3f, kFaceScore = 0.5f, kTextProbability = 0.3f;
constexpr double kSuppressIou = 0.45, kMatchIou = 0.5;

Metric Top1() {
  return {"top-1 %", [](const Task& task, const Predictions&, const Predictions& found) {
            return Top1Percent(found.outputs[0], task.labels);
          }};
}

Metric Agreement() {
  return {"top-1 agreement %", [](const Task&, const Predictions& reference, const Predictions& found) {
            return AgreementPercent(reference.outputs[0], found.outputs[0]);
          }};
}

Metric Sqnr() {
  return {"SQNR dB", [](const Task&, const Predictions& reference, const Predictions& found) {
            return PredictionsSqnrDb(reference, found);
          }};
}

// Sample i's detections.
using Decode = std::function<std::vector<Box>(const Predictions&, int64_t i)>;

Metric DetectionF1(Decode decode) {
  return {"detections F1 %", [decode = std::move(decode)](const Task&, const Predictions& reference,
                                                          const Predictions& found) {
            int64_t matches = 0, wanted = 0, got = 0;
            for (int64_t i = 0; i < reference.samples; ++i) {
              const std::vector<Box> a = SuppressNonMaxima(decode(reference, i), kSuppressIou);
              const std::vector<Box> b = SuppressNonMaxima(decode(found, i), kSuppressIou);
              matches += CountMatches(a, b, kMatchIou);
              wanted += static_cast<int64_t>(a.size());
              got += static_cast<int64_t>(b.size());
            }
            return F1Percent(matches, wanted, got);
          }};
}

absl::StatusOr<std::string> SharedModel(const Sources& sources, const std::string& name) {
  const std::string path = absl::StrCat(sources.shared, "/models/", name, "/model.onnx");
  if (!std::filesystem::exists(path)) return absl::NotFoundError(absl::StrCat(path, " is absent"));
  return path;
}

// The embedded file `bytes` on Fashion-MNIST.
absl::StatusOr<Task> Fashion(const Sources& sources, const std::string& name, absl::string_view bytes) {
  const std::string train = sources.fashion + "/train-images-idx3-ubyte.gz";
  if (!std::filesystem::exists(train)) {
    return absl::NotFoundError(absl::StrCat(train, " is absent (Debian package dataset-fashion-mnist)"));
  }
  Task task;
  task.model = absl::StrCat(sources.work, "/", name, ".onnx");
  OCTET_RETURN_IF_ERROR(WriteFileAtomically(task.model, bytes));
  OCTET_ASSIGN_OR_RETURN(Labelled calibration, ReadIdx(train, "", kFashionCalibration));
  OCTET_ASSIGN_OR_RETURN(Labelled evaluation, ReadIdx(sources.fashion + "/t10k-images-idx3-ubyte.gz",
                                                      sources.fashion + "/t10k-labels-idx1-ubyte.gz", 0));
  task.calibration = std::move(calibration.samples);
  task.evaluation = std::move(evaluation.samples);
  task.labels = std::move(evaluation.labels);
  task.metrics = {Top1(), Agreement(), Sqnr()};
  task.classes = true;
  // The training images that the network was not trained on (models/fashion-mnist/train.py).
  OCTET_ASSIGN_OR_RETURN(Labelled held_out, ReadIdx(train, sources.fashion + "/train-labels-idx1-ubyte.gz",
                                                    kFashionTrained + kFashionTuning));
  task.tuning.assign(held_out.samples.begin() + kFashionTrained, held_out.samples.end());
  task.tuning_labels.assign(held_out.labels.begin() + kFashionTrained, held_out.labels.end());
  task.foreign.push_back({"noise", UniformNoise({1, 28, 28}, kForeignSamples, 30)});
  OCTET_ASSIGN_OR_RETURN(const ImageOptions gray, ImageOptions::Parse("size=28,channels=gray,scale=.00392156862745098"));
  auto photos = ReadClassFolders(sources.shared + "/data/cifar10-500", 0, gray);
  if (photos.ok()) task.foreign.push_back({"gray photos", std::move(photos->second.samples)});
  return task;
}

absl::StatusOr<Task> Cifar(const Sources& sources) {
  Task task;
  OCTET_ASSIGN_OR_RETURN(task.model, SharedModel(sources, "resnet20-cifar10"));
  OCTET_ASSIGN_OR_RETURN(const ImageOptions image, ImageOptions::Parse("mean=.4914:.4822:.4465,std=.2470:.2435:.2616"));
  OCTET_ASSIGN_OR_RETURN(auto sets, ReadClassFolders(sources.shared + "/data/cifar10-500", kCifarCalibrationPerClass, image));
  task.calibration = std::move(sets.first.samples);
  task.evaluation = std::move(sets.second.samples);
  task.labels = std::move(sets.second.labels);
  task.tuning = task.calibration;
  task.tuning_labels = std::move(sets.first.labels);
  task.metrics = {Top1(), Agreement(), Sqnr()};
  task.classes = true;
  return task;
}

// A network of ../shared/models on the photos, prepared as `image` says.
absl::StatusOr<Task> Photos(const Sources& sources, const std::string& model, const std::string& image,
                            int64_t letterbox_side, std::vector<Metric> metrics) {
  Task task;
  OCTET_ASSIGN_OR_RETURN(task.model, SharedModel(sources, model));
  PhotoOptions options;
  OCTET_ASSIGN_OR_RETURN(options.image, ImageOptions::Parse(image));
  options.letterbox_side = letterbox_side;
  OCTET_ASSIGN_OR_RETURN(auto sets, ReadPhotos(sources.shared + "/data/imagenet200", options));
  task.calibration = std::move(sets.first.samples);
  task.evaluation = std::move(sets.second.samples);
  task.labels = std::move(sets.second.labels);
  task.metrics = std::move(metrics);
  return task;
}

void Append(std::vector<Tensor> more, std::vector<Tensor>* samples) {
  samples->insert(samples->end(), more.begin(), more.end());
}

// Photos hold little text: variations of the stored page of text are added to both sets.
absl::StatusOr<Task> Text(const Sources& sources) {
  const Metric iou = {"text mask IoU %", [](const Task&, const Predictions& reference, const Predictions& found) {
                        return MaskIouPercent(reference.outputs[0], found.outputs[0], kTextProbability);
                      }};
  OCTET_ASSIGN_OR_RETURN(Task task, Photos(sources, "ppocr-v3-det",
                                           "size=320,short=320,channels=bgr,mean=.485:.456:.406,std=.229:.224:.225", 0,
                                           {iou, Sqnr()}));
  OCTET_ASSIGN_OR_RETURN(const Tensor page,
                         ReadStoredSample(sources.shared + "/models/ppocr-v3-det/test_data_set_0/input_0.pb"));
  Append(VaryImage(page, kTextSamples, 1), &task.calibration);
  Append(VaryImage(page, kTextSamples, 2), &task.evaluation);
  task.labels.clear();
  return task;
}

absl::StatusOr<Task> Speech(const Sources& sources) {
  Task task;
  OCTET_ASSIGN_OR_RETURN(task.model, SharedModel(sources, "dnsmos-p835"));
  OCTET_ASSIGN_OR_RETURN(const Tensor speech,
                         ReadStoredSample(sources.shared + "/models/dnsmos-p835/test_data_set_0/input_0.pb"));
  task.calibration = VarySpeech(speech, kSpeechSamples, 10);
  task.evaluation = VarySpeech(speech, kSpeechSamples, 20);
  task.metrics = {Sqnr()};
  return task;
}

// Variations of the stored features of a word: 49 steps of 40 bands, moved and scaled.
absl::StatusOr<Task> Keywords(const Sources& sources) {
  Task task;
  OCTET_ASSIGN_OR_RETURN(task.model, SharedModel(sources, "micro-kws-fp32"));
  OCTET_ASSIGN_OR_RETURN(const Tensor word,
                         ReadStoredSample(sources.shared + "/models/micro-kws-fp32/test_data_set_0/input_0.pb"));
  const auto vary = [&](int64_t count, uint64_t seed) {
    std::vector<Tensor> out;
    for (const Tensor& t : VaryImage(word.Reshaped({1, 49, 40}), count, seed)) out.push_back(t.Reshaped(word.shape()));
    return out;
  };
  task.calibration = vary(kWordSamples, 40);
  task.evaluation = vary(4 * kWordSamples, 41);
  task.metrics = {Agreement(), Sqnr()};
  task.classes = true;
  return task;
}

std::vector<Box> YoloxBoxes(const Predictions& p, int64_t i) {
  return DecodeYolox(p.outputs[0].Sample(i), kYoloxSide, kYoloxClasses, kYoloxScore);
}

std::vector<Box> Faces(const Predictions& p, int64_t i) {
  return DecodeUltraface(p.outputs[0].Sample(i), p.outputs[1].Sample(i), kFaceScore);
}

}  // namespace

const std::vector<Network>& Networks() {
  static const auto& networks = *new std::vector<Network>{
      {"fashion-mnist", [](const Sources& s) { return Fashion(s, "fashion-mnist", models::FashionMnist()); }},
      {"fashion-mnist-wide",
       [](const Sources& s) { return Fashion(s, "fashion-mnist-wide", models::FashionMnistWide()); }},
      {"resnet20-cifar10", Cifar},
      {"squeezenet-fp32",
       [](const Sources& s) {
         auto task = Photos(s, "squeezenet-fp32", "size=224,short=256,channels=bgr,scale=1,mean=104:117:123", 0,
                            {Agreement(), Top1(), Sqnr()});
         if (task.ok()) task->classes = true;
         return task;
       }},
      {"mobilenetv2-torch-dq32",
       [](const Sources& s) {
         // The file says 244 x 244; the share of the crop is ImageNet's 224 of 256.
         return Photos(s, "mobilenetv2-torch-dq32", "size=244,short=279,mean=.485:.456:.406,std=.229:.224:.225", 0,
                       {Agreement(), Top1(), Sqnr()});
       }},
      {"micro-kws-fp32", Keywords},
      {"dnsmos-p835", Speech},
      {"super-resolution-10",
       [](const Sources& s) {
         return Photos(s, "super-resolution-10", "size=224,short=256,channels=gray", 0, {Sqnr()});
       }},
      {"yolox-nano",
       [](const Sources& s) {
         return Photos(s, "yolox-nano", "channels=bgr,scale=1", kYoloxSide, {DetectionF1(YoloxBoxes), Sqnr()});
       }},
      {"ultraface-rfb-320",
       [](const Sources& s) {
         return Photos(s, "ultraface-rfb-320", "size=320x240,fit=stretch,scale=1,mean=127,std=128", 0,
                       {DetectionF1(Faces), Sqnr()});
       }},
      {"ppocr-v3-det", Text},
  };
  return networks;
}

}  // namespace octet::bench
