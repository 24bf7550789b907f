// What convolution and matrix product share on oneDNN: attributes of the fused tail, packed weights
// that all batch buckets use, and constant vectors that live in the weight store.
//
//   dst = round_half_even(post_ops(scales[n] * acc[n] + bias[n]) / dst_scale) + dst_zero_point
//   scales[n] = src_scale * weights_scale[n] (* alpha)
//
// The source's scale is folded into the weights' scales, so that a primitive has one vector less to
// read.
#ifndef OCTET_KERNELS_ONEDNN_PRODUCT_H_
#define OCTET_KERNELS_ONEDNN_PRODUCT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/onednn.h"
#include "kernels/runtime_quant.h"

namespace octet::kernels {

// An element function in oneDNN's terms. Errors: kUnimplemented when oneDNN has no such function.
struct Eltwise {
  dnnl::algorithm algorithm;
  float alpha = 0;
  float beta = 0;
};
absl::StatusOr<Eltwise> EltwiseOf(const Activation& activation);

// True when rounding and saturating into dst gives the same integers with and without the
// activation in front: ReLU into u8 with zero point 0, Clip whose bounds lie outside of what dst
// can hold.
bool SaturationGives(const Activation& activation, const TensorSpec& dst);

// Appends post_ops; a last activation that saturation gives for free is left out.
absl::Status AppendPostOps(absl::Span<const PostOp> post_ops, const TensorSpec& dst,
                           dnnl::post_ops& out);

// Collects the constant arguments of a primitive together with their owners.
class ConstantArguments {
 public:
  // `env.weights` may be null (constant folding): the constants then belong to the kernel alone.
  explicit ConstantArguments(const KernelEnv& env);

  WeightStore& store() { return *store_; }

  void Add(int dnnl_arg, const dnnl::memory::desc& desc,
           std::shared_ptr<const PackedWeights> packed);

  // A f32 vector that depends on values only; key "<id>/<role>/<fingerprint of values>".
  absl::Status AddFloats(int dnnl_arg, int id, absl::string_view role, std::vector<float> values);
  absl::Status AddInt(int dnnl_arg, int id, absl::string_view role, int32_t value);

  // The bias as f32 reals times `factor`, `n` elements (one element is repeated); desc has dims [1,
  // ..., 1, n] of `rank`.
  struct Bias {
    const ConstantSpec& constant;
    absl::string_view role;
    int64_t n;
    int rank;
    float factor = 1;
  };
  absl::Status AddBias(const Bias& bias);

  // Sets the zero points and the dst scale of attr (scales of the weights are the caller's) and
  // adds their arguments.
  absl::Status AddQuantization(const TensorSpec& src, const TensorSpec& dst, int id,
                               absl::string_view role, dnnl::primitive_attr& attr);

  void MoveInto(DnnlKernelParts& parts);

 private:
  std::unique_ptr<WeightStore> own_;
  WeightStore* store_;
  std::vector<DnnlArgument> arguments_;
  std::vector<std::shared_ptr<const void>> owners_;
  std::vector<const void*> constants_;
};

// Sets scale and zero point of a source whose quantization is computed at run time, and appends
// their arguments to `parts`.
absl::Status AddRuntimeQuant(const RuntimeQuant& quant, DnnlKernelParts& parts,
                             dnnl::primitive_attr& attr);

// scales[n] = factor * weights_scale[n or 0].
std::vector<float> FoldScales(const QuantParams& weights, int64_t n, float factor);

// Makes the primitive descriptor for a weights layout: that of the copy that another specialisation
// has packed (keys that start with `prefix`), else what oneDNN likes best (`any`). A second copy in
// another layout is allowed only where the first would fall to oneDNN's reference; once `tensor`
// has been released it is made from the first copy.
using MakePd = absl::FunctionRef<absl::StatusOr<dnnl::primitive_desc>(const dnnl::memory::desc&)>;
absl::StatusOr<dnnl::primitive_desc> ChooseWeightsLayout(const WeightStore& store,
                                                         absl::string_view prefix,
                                                         const dnnl::memory::desc& any,
                                                         const Tensor& tensor, MakePd make);

// The weights in layout `packed`, reordered from `plain` at most once; key prefix + printable
// layout.
absl::StatusOr<std::shared_ptr<const PackedWeights>> PackWeights(WeightStore& store,
                                                                 absl::string_view prefix,
                                                                 const Tensor& tensor,
                                                                 const dnnl::memory::desc& plain,
                                                                 const dnnl::memory::desc& packed);

// `plain` weights reordered into `packed`, with what oneDNN puts behind the elements (compensation).
absl::StatusOr<Buffer> ReorderedWeights(const dnnl::memory::desc& plain, const std::byte* weights,
                                        const dnnl::memory::desc& packed);

// The reverse: the elements of `packed` in the order of `plain`. Errors: kUnimplemented for layouts that cannot be read back
// (those with compensation, without VNNI).
absl::StatusOr<Buffer> UnpackedWeights(const dnnl::memory::desc& packed, const std::byte* weights,
                                       const dnnl::memory::desc& plain);

// Bytes of the elements of a layout, padding included.
int64_t PaddedBytes(const dnnl::memory::desc& desc);

// "ABcd16b64a4b+512" (bytes beyond the padded elements: compensation).
std::string LayoutString(const dnnl::memory::desc& desc);

// True when oneDNN computes u8 x s8 products in s32. Without VNNI it adds pairs of products in s16,
// which saturates, and halves the weights of s8 sources: results are right only for u8 sources with
// 7-bit weights.
bool HasVnni();

// Any refusal of oneDNN after our own validation is a reason to try the next implementation.
absl::Status AsRefusal(const absl::Status& status);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_ONEDNN_PRODUCT_H_
