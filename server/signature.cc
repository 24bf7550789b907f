// Binding by name; every refusal says expected and got.
#include "server/signature.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/status.h"
#include "server/datatype.h"

namespace octet::server {
namespace {

std::string NamesOf(const std::vector<engine::Signature>& list) {
  return absl::StrJoin(list, ", ", [](std::string* out, const engine::Signature& s) {
    absl::StrAppend(out, "'", s.name, "'");
  });
}

absl::StatusOr<int> IndexOf(const std::vector<engine::Signature>& list, absl::string_view name,
                            absl::string_view kind) {
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i].name == name) return static_cast<int>(i);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the model has no ", kind, " '", name, "'; it has ", NamesOf(list)));
}

absl::Status CheckTensor(const InputTensor& got, const engine::Signature& want) {
  if (got.dtype != want.dtype) {
    return absl::InvalidArgumentError(absl::StrCat("input '", want.name, "': expected datatype ",
                                                   WireNameOf(want.dtype), ", got ",
                                                   WireNameOf(got.dtype)));
  }
  bool fits = got.shape.size() == want.shape.size();
  for (size_t i = 0; fits && i < got.shape.size(); ++i) {
    fits = want.shape[i] == kUnknownDim || want.shape[i] == got.shape[i];
  }
  if (!fits) {
    return absl::InvalidArgumentError(absl::StrCat("input '", want.name, "': expected shape ",
                                                   ShapeString(want.shape), ", got ",
                                                   ShapeString(got.shape)));
  }
  if (NumElements(got.shape) == 0) {
    return absl::InvalidArgumentError(absl::StrCat("input '", want.name, "': shape ",
                                                   ShapeString(got.shape), " has no elements"));
  }
  return absl::OkStatus();
}

absl::Status BindInputs(const ModelSignature& signature, BoundRequest* bound) {
  const std::vector<InputTensor>& given = bound->request.inputs;
  bound->inputs.assign(signature.inputs.size(), -1);
  for (size_t i = 0; i < given.size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(const int index, IndexOf(signature.inputs, given[i].name, "input"));
    int& place = bound->inputs[static_cast<size_t>(index)];
    if (place >= 0) {
      return absl::InvalidArgumentError(absl::StrCat("input '", given[i].name, "' is given twice"));
    }
    place = static_cast<int>(i);
  }
  for (size_t i = 0; i < signature.inputs.size(); ++i) {
    if (bound->inputs[i] < 0) {
      return absl::InvalidArgumentError(absl::StrCat("input '", signature.inputs[i].name,
                                                     "' is missing; the model takes ",
                                                     NamesOf(signature.inputs)));
    }
    const InputTensor& tensor = given[static_cast<size_t>(bound->inputs[i])];
    OCTET_RETURN_IF_ERROR(CheckTensor(tensor, signature.inputs[i]));
    bound->shapes.push_back(tensor.shape);
  }
  return absl::OkStatus();
}

absl::Status BindRows(const ModelSignature& signature, BoundRequest* bound) {
  if (!signature.batchable || signature.inputs.empty()) return absl::OkStatus();
  bound->rows = bound->shapes[0][0];
  for (size_t i = 0; i < bound->shapes.size(); ++i) {
    if (bound->shapes[i][0] != bound->rows) {
      return absl::InvalidArgumentError(
          absl::StrCat("input '", signature.inputs[i].name, "' has batch ", bound->shapes[i][0],
                       ", input '", signature.inputs[0].name, "' has batch ", bound->rows));
    }
    bound->shapes[i][0] = kUnknownDim;
  }
  if (bound->rows > signature.max_batch) {
    return absl::InvalidArgumentError(
        absl::StrCat("input '", signature.inputs[0].name, "': batch ", bound->rows,
                     " exceeds the model's maximum batch size of ", signature.max_batch));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BoundRequest> Bind(InferRequest request, const ModelSignature& signature) {
  BoundRequest bound;
  bound.request = std::move(request);
  OCTET_RETURN_IF_ERROR(BindInputs(signature, &bound));
  OCTET_RETURN_IF_ERROR(BindRows(signature, &bound));
  for (const std::string& name : bound.request.outputs) {
    OCTET_ASSIGN_OR_RETURN(const int index, IndexOf(signature.outputs, name, "output"));
    if (std::find(bound.outputs.begin(), bound.outputs.end(), index) != bound.outputs.end()) {
      return absl::InvalidArgumentError(absl::StrCat("output '", name, "' is requested twice"));
    }
    bound.outputs.push_back(index);
  }
  if (bound.outputs.empty()) {
    for (size_t i = 0; i < signature.own_outputs(); ++i)
      bound.outputs.push_back(static_cast<int>(i));
  }
  return bound;
}

std::vector<Shape> ShapesOfBatch(const std::vector<Shape>& shapes, bool batchable, int64_t rows) {
  std::vector<Shape> out = shapes;
  if (batchable) {
    for (Shape& shape : out) shape[0] = rows;
  }
  return out;
}

int64_t BucketFor(int64_t rows, int64_t max_batch) {
  int64_t bucket = 1;
  while (bucket < rows) bucket *= 2;
  return std::min(bucket, max_batch);
}

}  // namespace octet::server
