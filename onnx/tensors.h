// TensorProto into Tensor: every claim of the file about its content is checked before memory is
// asked for.
#ifndef OCTET_ONNX_TENSORS_H_
#define OCTET_ONNX_TENSORS_H_

#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/buffer.h"
#include "base/tensor.h"
#include "onnx/onnx_pb.h"
#include "onnx/wire.h"

namespace octet::onnx_io {

// ONNX's TensorProto::DataType and ours; kInvalid and 0 (UNDEFINED) for what the other side lacks.
DType DTypeFromOnnx(int64_t data_type);
int DTypeToOnnx(DType dtype);

// "FLOAT8E4M3FN (17)": how messages name a type that may be unknown to us.
std::string OnnxTypeName(int64_t data_type);

// Where the tensors of one model come from. Lives until nothing of the file is read any more.
struct TensorSource {
  std::shared_ptr<const Buffer> file;  // kept alive by the tensors that are views into it
  // By index of reduced->tensors: what tensors of that content own. Kept here, so that content read twice is not given
  // back in between.
  absl::flat_hash_map<size_t, std::shared_ptr<const void>> slices;
  const ReducedModel* reduced = nullptr;
  std::string folder;              // of external data; empty: external data is refused
  int64_t max_external_bytes = 0;  // over all tensors
  int64_t external_bytes = 0;      // read so far
};

// The tensor `proto` describes; raw content of the machine's byte order stays a view into the file.
// Errors, without the tensor's name: kInvalidArgument (content and shape disagree, bad external
// location), kUnimplemented (type), kDataLoss, kNotFound, kResourceExhausted.
absl::StatusOr<Tensor> LoadTensor(const ::onnx::TensorProto& proto, TensorSource* source);

}  // namespace octet::onnx_io

#endif  // OCTET_ONNX_TENSORS_H_
