// Models of ONNX's backend suite: where they are, what they use, their data sets.
#ifndef OCTET_TESTS_CONFORMANCE_SUITE_MODEL_H_
#define OCTET_TESTS_CONFORMANCE_SUITE_MODEL_H_

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "graph/graph.h"

namespace octet::conformance {

// Where libonnx-testdata puts it; OCTET_CONFORMANCE_DATA names another folder of the same form.
std::string SuiteFolder();

struct SuiteModel {
  std::string name;  // "node/test_abs", "light/light_resnet50"
  std::filesystem::path file;
  std::set<std::string>
      operators;  // subgraphs included; "ai.onnx.ml.Binarizer" outside of the default domain
  std::set<std::string>
      types;  // of inputs, outputs, tensors and casts, as ONNX names them; "sequence", "optional"
  int64_t opset = 0;
};

// All models, sorted by name.
std::vector<SuiteModel> FindSuiteModels();

// Inputs and expected outputs of one run.
struct DataSet {
  std::vector<Tensor> inputs, outputs;
};

// The model's data sets. Of a light model the suite stores the output only; its input is 0/n, 1/n,
// .. (n-1)/n, as ONNX's own runner makes it. Errors: kUnimplemented for a type that Octet does not
// have.
absl::StatusOr<std::vector<DataSet>> ReadDataSets(const SuiteModel& model);

// The model as it is.
absl::StatusOr<graph::Graph> ImportAsIs(const SuiteModel& model);

// The model with every input but the first turned into an initializer: real models hold constants
// where files of the suite pass axes, shapes and weights at run time.
absl::StatusOr<graph::Graph> ImportWithConstants(const SuiteModel& model);

}  // namespace octet::conformance

#endif  // OCTET_TESTS_CONFORMANCE_SUITE_MODEL_H_
