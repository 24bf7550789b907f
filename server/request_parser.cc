// The envelope of ModelInferRequest, field by field.
#include "server/request_parser.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "server/datatype.h"
#include "server/typed_contents.h"
#include "server/wire.h"

namespace octet::server {
namespace {

constexpr size_t kMaxContentsOccurrences = 16;  // of one input; clients write one

// An input before its data is resolved: contents can precede the datatype on the wire.
struct PendingInput {
  InputTensor tensor;
  std::string datatype;
  std::vector<WireReader> contents;
};

struct RawEntry {
  std::vector<ByteSpan> pieces;
  int64_t size_bytes = 0;
};

class Parser {
 public:
  Parser(InferRequest* request, const RequestLimits& limits) : request_(request), limits_(limits) {}

  absl::Status Parse(WireReader reader);

 private:
  absl::Status Field(uint32_t field, WireType type, WireReader* reader);
  absl::Status Input(WireReader reader);
  absl::Status InputField(uint32_t field, WireType type, WireReader* reader, PendingInput* input,
                          Parameters* parameters);
  absl::Status ShapeField(WireType type, WireReader* reader, PendingInput* input);
  absl::Status Output(WireReader reader);
  absl::Status MapEntry(WireReader entry, absl::string_view where, Parameters* parameters);
  absl::Status ParameterValue(WireReader reader, const std::string& key, absl::string_view where,
                              Parameter* value);
  absl::Status CheckTensorParameters(const Parameters& parameters, absl::string_view where) const;
  absl::Status Resolve();
  absl::Status ResolveContents(PendingInput* input, int64_t elements, int64_t bytes);

  static absl::Status Malformed(const WireReader& reader, absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("malformed ModelInferRequest near byte ", reader.offset(), ": ", what));
  }
  static absl::Status Expect(WireType got, WireType want, const WireReader& reader,
                             absl::string_view what) {
    return got == want ? absl::OkStatus()
                       : Malformed(reader, absl::StrCat(what, " has the wrong wire type"));
  }
  absl::Status String(WireType type, WireReader* reader, absl::string_view what,
                      std::string* value) const {
    OCTET_RETURN_IF_ERROR(Expect(type, WireType::kLength, *reader, what));
    if (reader->ReadString(limits_.max_name_bytes, value)) return absl::OkStatus();
    return Malformed(*reader, absl::StrCat(what, " is cut short, not UTF-8 or longer than ",
                                           limits_.max_name_bytes, " bytes"));
  }
  template <typename T>
  absl::Status CheckCount(const std::vector<T>& items, absl::string_view what) const {
    if (static_cast<int>(items.size()) < limits_.max_tensors) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("more than ", limits_.max_tensors, " ", what));
  }

  InferRequest* request_;
  const RequestLimits& limits_;
  std::vector<PendingInput> inputs_;
  std::vector<RawEntry> raw_;
};

absl::Status Parser::Parse(WireReader reader) {
  while (!reader.AtEnd()) {
    uint32_t field = 0;
    WireType type{};
    if (!reader.ReadTag(&field, &type)) return Malformed(reader, "bad field tag");
    OCTET_RETURN_IF_ERROR(Field(field, type, &reader));
  }
  return Resolve();
}

absl::Status Parser::Field(uint32_t field, WireType type, WireReader* reader) {
  WireReader range;
  switch (field) {
    case 1:
      return String(type, reader, "model_name", &request_->model_name);
    case 2:
      return String(type, reader, "model_version", &request_->model_version);
    case 3:
      return String(type, reader, "id", &request_->id);
    case 4:
    case 5:
    case 6:
      OCTET_RETURN_IF_ERROR(Expect(type, WireType::kLength, *reader, "a submessage"));
      if (!reader->ReadRange(&range)) return Malformed(*reader, "a submessage is cut short");
      if (field == 4) return MapEntry(range, "request", &request_->parameters);
      return field == 5 ? Input(range) : Output(range);
    case 7: {
      OCTET_RETURN_IF_ERROR(CheckCount(raw_, "entries in raw_input_contents"));
      OCTET_RETURN_IF_ERROR(Expect(type, WireType::kLength, *reader, "raw_input_contents"));
      RawEntry& entry = raw_.emplace_back();
      if (!reader->ReadPieces(&entry.pieces, &entry.size_bytes)) {
        return Malformed(*reader,
                         absl::StrCat("raw_input_contents[", raw_.size() - 1, "] is cut short"));
      }
      return absl::OkStatus();
    }
    default:
      return reader->SkipValue(type) ? absl::OkStatus()
                                     : Malformed(*reader, absl::StrCat("field ", field));
  }
}

absl::Status Parser::Input(WireReader reader) {
  OCTET_RETURN_IF_ERROR(CheckCount(inputs_, "inputs"));
  PendingInput& input = inputs_.emplace_back();
  Parameters parameters;
  while (!reader.AtEnd()) {
    uint32_t field = 0;
    WireType type{};
    if (!reader.ReadTag(&field, &type)) return Malformed(reader, "bad field tag in an input");
    OCTET_RETURN_IF_ERROR(InputField(field, type, &reader, &input, &parameters));
  }
  return CheckTensorParameters(parameters, absl::StrCat("input '", input.tensor.name, "'"));
}

