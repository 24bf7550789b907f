// A table-driven walk over the messages of onnx.proto.
#include "onnx/wire.h"

#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::onnx_io {
namespace {

enum class Kind : uint8_t {
  kModel,
  kOpset,
  kEntry,  // StringStringEntryProto
  kGraph,
  kNode,
  kAttribute,
  kTensor,
  kValueInfo,
  kType,
  kOtherType,  // known by its presence
  kTensorType,
  kShape,
  kDim,
};

enum class Action : uint8_t { kCopy, kEnter, kData, kSparse, kFunction };

struct Field {
  Kind message;
  uint32_t number;
  Action action;
  Kind child;  // of kEnter
  const char* name;
};

// What import reads. A field that is not here is dropped.
constexpr Field kFields[] = {
    {Kind::kModel, 1, Action::kCopy, {}, "ir_version"},
    {Kind::kModel, 2, Action::kCopy, {}, "producer_name"},
    {Kind::kModel, 7, Action::kEnter, Kind::kGraph, "graph"},
    {Kind::kModel, 8, Action::kEnter, Kind::kOpset, "opset_import"},
    {Kind::kModel, 14, Action::kEnter, Kind::kEntry, "metadata_props"},
    {Kind::kModel, 25, Action::kFunction, {}, "functions"},
    {Kind::kOpset, 1, Action::kCopy, {}, "domain"},
    {Kind::kOpset, 2, Action::kCopy, {}, "version"},
    {Kind::kEntry, 1, Action::kCopy, {}, "key"},
    {Kind::kEntry, 2, Action::kCopy, {}, "value"},
    {Kind::kGraph, 1, Action::kEnter, Kind::kNode, "node"},
    {Kind::kGraph, 2, Action::kCopy, {}, "name"},
    {Kind::kGraph, 5, Action::kEnter, Kind::kTensor, "initializer"},
    {Kind::kGraph, 11, Action::kEnter, Kind::kValueInfo, "input"},
    {Kind::kGraph, 12, Action::kEnter, Kind::kValueInfo, "output"},
    {Kind::kGraph, 15, Action::kSparse, {}, "sparse_initializer"},
    {Kind::kNode, 1, Action::kCopy, {}, "input"},
    {Kind::kNode, 2, Action::kCopy, {}, "output"},
    {Kind::kNode, 3, Action::kCopy, {}, "name"},
    {Kind::kNode, 4, Action::kCopy, {}, "op_type"},
    {Kind::kNode, 5, Action::kEnter, Kind::kAttribute, "attribute"},
    {Kind::kNode, 7, Action::kCopy, {}, "domain"},
    {Kind::kAttribute, 1, Action::kCopy, {}, "name"},
    {Kind::kAttribute, 2, Action::kCopy, {}, "f"},
    {Kind::kAttribute, 3, Action::kCopy, {}, "i"},
    {Kind::kAttribute, 4, Action::kCopy, {}, "s"},
    {Kind::kAttribute, 5, Action::kEnter, Kind::kTensor, "t"},
    {Kind::kAttribute, 6, Action::kEnter, Kind::kGraph, "g"},
    {Kind::kAttribute, 7, Action::kCopy, {}, "floats"},
    {Kind::kAttribute, 8, Action::kCopy, {}, "ints"},
    {Kind::kAttribute, 9, Action::kCopy, {}, "strings"},
    {Kind::kAttribute, 10, Action::kEnter, Kind::kTensor, "tensors"},
    {Kind::kAttribute, 11, Action::kEnter, Kind::kGraph, "graphs"},
    {Kind::kAttribute, 20, Action::kCopy, {}, "type"},
    {Kind::kAttribute, 21, Action::kCopy, {}, "ref_attr_name"},
    {Kind::kAttribute, 22, Action::kSparse, {}, "sparse_tensor"},
    {Kind::kAttribute, 23, Action::kSparse, {}, "sparse_tensors"},
    {Kind::kTensor, 1, Action::kCopy, {}, "dims"},
    {Kind::kTensor, 2, Action::kCopy, {}, "data_type"},
    {Kind::kTensor, 4, Action::kData, {}, "float_data"},
    {Kind::kTensor, 5, Action::kData, {}, "int32_data"},
    {Kind::kTensor, 7, Action::kData, {}, "int64_data"},
    {Kind::kTensor, 8, Action::kCopy, {}, "name"},
    {Kind::kTensor, 9, Action::kData, {}, "raw_data"},
    {Kind::kTensor, 10, Action::kData, {}, "double_data"},
    {Kind::kTensor, 11, Action::kData, {}, "uint64_data"},
    {Kind::kTensor, 13, Action::kEnter, Kind::kEntry, "external_data"},
    {Kind::kTensor, 14, Action::kCopy, {}, "data_location"},
    {Kind::kValueInfo, 1, Action::kCopy, {}, "name"},
    {Kind::kValueInfo, 2, Action::kEnter, Kind::kType, "type"},
    {Kind::kType, 1, Action::kEnter, Kind::kTensorType, "tensor_type"},
    {Kind::kType, 4, Action::kEnter, Kind::kOtherType, "sequence_type"},
    {Kind::kType, 9, Action::kEnter, Kind::kOtherType, "optional_type"},
    {Kind::kTensorType, 1, Action::kCopy, {}, "elem_type"},
    {Kind::kTensorType, 2, Action::kEnter, Kind::kShape, "shape"},
    {Kind::kShape, 1, Action::kEnter, Kind::kDim, "dim"},
    {Kind::kDim, 1, Action::kCopy, {}, "dim_value"},
    {Kind::kDim, 2, Action::kCopy, {}, "dim_param"},
};

const Field* FindField(Kind message, uint32_t number) {
  for (const Field& field : kFields) {
    if (field.message == message && field.number == number) return &field;
  }
  return nullptr;
}

constexpr uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

// A cursor over file[pos, end).
struct Cursor {
  const std::byte* file;
  size_t pos;
  size_t end;

