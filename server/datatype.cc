// The table of wire type names.
#include "server/datatype.h"

#include <utility>

namespace octet::server {
namespace {
constexpr std::pair<DType, absl::string_view> kNames[] = {
    {DType::kBool, "BOOL"},  {DType::kU8, "UINT8"},   {DType::kU16, "UINT16"},
    {DType::kU32, "UINT32"}, {DType::kU64, "UINT64"}, {DType::kS8, "INT8"},
    {DType::kS16, "INT16"},  {DType::kS32, "INT32"},  {DType::kS64, "INT64"},
    {DType::kF16, "FP16"},   {DType::kBF16, "BF16"},  {DType::kF32, "FP32"},
    {DType::kF64, "FP64"},
};
}  // namespace

DType DTypeFromWire(absl::string_view name) {
  for (const auto& [dtype, wire] : kNames) {
    if (wire == name) return dtype;
  }
  return DType::kInvalid;
}

absl::string_view WireNameOf(DType dtype) {
  for (const auto& [ours, wire] : kNames) {
    if (ours == dtype) return wire;
  }
  return "";
}

}  // namespace octet::server