absl::Status Parser::InputField(uint32_t field, WireType type, WireReader* reader,
                                PendingInput* input, Parameters* parameters) {
  WireReader range;
  switch (field) {
    case 1:
      return String(type, reader, "an input's name", &input->tensor.name);
    case 2:
      return String(type, reader, "an input's datatype", &input->datatype);
    case 3:
      return ShapeField(type, reader, input);
    case 4:
      OCTET_RETURN_IF_ERROR(Expect(type, WireType::kLength, *reader, "an input's parameters"));
      if (!reader->ReadRange(&range))
        return Malformed(*reader, "an input's parameters are cut short");
      return MapEntry(range, "input", parameters);
    case 5:
      OCTET_RETURN_IF_ERROR(Expect(type, WireType::kLength, *reader, "an input's contents"));
      if (!reader->ReadRange(&range))
        return Malformed(*reader, "an input's contents are cut short");
      if (input->contents.size() == kMaxContentsOccurrences) {
        return absl::InvalidArgumentError(
            absl::StrCat("an input has more than ", kMaxContentsOccurrences, " contents"));
      }
      input->contents.push_back(range);
      return absl::OkStatus();
    default:
      return reader->SkipValue(type) ? absl::OkStatus()
                                     : Malformed(*reader, absl::StrCat("input field ", field));
  }
}

absl::Status Parser::ShapeField(WireType type, WireReader* reader, PendingInput* input) {
  WireReader packed = *reader;
  if (type == WireType::kLength) {
    if (!reader->ReadRange(&packed)) return Malformed(*reader, "a shape is cut short");
  } else if (type != WireType::kVarint) {
    return Malformed(*reader, "a shape has the wrong wire type");
  }
  bool once = type == WireType::kVarint;
  while (once || !packed.AtEnd()) {
    uint64_t dim = 0;
    WireReader* from = once ? reader : &packed;
    if (!from->ReadVarint(&dim)) return Malformed(*from, "a shape is cut short");
    if (input->tensor.shape.size() == kMaxRank) {
      return absl::InvalidArgumentError(
          absl::StrCat("an input has more than ", kMaxRank, " dimensions"));
    }
    input->tensor.shape.push_back(static_cast<int64_t>(dim));
    if (once) break;
  }
  return absl::OkStatus();
}

absl::Status Parser::Output(WireReader reader) {
  OCTET_RETURN_IF_ERROR(CheckCount(request_->outputs, "requested outputs"));
  std::string& name = request_->outputs.emplace_back();
  Parameters parameters;
  while (!reader.AtEnd()) {
    uint32_t field = 0;
    WireType type{};
    WireReader range;
    if (!reader.ReadTag(&field, &type))
      return Malformed(reader, "bad field tag in a requested output");
    if (field == 1) {
      OCTET_RETURN_IF_ERROR(String(type, &reader, "a requested output's name", &name));
    } else if (field == 2) {
      OCTET_RETURN_IF_ERROR(Expect(type, WireType::kLength, reader, "an output's parameters"));
      if (!reader.ReadRange(&range))
        return Malformed(reader, "an output's parameters are cut short");
      OCTET_RETURN_IF_ERROR(MapEntry(range, "output", &parameters));
    } else if (!reader.SkipValue(type)) {
      return Malformed(reader, absl::StrCat("output field ", field));
    }
  }
  return CheckTensorParameters(parameters, absl::StrCat("output '", name, "'"));
}

absl::Status Parser::MapEntry(WireReader entry, absl::string_view where, Parameters* parameters) {
  std::string key;
  Parameter value;
  bool has_value = false;
  while (!entry.AtEnd()) {
    uint32_t field = 0;
    WireType type{};
    WireReader range;
    if (!entry.ReadTag(&field, &type)) return Malformed(entry, "bad field tag in parameters");
    if (field == 1) {
      OCTET_RETURN_IF_ERROR(String(type, &entry, "a parameter's key", &key));
    } else if (field == 2) {
      OCTET_RETURN_IF_ERROR(Expect(type, WireType::kLength, entry, "a parameter"));
      if (!entry.ReadRange(&range)) return Malformed(entry, "a parameter is cut short");
      OCTET_RETURN_IF_ERROR(ParameterValue(range, key, where, &value));
      has_value = true;
    } else if (!entry.SkipValue(type)) {
      return Malformed(entry, "a parameter's entry");
    }
  }
  if (!has_value) {
    return absl::InvalidArgumentError(absl::StrCat(where, " parameter '", key, "' has no value"));
  }
  if (static_cast<int>(parameters->size()) >= limits_.max_parameters) {
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", limits_.max_parameters, " parameters"));
  }
  (*parameters)[key] = std::move(value);
  return absl::OkStatus();
}