  bool done() const { return pos >= end; }
  size_t left() const { return end - pos; }

  absl::StatusOr<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (done()) {
        return absl::DataLossError(absl::StrCat("truncated at byte ", pos, " inside a number"));
      }
      const uint64_t byte = std::to_integer<uint64_t>(file[pos++]);
      value |= shift == 63 ? (byte & 1) << 63 : (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("not a protobuf file: number longer than 10 bytes before byte ", pos));
  }
};

void AppendVarint(std::string* out, uint64_t value) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

class Reducer {
 public:
  Reducer(absl::Span<const std::byte> file, const WireLimits& limits)
      : file_(file), limits_(limits) {}

  absl::StatusOr<ReducedModel> Run() {
    Cursor cursor{file_.data(), 0, file_.size()};
    OCTET_RETURN_IF_ERROR(Walk(Kind::kModel, cursor, /*graph_depth=*/-1, &result_.model));
    if (!saw_graph_) {
      return absl::InvalidArgumentError("not an ONNX model: it holds no graph");
    }
    return std::move(result_);
  }

 private:
  absl::Status Count(Kind message, uint32_t number) {
    // Every message and string costs memory beyond its bytes, so their number is limited too: a
    // node has a dozen.
    if (++fields_ > 24 * limits_.max_nodes + 8 * limits_.max_values) {
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", fields_ - 1, " messages and strings"));
    }
    if (message == Kind::kGraph && number == 1 && ++nodes_ > limits_.max_nodes) {
      return absl::ResourceExhaustedError(absl::StrCat("more than ", limits_.max_nodes, " nodes"));
    }
    const bool value = (message == Kind::kNode && number == 2) ||
                       (message == Kind::kGraph && (number == 5 || number == 11));
    if (value && ++values_ > limits_.max_values) {
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", limits_.max_values, " values"));
    }
    return absl::OkStatus();
  }

