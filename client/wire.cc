// Requests written and responses read.
#include "client/wire.h"

#include <grpcpp/support/slice.h>

#include <limits>
#include <memory>
#include <set>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/buffer.h"
#include "base/status.h"
#include "client/datatype.h"

namespace octet::client {
namespace {

using inference::InferParameter;
using inference::InferTensorContents;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using Output = ModelInferResponse::InferOutputTensor;

InferParameter ToMessage(const Parameter& parameter) {
  InferParameter out;
  if (const bool* b = std::get_if<bool>(&parameter)) out.set_bool_param(*b);
  if (const int64_t* i = std::get_if<int64_t>(&parameter)) out.set_int64_param(*i);
  if (const double* d = std::get_if<double>(&parameter)) out.set_double_param(*d);
  if (const std::string* s = std::get_if<std::string>(&parameter)) out.set_string_param(*s);
  return out;
}

Parameters FromMessages(const google::protobuf::Map<std::string, InferParameter>& messages) {
  Parameters out;
  for (const auto& [name, message] : messages) {
    switch (message.parameter_choice_case()) {
      case InferParameter::kBoolParam:
        out[name] = message.bool_param();
        break;
      case InferParameter::kInt64Param:
        out[name] = static_cast<int64_t>(message.int64_param());
        break;
      case InferParameter::kUint64Param:
        out[name] = static_cast<int64_t>(message.uint64_param());
        break;
      case InferParameter::kDoubleParam:
        out[name] = message.double_param();
        break;
      case InferParameter::kStringParam:
        out[name] = message.string_param();
        break;
      case InferParameter::PARAMETER_CHOICE_NOT_SET:
        break;
    }
  }
  return out;
}

absl::Status CheckRequest(const InferRequest& request) {
  if (request.model.empty()) return absl::InvalidArgumentError("the request names no model");
  std::set<std::string> names;
  for (const NamedTensor& input : request.inputs) {
    if (input.name.empty() || !names.insert(input.name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("input '", input.name, "' is unnamed or given twice"));
    }
    if (!input.tensor.valid() || DatatypeOf(input.tensor.dtype()).empty()) {
      return absl::InvalidArgumentError(absl::StrCat("input '", input.name, "' has type ",
                                                     NameOf(input.tensor.dtype()),
                                                     ", which the protocol lacks"));
    }
    // Protobuf's own limit, and with it gRPC's.
    if (input.tensor.size_bytes() > std::numeric_limits<int32_t>::max() / 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("input '", input.name, "' has ", input.tensor.size_bytes(), " bytes"));
    }
  }
  return absl::OkStatus();
}

ModelInferRequest Envelope(const InferRequest& request) {
  ModelInferRequest message;
  message.set_model_name(request.model);
  if (!request.version.empty()) message.set_model_version(request.version);
  message.set_id(request.id);
  for (const auto& [name, parameter] : request.parameters) {
    (*message.mutable_parameters())[name] = ToMessage(parameter);
  }
  for (const NamedTensor& input : request.inputs) {
    auto* out = message.add_inputs();
    out->set_name(input.name);
    out->set_datatype(std::string(DatatypeOf(input.tensor.dtype())));
    for (int64_t dim : input.tensor.shape()) out->add_shape(dim);
  }
  for (const std::string& name : request.outputs) message.add_outputs()->set_name(name);
  return message;
}

// The key of field raw_input_contents (7, length-delimited) and the length, as Protobuf writes
// them.
std::string RawContentsPrefix(uint64_t length) {
  std::string out(1, static_cast<char>(7 << 3 | 2));
  for (; length >= 0x80; length >>= 7) out.push_back(static_cast<char>((length & 0x7f) | 0x80));
  out.push_back(static_cast<char>(length));
  return out;
}

grpc::Slice SliceOf(const Tensor& tensor) {
  auto* owner = new Tensor(tensor);  // freed when the last slice of these bytes is
  return grpc::Slice(
      const_cast<std::byte*>(owner->data()), static_cast<size_t>(owner->size_bytes()),
      [](void* t) { delete static_cast<Tensor*>(t); }, owner);
}

// The elements of one typed field in the tensor's own type. Fails when one is outside its range.
template <typename T, typename Values>
absl::StatusOr<Tensor> FromTyped(DType dtype, const Shape& shape, const Values& values) {
  if (values.size() != NumElements(shape)) {
    return absl::DataLossError(
        absl::StrCat(values.size(), " elements in typed contents for shape ", ShapeString(shape)));
  }
  std::vector<T> elements;
  elements.reserve(static_cast<size_t>(values.size()));
  for (const auto value : values) {
    elements.push_back(static_cast<T>(value));
    if constexpr (std::is_integral_v<T>) {
      if (static_cast<std::decay_t<decltype(value)>>(elements.back()) != value) {
        return absl::DataLossError(
            absl::StrCat("typed element ", value, " is out of range for ", NameOf(dtype)));
      }
    }
  }
  return Tensor::FromValues<T>(dtype, shape, elements);
}

absl::StatusOr<Tensor> TypedTensor(DType dtype, const Shape& shape, const InferTensorContents& c) {
  switch (dtype) {
    case DType::kF32:
      return FromTyped<float>(dtype, shape, c.fp32_contents());
    case DType::kF64:
      return FromTyped<double>(dtype, shape, c.fp64_contents());
    case DType::kS8:
      return FromTyped<int8_t>(dtype, shape, c.int_contents());
    case DType::kS16:
      return FromTyped<int16_t>(dtype, shape, c.int_contents());
    case DType::kS32:
      return FromTyped<int32_t>(dtype, shape, c.int_contents());
    case DType::kS64:
      return FromTyped<int64_t>(dtype, shape, c.int64_contents());
    case DType::kU8:
      return FromTyped<uint8_t>(dtype, shape, c.uint_contents());
    case DType::kU16:
      return FromTyped<uint16_t>(dtype, shape, c.uint_contents());
    case DType::kU32:
      return FromTyped<uint32_t>(dtype, shape, c.uint_contents());
    case DType::kU64:
      return FromTyped<uint64_t>(dtype, shape, c.uint64_contents());
    case DType::kBool:
      return FromTyped<uint8_t>(dtype, shape, c.bool_contents());
    default:
      return absl::DataLossError(absl::StrCat(NameOf(dtype), " has no typed contents"));
  }
}

absl::StatusOr<Tensor> RawTensor(DType dtype, const Shape& shape, std::string* raw) {
  if (static_cast<int64_t>(raw->size()) != ByteSize(dtype, shape)) {
    return absl::DataLossError(absl::StrCat(raw->size(), " raw bytes for shape ",
                                            ShapeString(shape), " of ", NameOf(dtype)));
  }
  auto owner = std::make_shared<const std::string>(std::move(*raw));
  const auto* data = reinterpret_cast<const std::byte*>(owner->data());
  return Tensor(dtype, shape, data, std::move(owner));
}

// `raw` is null when the response carries no raw contents.
absl::StatusOr<Tensor> OutputTensor(const Output& output, std::string* raw) {
  const DType dtype = DTypeOf(output.datatype());
  if (dtype == DType::kInvalid) {
    return absl::UnimplementedError(absl::StrCat("datatype ", output.datatype(),
                                                 " is not supported; name the outputs you want"));
  }
  const Shape shape(output.shape().begin(), output.shape().end());
  if (absl::Status size = CheckedByteSize(dtype, shape).status(); !size.ok()) {
    return absl::DataLossError(size.message());
  }
  return raw != nullptr ? RawTensor(dtype, shape, raw)
                        : TypedTensor(dtype, shape, output.contents());
}

}  // namespace

