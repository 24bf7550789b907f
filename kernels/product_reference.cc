// Plain copies of constants for reference kernels.
#include "kernels/product_reference.h"

#include <cstring>
#include <utility>

#include "base/status.h"

namespace octet::kernels {

absl::StatusOr<std::shared_ptr<const PackedWeights>> PlainCopy(const ConstantSpec& constant,
                                                               const KernelEnv& env) {
  const auto pack = [&]() -> absl::StatusOr<PackedWeights> {
    if (!constant.tensor.valid())
      return absl::UnimplementedError("the constant was released after packing");
    PackedWeights packed;
    OCTET_ASSIGN_OR_RETURN(packed.data, Buffer::Allocate(constant.tensor.size_bytes()));
    if (constant.tensor.size_bytes() > 0) {
      std::memcpy(packed.data.data(), constant.tensor.data(),
                  static_cast<size_t>(constant.tensor.size_bytes()));
    }
    packed.layout = "plain";
    packed.detail = constant.tensor.dtype();
    return packed;
  };
  WeightStore own;
  WeightStore& store = env.weights != nullptr ? *env.weights : own;
  return store.GetOrPack(absl::StrCat(constant.id, "/reference/plain"), pack);
}

}  // namespace octet::kernels
