// A network with its samples and metrics: what every scheme is measured on.
#ifndef OCTET_BENCH_QUALITY_TASK_H_
#define OCTET_BENCH_QUALITY_TASK_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "bench/quality/predictions.h"

namespace octet::bench {

struct Task;

struct Metric {
  std::string name;  // of a task's first metric, larger is better
  // Of `found`, given the float network's predictions on the same samples; of the float network itself: reference twice.
  std::function<double(const Task& task, const Predictions& reference, const Predictions& found)> value;
};

struct Task {
  std::string model;  // the float ONNX file; one f32 input
  std::vector<Tensor> calibration, evaluation;  // f32, equal shapes, without batch axis
  std::vector<int64_t> labels;                  // of the evaluation samples; empty where there are none
  std::vector<Metric> metrics;                  // in the order in which they decide which of several settings is best
  bool classes = false;                         // output 0 is rows of class scores
  // Labelled samples to calibrate confidence on (a temperature): of no other use. Empty where there are none.
  std::vector<Tensor> tuning;
  std::vector<int64_t> tuning_labels;
  // Inputs of another kind, that uncertainty should tell from the evaluation samples; the same shape.
  struct Foreign {
    std::string name;
    std::vector<Tensor> samples;
  };
  std::vector<Foreign> foreign;
};

// Where the inputs lie.
struct Sources {
  std::string fashion;  // folder of the Fashion-MNIST files
  std::string shared;   // folder with models/ and data/
  std::string work;     // folder for files that tasks write
};

struct Network {
  std::string name;
  // Errors: kNotFound where a file of the task is absent (the network is skipped); others are failures.
  std::function<absl::StatusOr<Task>(const Sources&)> make;
};

// All networks, in the order of the report; a new one is one more entry.
const std::vector<Network>& Networks();

}  // namespace octet::bench

#endif  // OCTET_BENCH_QUALITY_TASK_H_
