// The table of datatype names.
#include "client/datatype.h"

namespace octet::client {
namespace {

struct Named {
  DType dtype;
  absl::string_view name;
};
constexpr Named kNames[] = {
    {DType::kF32, "FP32"},   {DType::kF64, "FP64"},   {DType::kF16, "FP16"},
    {DType::kBF16, "BF16"},  {DType::kS8, "INT8"},    {DType::kU8, "UINT8"},
    {DType::kS16, "INT16"},  {DType::kU16, "UINT16"}, {DType::kS32, "INT32"},
    {DType::kU32, "UINT32"}, {DType::kS64, "INT64"},  {DType::kU64, "UINT64"},
    {DType::kBool, "BOOL"},
};

}  // namespace

absl::string_view DatatypeOf(DType dtype) {
  for (const Named& named : kNames) {
    if (named.dtype == dtype) return named.name;
  }
  return "";
}

DType DTypeOf(absl::string_view datatype) {
  for (const Named& named : kNames) {
    if (named.name == datatype) return named.dtype;
  }
  return DType::kInvalid;
}

}  // namespace octet::client
