// Reading and checking attributes.
#include "onnx/attributes.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace octet::onnx_io {
namespace {

using ::onnx::AttributeProto;

// Kind letter of ReadAttributes' spec, 'g' for a graph, '?' for what we do not read.
char KindOf(const AttributeProto& a) {
  switch (a.type()) {
    case AttributeProto::INT:
      return 'i';
    case AttributeProto::FLOAT:
      return 'f';
    case AttributeProto::STRING:
      return 's';
    case AttributeProto::INTS:
      return 'I';
    case AttributeProto::FLOATS:
      return 'F';
    case AttributeProto::STRINGS:
      return 'S';
    case AttributeProto::TENSOR:
      return 't';
    case AttributeProto::GRAPH:
      return 'g';
    case AttributeProto::UNDEFINED:
      break;
    default:
      return '?';
  }
  // Early files leave the type out: the field that is set tells it.
  if (a.has_i()) return 'i';
  if (a.has_f()) return 'f';
  if (a.has_s()) return 's';
  if (a.has_t()) return 't';
  if (a.has_g()) return 'g';
  if (a.ints_size() > 0) return 'I';
  if (a.floats_size() > 0) return 'F';
  if (a.strings_size() > 0) return 'S';
  return '?';
}

absl::string_view KindName(char kind) {
  switch (kind) {
    case 'i':
      return "an int";
    case 'f':
      return "a float";
    case 's':
      return "a string";
    case 'I':
      return "a list of ints";
    case 'F':
      return "a list of floats";
    case 'S':
      return "a list of strings";
    case 't':
      return "a tensor";
    case 'g':
      return "a graph";
    default:
      return "another kind";
  }
}

// Kind that `spec` gives `name`, or 0.
char KindInSpec(absl::string_view spec, absl::string_view name) {
  for (absl::string_view item : absl::StrSplit(spec, ' ', absl::SkipEmpty())) {
    if (item.size() == name.size() + 2 && item.substr(0, name.size()) == name &&
        item[name.size()] == ':') {
      return item.back();
    }
  }
  return 0;
}

absl::StatusOr<graph::Attribute> Convert(const AttributeProto& a, char kind, TensorSource* source) {
  switch (kind) {
    case 'i':
      return graph::Attribute(int64_t{a.i()});
    case 'f':
      return graph::Attribute(a.f());
    case 's':
      return graph::Attribute(a.s());
    case 'I':
      return graph::Attribute(std::vector<int64_t>(a.ints().begin(), a.ints().end()));
    case 'F':
      return graph::Attribute(std::vector<float>(a.floats().begin(), a.floats().end()));
    case 'S':
      return graph::Attribute(std::vector<std::string>(a.strings().begin(), a.strings().end()));
    default: {
      OCTET_ASSIGN_OR_RETURN(Tensor tensor, LoadTensor(a.t(), source));
      return graph::Attribute(std::move(tensor));
    }
  }
}

}  // namespace

absl::StatusOr<AttributeMap> ReadAttributes(const ::onnx::NodeProto& node, absl::string_view spec,
                                            TensorSource* source) {
  AttributeMap map;
  for (const AttributeProto& a : node.attribute()) {
    const std::string name = absl::CHexEscape(a.name());
    const char kind = KindOf(a);
    const char expected = KindInSpec(spec, a.name());
    if (!a.ref_attr_name().empty()) {
      return absl::UnimplementedError(
          absl::StrCat("attribute '", name, "' refers to a function's attribute"));
    }
    if (expected == 0) {
      return absl::UnimplementedError(
          absl::StrCat("attribute '", name, "' (", KindName(kind), ") is not known"));
    }
    if (kind != expected) {
      return absl::InvalidArgumentError(absl::StrCat(
          "attribute '", name, "': expected ", KindName(expected), ", found ", KindName(kind)));
    }
    if (kind == 'g') continue;  // the importer's, which knows what names stand for
    absl::StatusOr<graph::Attribute> value = Convert(a, kind, source);
    if (!value.ok()) return Annotate(value.status(), absl::StrCat("attribute '", name, "'"));
    if (!map.emplace(a.name(), *std::move(value)).second) {
      return absl::InvalidArgumentError(absl::StrCat("attribute '", name, "' is given twice"));
    }
  }
  return map;
}

}  // namespace octet::onnx_io