absl::StatusOr<grpc::ByteBuffer> EncodeRequest(const InferRequest& request) {
  OCTET_RETURN_IF_ERROR(CheckRequest(request));
  // A message is the concatenation of its fields, so the raw contents may follow without a copy.
  std::vector<grpc::Slice> slices = {grpc::Slice(Envelope(request).SerializeAsString())};
  for (const NamedTensor& input : request.inputs) {
    slices.emplace_back(RawContentsPrefix(static_cast<uint64_t>(input.tensor.size_bytes())));
    if (input.tensor.size_bytes() > 0) slices.push_back(SliceOf(input.tensor));
  }
  grpc::ByteBuffer buffer(slices.data(), slices.size());
  if (buffer.Length() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request has ", buffer.Length(), " bytes, the protocol's limit is 2 GB"));
  }
  return buffer;
}

absl::StatusOr<InferResult> DecodeResponse(ModelInferResponse response) {
  InferResult result{response.model_name(),
                     response.model_version(),
                     response.id(),
                     {},
                     FromMessages(response.parameters())};
  const int raw_count = response.raw_output_contents_size();
  if (raw_count != 0 && raw_count != response.outputs_size()) {
    return absl::DataLossError(absl::StrCat("the response has ", response.outputs_size(),
                                            " outputs and ", raw_count, " raw contents"));
  }
  for (int i = 0; i < response.outputs_size(); ++i) {
    const Output& output = response.outputs(i);
    auto tensor =
        OutputTensor(output, raw_count > 0 ? response.mutable_raw_output_contents(i) : nullptr);
    if (!tensor.ok()) {
      return Annotate(tensor.status(), absl::StrCat("output '", output.name(), "'"));
    }
    result.outputs.push_back({output.name(), *std::move(tensor)});
  }
  return result;
}

}  // namespace octet::client