absl::Status Parser::ParameterValue(WireReader reader, const std::string& key,
                                    absl::string_view where, Parameter* value) {
  bool found = false;
  while (!reader.AtEnd()) {
    uint32_t field = 0;
    WireType type{};
    uint64_t bits = 0;
    std::string text;
    if (!reader.ReadTag(&field, &type)) return Malformed(reader, "bad field tag in a parameter");
    bool ok = true;
    if (field == 1 || field == 2 || field == 5) {
      ok = type == WireType::kVarint && reader.ReadVarint(&bits);
      if (field == 1) *value = bits != 0;
      if (field == 2) *value = static_cast<int64_t>(bits);
      if (field == 5) *value = bits;
    } else if (field == 3) {
      OCTET_RETURN_IF_ERROR(String(type, &reader, "a parameter's value", &text));
      *value = std::move(text);
    } else if (field == 4) {
      ok = type == WireType::kFixed64 && reader.ReadFixed64(&bits);
      double number = 0;
      std::copy_n(reinterpret_cast<const char*>(&bits), sizeof(number),
                  reinterpret_cast<char*>(&number));
      *value = number;
    } else {
      ok = reader.SkipValue(type);
    }
    if (!ok) return Malformed(reader, absl::StrCat("parameter '", key, "'"));
    found = found || field <= 5;
  }
  if (found) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(where, " parameter '", key, "' has no value"));
}

absl::Status Parser::CheckTensorParameters(const Parameters& parameters,
                                           absl::string_view where) const {
  for (absl::string_view key : {"shared_memory_region", "classification"}) {
    if (parameters.contains(key)) {
      return absl::UnimplementedError(
          absl::StrCat(where, ": parameter '", key, "' is not supported"));
    }
  }
  return absl::OkStatus();
}

absl::Status Parser::Resolve() {
  for (absl::string_view key : {"sequence_id", "sequence_start", "sequence_end"}) {
    if (request_->parameters.contains(key)) {
      return absl::UnimplementedError(
          absl::StrCat("parameter '", key, "': sequences are not supported"));
    }
  }
  if (!raw_.empty() && raw_.size() != inputs_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("raw_input_contents has ", raw_.size(),
                                                   " entries for ", inputs_.size(), " inputs"));
  }
  for (size_t i = 0; i < inputs_.size(); ++i) {
    PendingInput& input = inputs_[i];
    InputTensor& tensor = input.tensor;
    const std::string where = absl::StrCat("input '", tensor.name, "'");
    tensor.dtype = DTypeFromWire(input.datatype);
    if (tensor.dtype == DType::kInvalid) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": datatype '", input.datatype, "' is unknown or not supported"));
    }
    const absl::StatusOr<int64_t> bytes = CheckedByteSize(tensor.dtype, tensor.shape);
    if (!bytes.ok()) return Annotate(bytes.status(), where);
    if (raw_.empty()) {
      OCTET_RETURN_IF_ERROR(ResolveContents(&input, NumElements(tensor.shape), *bytes));
    } else {
      if (!input.contents.empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, " has contents although raw_input_contents is used"));
      }
      if (raw_[i].size_bytes != *bytes) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, ": raw content has ", raw_[i].size_bytes, " bytes, ",
                         input.datatype, " ", ShapeString(tensor.shape), " needs ", *bytes));
      }
      tensor.pieces = std::move(raw_[i].pieces);
      tensor.size_bytes = *bytes;
    }
    request_->inputs.push_back(std::move(tensor));
  }
  return absl::OkStatus();
}

absl::Status Parser::ResolveContents(PendingInput* input, int64_t elements, int64_t bytes) {
  InputTensor& tensor = input->tensor;
  if (input->contents.empty() && bytes > 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "input '", tensor.name, "' has no data: neither contents nor raw_input_contents"));
  }
  // Each element takes at least one byte on the wire, so a shape beyond the message is refused
  // before allocating.
  int64_t wire_bytes = 0;
  for (const WireReader& contents : input->contents) wire_bytes += contents.remaining();
  if (elements > wire_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("input '", tensor.name, "': contents hold fewer elements than shape ",
                     ShapeString(tensor.shape), " needs (", elements, ")"));
  }
  if (bytes > limits_.max_decoded_bytes - (request_->held_bytes)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "input '", tensor.name, "': ", bytes, " bytes of typed contents exceed the limit of ",
        limits_.max_decoded_bytes, "; send raw_input_contents"));
  }
  OCTET_ASSIGN_OR_RETURN(Buffer buffer,
                         DecodeTypedContents(tensor.name, tensor.dtype, elements, input->contents));
  if (bytes > 0) tensor.pieces = {ByteSpan(buffer.data(), static_cast<size_t>(bytes))};
  tensor.size_bytes = bytes;
  request_->held_bytes += bytes;
  request_->decoded.push_back(std::move(buffer));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<InferRequest> ParseInferRequest(WireMessage message, const RequestLimits& limits) {
  InferRequest request;
  WireReader reader(message.slices);
  const int64_t wire_bytes = reader.remaining();
  OCTET_RETURN_IF_ERROR(Parser(&request, limits).Parse(reader));
  request.held_bytes += wire_bytes;
  request.wire = std::move(message.owner);
  return request;
}

}  // namespace octet::server