  absl::Status Walk(Kind message, Cursor cursor, int graph_depth, std::string* out) {
    bool has_data = false;
    while (!cursor.done()) {
      const size_t start = cursor.pos;
      OCTET_ASSIGN_OR_RETURN(const uint64_t tag, cursor.Varint());
      const uint64_t number = tag >> 3;
      if (number == 0 || number > 0x1fffffff) {
        return absl::InvalidArgumentError(
            absl::StrCat("not a protobuf file: field number ", number, " at byte ", start));
      }
      const Field* field = FindField(message, static_cast<uint32_t>(number));
      uint64_t length = 0;
      switch (tag & 7) {
        case kVarint: {
          OCTET_RETURN_IF_ERROR(cursor.Varint().status());
          break;
        }
        case kFixed64:
          length = 8;
          break;
        case kFixed32:
          length = 4;
          break;
        case kBytes: {
          OCTET_ASSIGN_OR_RETURN(length, cursor.Varint());
          break;
        }
        default:
          return absl::InvalidArgumentError(absl::StrCat("not a protobuf file: wire type ", tag & 7,
                                                         " of field ", number, " at byte ", start));
      }
      if (length > cursor.left()) {
        return absl::DataLossError(
            absl::StrCat("truncated: field ", field ? field->name : absl::StrCat(number).c_str(),
                         " at byte ", start, " needs ", length, " bytes, found ", cursor.left()));
      }
      const size_t body = cursor.pos;
      cursor.pos += length;
      if (field == nullptr) continue;
      if ((tag & 7) == kBytes) OCTET_RETURN_IF_ERROR(Count(message, field->number));
      const Cursor inner{file_.data(), body, cursor.pos};
      OCTET_RETURN_IF_ERROR(Apply(*field, tag & 7, start, inner, graph_depth, &has_data, out));
      if (static_cast<int64_t>(out->size()) > limits_.max_reduced_bytes) {
        return absl::ResourceExhaustedError(absl::StrCat("more than ", limits_.max_reduced_bytes,
                                                         " bytes besides the tensors' contents"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Apply(const Field& field, uint64_t wire_type, size_t start, Cursor inner,
                     int graph_depth, bool* has_data, std::string* out) {
    switch (field.action) {
      case Action::kCopy:
        out->append(reinterpret_cast<const char*>(file_.data()) + start, inner.end - start);
        return absl::OkStatus();
      case Action::kSparse:
        return absl::UnimplementedError(absl::StrCat("sparse tensors (", field.name, " at byte ",
                                                     start, ") are not supported"));
      case Action::kFunction:
        result_.has_functions = true;
        return absl::OkStatus();
      case Action::kData:
        return TakeData(field, wire_type, start, inner, has_data, out);
      case Action::kEnter:
        break;
    }
    if (wire_type != kBytes) return absl::OkStatus();  // not that field: protobuf would skip it too
    if (field.child == Kind::kGraph) {
      if (field.message == Kind::kModel) saw_graph_ = true;
      if (++graph_depth > limits_.max_subgraph_depth) {
        return absl::ResourceExhaustedError(
            absl::StrCat("subgraphs nested deeper than ", limits_.max_subgraph_depth));
      }
    }
    std::string child;
    OCTET_RETURN_IF_ERROR(Walk(field.child, inner, graph_depth, &child));
    AppendVarint(out, (uint64_t{field.number} << 3) | kBytes);
    AppendVarint(out, child.size());
    out->append(child);
    return absl::OkStatus();
  }

  absl::Status TakeData(const Field& field, uint64_t wire_type, size_t start, Cursor inner,
                        bool* has_data, std::string* out) {
    if (wire_type != kBytes) {
      return absl::UnimplementedError(
          absl::StrCat("tensor content (", field.name, " at byte ", start, ") is not packed"));
    }
    if (inner.done()) return absl::OkStatus();  // an empty field says nothing
    if (*has_data) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor content given twice, again as ", field.name, " at byte ", start));
    }
    *has_data = true;
    const uint64_t index = result_.tensors.size();
    result_.tensors.push_back(
        {static_cast<int>(field.number), file_.subspan(inner.pos, inner.left())});
    AppendVarint(out, (uint64_t{9} << 3) | kBytes);
    AppendVarint(out, sizeof(index));
    char bytes[sizeof(index)];
    std::memcpy(bytes, &index, sizeof(index));
    out->append(bytes, sizeof(bytes));
    return absl::OkStatus();
  }

  absl::Span<const std::byte> file_;
  WireLimits limits_;
  ReducedModel result_;
  bool saw_graph_ = false;
  int64_t fields_ = 0, nodes_ = 0, values_ = 0;
};

}  // namespace

absl::StatusOr<ReducedModel> ReduceModel(absl::Span<const std::byte> file,
                                         const WireLimits& limits) {
  if (file.empty()) return absl::InvalidArgumentError("the file is empty");
  return Reducer(file, limits).Run();
}

absl::StatusOr<size_t> TensorIndex(const std::string& raw_data, size_t count) {
  uint64_t index = 0;
  if (raw_data.size() != sizeof(index)) {
    return absl::InvalidArgumentError("tensor content is not indexed");
  }
  std::memcpy(&index, raw_data.data(), sizeof(index));
  if (index >= count) return absl::InvalidArgumentError("tensor content index out of range");
  return static_cast<size_t>(index);
}

absl::StatusOr<std::vector<uint64_t>> DecodeVarints(absl::Span<const std::byte> bytes,
                                                    int64_t count) {
  // Each takes at least one byte: checked before memory is asked for.
  if (count < 0 || static_cast<uint64_t>(count) > bytes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected ", count, " elements, found ", bytes.size(), " bytes"));
  }
  std::vector<uint64_t> values;
  values.reserve(static_cast<size_t>(count));
  Cursor cursor{bytes.data(), 0, bytes.size()};
  while (!cursor.done()) {
    OCTET_ASSIGN_OR_RETURN(const uint64_t value, cursor.Varint());
    if (values.size() == static_cast<size_t>(count)) {
      return absl::InvalidArgumentError(absl::StrCat("expected ", count, " elements, found more"));
    }
    values.push_back(value);
  }
  if (values.size() != static_cast<size_t>(count)) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected ", count, " elements, found ", values.size()));
  }
  return values;
}

}  // namespace octet::onnx_io
