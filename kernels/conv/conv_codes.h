// Convolution weights of less than 8 bits as codes of the bytes that a oneDNN primitive reads as s8 weights, which all
// implementations of such convolutions share: "<id>/conv_codes/<layout>" in the weight store. Internal to this folder.
#ifndef OCTET_KERNELS_CONV_CONV_CODES_H_
#define OCTET_KERNELS_CONV_CONV_CODES_H_

#include <memory>
#include <optional>
#include <vector>

#include "kernels/code_stream.h"
#include "kernels/conv/conv.h"
#include "kernels/narrow_weights.h"
#include "kernels/onednn_product.h"

namespace octet::kernels {

// The order [O / (16 columns)][tap][I / 4][column][16][4] of s8 weights, which oneDNN likes on AMX. Their codes lie column
// after column, so that 16 outputs are a run of the stream: panels [O / 16][tap][I / 4].
struct ConvPanels {
  int64_t columns = 1;
  int64_t taps = 1;
  int64_t quads = 0;  // of input channels
  int64_t height() const { return taps * quads; }  // chunks of the stream
};

// Codes with the layout of the s8 weights that they decode to: PackedWeights::detail. Without panels the stream has the order
// of the layout.
struct ConvCodes {
  dnnl::memory::desc desc;
  CodeStream stream;
  std::optional<ConvPanels> panels;
};

// The primitive descriptor for the layout of the codes that another specialisation has packed, else for the best one;
// as ChooseWeightsLayout, but a second copy needs the tensor.
absl::StatusOr<dnnl::primitive_desc> ChooseConvCodesLayout(const WeightStore& store, absl::string_view prefix,
                                                           const dnnl::memory::desc& any, const Tensor& tensor, MakePd make);

// The s8 weights that the first copy of the codes decodes to: what is left of them once the tensor has been released.
absl::StatusOr<Tensor> DecodedConvCodes(const WeightStore& store, absl::string_view prefix, const dnnl::memory::desc& plain,
                                        const Shape& shape);

// Packs `tensor` (as `weights` describes it) in the layout `packed` of s8 weights. Errors: kUnimplemented when the tensor was
// released, or when the layout does not keep together what codes or scales share.
absl::StatusOr<PackedWeights> PackConvCodes(const TensorSpec& weights, const ChannelScales& scales, const Tensor& tensor,
                                            const dnnl::memory::desc& plain, const dnnl::memory::desc& packed);

// What "onednn_codes" would run on: codes (detail: ConvCodes), real scales of the sums per output channel, bias (f32 reals) or
// nullptr. `owners` keep the vectors. Requires: p.src.quant. Errors: those of the entry.
struct ConvCodesOperands {
  std::shared_ptr<const PackedWeights> codes;
  const float* scales = nullptr;
  const float* bias = nullptr;
  std::vector<std::shared_ptr<const void>> owners;
};
absl::StatusOr<ConvCodesOperands> OneDnnConvCodes(const ConvParams& params, const KernelEnv& env);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_CONV_CONV_CODES_H_
