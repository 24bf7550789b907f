// The list of operators that import knows, with every attribute that opsets 7 to 22 (rules_legacy.cc: before) gave them.
#include "onnx/rules.h"

#include <utility>

#include "absl/container/flat_hash_map.h"

namespace octet::onnx_io {
namespace {

constexpr absl::string_view kMs = "com.microsoft";
constexpr absl::string_view kConv =
    "auto_pad:s dilations:I group:i kernel_shape:I pads:I strides:I";
constexpr absl::string_view kReduce = "axes:I keepdims:i noop_with_empty_axes:i";

constexpr Rule kRules[] = {
    // Elementwise, one operand.
    {"", "Abs", 1, 1, 1, "", nullptr},
    {"", "Acos", 1, 1, 1, "", nullptr},
    {"", "Acosh", 1, 1, 1, "", nullptr},
    {"", "Asin", 1, 1, 1, "", nullptr},
    {"", "Asinh", 1, 1, 1, "", nullptr},
    {"", "Atan", 1, 1, 1, "", nullptr},
    {"", "Atanh", 1, 1, 1, "", nullptr},
    {"", "BitwiseNot", 1, 1, 1, "", nullptr},
    {"", "Ceil", 1, 1, 1, "", nullptr},
    {"", "Celu", 1, 1, 1, "alpha:f", nullptr},
    {"", "Cos", 1, 1, 1, "", nullptr},
    {"", "Cosh", 1, 1, 1, "", nullptr},
    {"", "Elu", 1, 1, 1, "alpha:f", nullptr},
    {"", "Erf", 1, 1, 1, "", nullptr},
    {"", "Exp", 1, 1, 1, "", nullptr},
    {"", "Floor", 1, 1, 1, "", nullptr},
    {"", "Gelu", 1, 1, 1, "approximate:s", nullptr},
    {"", "HardSigmoid", 1, 1, 1, "alpha:f beta:f", nullptr},
    {"", "HardSwish", 1, 1, 1, "", nullptr},
    {"", "IsInf", 1, 1, 1, "detect_negative:i detect_positive:i", nullptr},
    {"", "IsNaN", 1, 1, 1, "", nullptr},
    {"", "LeakyRelu", 1, 1, 1, "alpha:f", nullptr},
    {"", "Log", 1, 1, 1, "", nullptr},
    {"", "Mish", 1, 1, 1, "", nullptr},
    {"", "Neg", 1, 1, 1, "", nullptr},
    {"", "Not", 1, 1, 1, "", nullptr},
    {"", "Reciprocal", 1, 1, 1, "", nullptr},
    {"", "Relu", 1, 1, 1, "", nullptr},
    {"", "Round", 1, 1, 1, "", nullptr},
    {"", "Selu", 1, 1, 1, "alpha:f gamma:f", nullptr},
    {"", "Shrink", 1, 1, 1, "bias:f lambd:f", nullptr},
    {"", "Sigmoid", 1, 1, 1, "", nullptr},
    {"", "Sign", 1, 1, 1, "", nullptr},
    {"", "Sin", 1, 1, 1, "", nullptr},
    {"", "Sinh", 1, 1, 1, "", nullptr},
    {"", "Softplus", 1, 1, 1, "", nullptr},
    {"", "Softsign", 1, 1, 1, "", nullptr},
    {"", "Sqrt", 1, 1, 1, "", nullptr},
    {"", "Tan", 1, 1, 1, "", nullptr},
    {"", "Tanh", 1, 1, 1, "", nullptr},
    {"", "ThresholdedRelu", 1, 1, 1, "alpha:f", nullptr},
    // Elementwise, several operands.
    {"", "Add", 2, 2, 1, "", nullptr},
    {"", "And", 2, 2, 1, "", nullptr},
    {"", "BitShift", 2, 2, 1, "direction:s", nullptr},
    {"", "BitwiseAnd", 2, 2, 1, "", nullptr},
    {"", "BitwiseOr", 2, 2, 1, "", nullptr},
    {"", "BitwiseXor", 2, 2, 1, "", nullptr},
    {"", "Clip", 1, 3, 1, "min:f max:f", TranslateClip},
    {"", "Div", 2, 2, 1, "", nullptr},
    {"", "Equal", 2, 2, 1, "", nullptr},
    {"", "Greater", 2, 2, 1, "", nullptr},
    {"", "GreaterOrEqual", 2, 2, 1, "", nullptr},
    {"", "Less", 2, 2, 1, "", nullptr},
    {"", "LessOrEqual", 2, 2, 1, "", nullptr},
    {"", "Max", 1, kAnyNumber, 1, "", nullptr},
    {"", "Mean", 1, kAnyNumber, 1, "", TranslateSum},
    {"", "Min", 1, kAnyNumber, 1, "", nullptr},
    {"", "Mod", 2, 2, 1, "fmod:i", nullptr},
    {"", "Mul", 2, 2, 1, "", nullptr},
    {"", "Or", 2, 2, 1, "", nullptr},
    {"", "PRelu", 2, 2, 1, "", nullptr},
    {"", "Pow", 2, 2, 1, "", nullptr},
    {"", "Sub", 2, 2, 1, "", nullptr},
    {"", "Sum", 1, kAnyNumber, 1, "", TranslateSum},
    {"", "Where", 3, 3, 1, "", nullptr},
    {"", "Xor", 2, 2, 1, "", nullptr},
    // Layers.
    {"", "AveragePool", 1, 1, 1,
     "auto_pad:s ceil_mode:i count_include_pad:i dilations:I kernel_shape:I pads:I strides:I",
     nullptr},
    {"", "BatchNormalization", 5, 5, kAnyNumber, "epsilon:f momentum:f spatial:i training_mode:i",
     TranslateBatchNormalization},
    {"", "Conv", 2, 3, 1, kConv, nullptr},
    {"", "ConvTranspose", 2, 3, 1,
     "auto_pad:s dilations:I group:i kernel_shape:I output_padding:I output_shape:I pads:I "
     "strides:I",
     nullptr},
    {"", "Dropout", 1, 3, 2, "ratio:f seed:i", TranslateDropout},
    {"", "Einsum", 1, kAnyNumber, 1, "equation:s", nullptr},
    {"", "Gemm", 2, 3, 1, "alpha:f beta:f transA:i transB:i", nullptr},
    {"", "GlobalAveragePool", 1, 1, 1, "", nullptr},
    {"", "GlobalMaxPool", 1, 1, 1, "", nullptr},
    {"", "GroupNormalization", 3, 3, 1, "epsilon:f num_groups:i stash_type:i", TranslateGroupNormalization},
    {"", "Hardmax", 1, 1, 1, "axis:i", TranslateSoftmax},
    {"", "InstanceNormalization", 3, 3, 1, "epsilon:f", nullptr},
    {"", "LRN", 1, 1, 1, "alpha:f beta:f bias:f size:i", nullptr},
    {"", "LayerNormalization", 2, 3, 3, "axis:i epsilon:f stash_type:i", nullptr},
    {"", "LogSoftmax", 1, 1, 1, "axis:i", TranslateSoftmax},
    {"", "LpNormalization", 1, 1, 1, "axis:i p:i", nullptr},
    {"", "MatMul", 2, 2, 1, "", nullptr},
    {"", "MaxPool", 1, 1, 2,
     "auto_pad:s ceil_mode:i dilations:I kernel_shape:I pads:I storage_order:i strides:I",
     TranslateMaxPool},
    {"", "MeanVarianceNormalization", 1, 1, 1, "axes:I", nullptr},
    {"", "Softmax", 1, 1, 1, "axis:i", TranslateSoftmax},
    // Reductions.
    {"", "ArgMax", 1, 1, 1, "axis:i keepdims:i select_last_index:i", nullptr},
    {"", "ArgMin", 1, 1, 1, "axis:i keepdims:i select_last_index:i", nullptr},
    {"", "CumSum", 2, 2, 1, "exclusive:i reverse:i", nullptr},
    {"", "ReduceL1", 1, 2, 1, kReduce, TranslateReduce},
    {"", "ReduceL2", 1, 2, 1, kReduce, TranslateReduce},
    {"", "ReduceLogSum", 1, 2, 1, kReduce, TranslateReduce},
    {"", "ReduceLogSumExp", 1, 2, 1, kReduce, TranslateReduce},
    {"", "ReduceMax", 1, 2, 1, kReduce, TranslateReduce},
    {"", "ReduceMean", 1, 2, 1, kReduce, TranslateReduce},
    {"", "ReduceMin", 1, 2, 1, kReduce, TranslateReduce},
    {"", "ReduceProd", 1, 2, 1, kReduce, TranslateReduce},
    {"", "ReduceSum", 1, 2, 1, kReduce, TranslateReduce},
    {"", "ReduceSumSquare", 1, 2, 1, kReduce, TranslateReduce},
    {"", "TopK", 1, 2, 2, "axis:i k:i largest:i sorted:i", TranslateTopK},
    // Movement and shapes.
    {"", "Cast", 1, 1, 1, "to:i saturate:i", TranslateCast},
    {"", "CastLike", 2, 2, 1, "saturate:i", TranslateCastLike},
    {"", "Concat", 1, kAnyNumber, 1, "axis:i", nullptr},
    {"", "Constant", 0, 0, 1, "value:t value_float:f value_floats:F value_int:i value_ints:I",
     TranslateConstant},
    {"", "ConstantOfShape", 1, 1, 1, "value:t", nullptr},
    {"", "DepthToSpace", 1, 1, 1, "blocksize:i mode:s", nullptr},
    {"", "Det", 1, 1, 1, "", nullptr},
    {"", "Expand", 2, 2, 1, "", nullptr},
    {"", "EyeLike", 1, 1, 1, "dtype:i k:i", nullptr},
    {"", "Flatten", 1, 1, 1, "axis:i", nullptr},
    {"", "Gather", 2, 2, 1, "axis:i", nullptr},
    {"", "GatherElements", 2, 2, 1, "axis:i", nullptr},
    {"", "GatherND", 2, 2, 1, "batch_dims:i", nullptr},
    {"", "Identity", 1, 1, 1, "", TranslateIdentity},
    {"", "OneHot", 3, 3, 1, "axis:i", nullptr},
    {"", "Pad", 1, 4, 1, "mode:s pads:I value:f", TranslatePad},
    {"", "Range", 3, 3, 1, "", nullptr},
    {"", "Reshape", 2, 2, 1, "allowzero:i", TranslateReshape},
    {"", "Resize", 1, 4, 1,
     "antialias:i axes:I coordinate_transformation_mode:s cubic_coeff_a:f exclude_outside:i "
     "extrapolation_value:f keep_aspect_ratio_policy:s mode:s nearest_mode:s",
     TranslateResize},
    {"", "ReverseSequence", 2, 2, 1, "batch_axis:i time_axis:i", nullptr},
    {"", "Scatter", 3, 3, 1, "axis:i", TranslateScatter},
    {"", "ScatterElements", 3, 3, 1, "axis:i reduction:s", nullptr},
    {"", "ScatterND", 3, 3, 1, "reduction:s", nullptr},
    {"", "Shape", 1, 1, 1, "start:i end:i", nullptr},
    {"", "Size", 1, 1, 1, "", nullptr},
    {"", "Slice", 1, 5, 1, "axes:I ends:I starts:I", TranslateSlice},
    {"", "SpaceToDepth", 1, 1, 1, "blocksize:i", nullptr},
    {"", "Split", 1, 2, kAnyNumber, "axis:i split:I num_outputs:i", TranslateSplit},
    {"", "Squeeze", 1, 2, 1, "axes:I", TranslateAxes},
    {"", "Tile", 2, 2, 1, "", nullptr},
    {"", "Transpose", 1, 1, 1, "perm:I", nullptr},
    {"", "Trilu", 1, 2, 1, "upper:i", nullptr},
    {"", "Unsqueeze", 1, 2, 1, "axes:I", TranslateAxes},
    {"", "Upsample", 1, 2, 1, "mode:s scales:F", TranslateUpsample},
    // Results whose size depends on content.
    {"", "Compress", 2, 2, 1, "axis:i", nullptr},
    {"", "NonMaxSuppression", 2, 5, 1, "center_point_box:i", nullptr},
    {"", "NonZero", 1, 1, 1, "", nullptr},
    {"", "Unique", 1, 1, 4, "axis:i sorted:i", nullptr},
    // Control flow.
    {"", "If", 1, 1, kAnyNumber, "else_branch:g then_branch:g", TranslateControlFlow},
    {"", "Loop", 0, kAnyNumber, kAnyNumber, "body:g", TranslateControlFlow},
    {"", "Scan", 0, kAnyNumber, kAnyNumber,
     "body:g directions:I num_scan_inputs:i scan_input_axes:I scan_input_directions:I "
     "scan_output_axes:I scan_output_directions:I",
     TranslateControlFlow},
    // Sampling, regions and signals.
    {"", "AffineGrid", 2, 2, 1, "align_corners:i", nullptr},
    {"", "BlackmanWindow", 1, 1, 1, "output_datatype:i periodic:i", nullptr},
    {"", "CenterCropPad", 2, 2, 1, "axes:I", nullptr},
    {"", "Col2Im", 3, 3, 1, "dilations:I pads:I strides:I", nullptr},
    {"", "DFT", 1, 3, 1, "axis:i inverse:i onesided:i", TranslateDft},
    {"", "DeformConv", 3, 5, 1,
     "dilations:I group:i kernel_shape:I offset_group:i pads:I strides:I", nullptr},
    {"", "GlobalLpPool", 1, 1, 1, "p:i", nullptr},
    {"", "GridSample", 2, 2, 1, "align_corners:i mode:s padding_mode:s", TranslateGridSample},
    {"", "HammingWindow", 1, 1, 1, "output_datatype:i periodic:i", nullptr},
    {"", "HannWindow", 1, 1, 1, "output_datatype:i periodic:i", nullptr},
    {"", "LpPool", 1, 1, 1,
     "auto_pad:s ceil_mode:i dilations:I kernel_shape:I p:i pads:I strides:I", nullptr},
    {"", "MaxRoiPool", 2, 2, 1, "pooled_shape:I spatial_scale:f", nullptr},
    {"", "MaxUnpool", 2, 3, 1, "kernel_shape:I pads:I strides:I", nullptr},
    {"", "MelWeightMatrix", 5, 5, 1, "output_datatype:i", nullptr},
    {"", "RoiAlign", 3, 3, 1,
     "coordinate_transformation_mode:s mode:s output_height:i output_width:i sampling_ratio:i "
     "spatial_scale:f",
     TranslateRoiAlign},
    {"", "STFT", 2, 4, 1, "onesided:i", nullptr},
    {"", "TfIdfVectorizer", 1, 1, 1,
     "max_gram_length:i max_skip_count:i min_gram_length:i mode:s ngram_counts:I ngram_indexes:I "
     "pool_int64s:I pool_strings:S weights:F",
     TranslateTfIdf},
    // Quantization.
    {"", "ConvInteger", 2, 4, 1, kConv, TranslateIntegerProduct},
    {"", "DequantizeLinear", 2, 3, 1, "axis:i block_size:i", TranslateDequantizeLinear},
    {"", "DynamicQuantizeLinear", 1, 1, 3, "", nullptr},
    {"", "MatMulInteger", 2, 4, 1, "", TranslateIntegerProduct},
    {"", "QLinearConv", 8, 9, 1, kConv, TranslateQLinearConv},
    {"", "QLinearMatMul", 8, 8, 1, "", TranslateQLinearMatMul},
    {"", "QuantizeLinear", 2, 3, 1, "axis:i block_size:i output_dtype:i saturate:i",
     TranslateQuantizeLinear},
    {kMs, "BiasGelu", 2, 2, 1, "", TranslateMicrosoftGelu},
    {kMs, "DequantizeLinear", 2, 3, 1, "axis:i block_size:i", TranslateDequantizeLinear},
    {kMs, "DynamicQuantizeMatMul", 3, 5, 1, "", TranslateDynamicQuantizeMatMul},
    {kMs, "FastGelu", 1, 2, 1, "", TranslateMicrosoftGelu},
    {kMs, "FusedConv", 2, 4, 1,
     "auto_pad:s dilations:I group:i kernel_shape:I pads:I strides:I activation:s "
     "activation_params:F",
     TranslateFusedConv},
    {kMs, "FusedGemm", 2, 3, 1,
     "alpha:f beta:f transA:i transB:i activation:s activation_alpha:f activation_beta:f "
     "activation_gamma:f",
     TranslateFusedGemm},
    {kMs, "FusedMatMul", 2, 2, 1, "alpha:f transA:i transB:i transBatchA:i transBatchB:i",
     TranslateFusedMatMul},
    {kMs, "Gelu", 1, 1, 1, "", TranslateMicrosoftGelu},
    {kMs, "MatMulIntegerToFloat", 4, 7, 1, "", TranslateMatMulIntegerToFloat},
    {kMs, "MatMulNBits", 3, 6, 1, "K:i N:i accuracy_level:i bits:i block_size:i",
     TranslateMatMulNBits},
    {kMs, "QGemm", 6, 9, 1, "alpha:f transA:i transB:i", TranslateQGemm},
    {kMs, "QLinearAdd", 7, 8, 1, "", TranslateQLinearBinary},
    {kMs, "QLinearAveragePool", 4, 5, 1,
     "auto_pad:s ceil_mode:i channels_last:i count_include_pad:i kernel_shape:I pads:I strides:I",
     TranslateQLinearUnary},
    {kMs, "QLinearConcat", 5, kAnyNumber, 1, "axis:i", TranslateQLinearConcat},
    {kMs, "QLinearConv", 8, 9, 1,
     "auto_pad:s channels_last:i dilations:I group:i kernel_shape:I pads:I strides:I",
     TranslateQLinearConv},
    {kMs, "QLinearGlobalAveragePool", 4, 5, 1, "channels_last:i", TranslateQLinearUnary},
    {kMs, "QLinearLeakyRelu", 4, 5, 1, "alpha:f", TranslateQLinearUnary},
    {kMs, "QLinearMul", 7, 8, 1, "", TranslateQLinearBinary},
    {kMs, "QLinearReduceMean", 4, 5, 1, "axes:I keepdims:i", TranslateQLinearReduceMean},
    {kMs, "QLinearSigmoid", 4, 5, 1, "", TranslateQLinearUnary},
    {kMs, "QLinearSoftmax", 4, 5, 1, "axis:i opset:i", TranslateQLinearUnary},
    {kMs, "QLinearWhere", 9, 9, 1, "", TranslateQLinearWhere},
    {kMs, "QuickGelu", 1, 1, 1, "alpha:f", TranslateQuickGelu},
    {kMs, "SkipLayerNormalization", 3, 5, 4, "epsilon:f", TranslateSkipLayerNormalization},
    {kMs, "QuantizeLinear", 2, 3, 1, "axis:i block_size:i", TranslateQuantizeLinear},
};

struct Refusal {
  absl::string_view domain, op, reason;
};

constexpr Refusal kRefusals[] = {
    {"", "Affine", "it left ONNX before opset 7"},
    {"", "Crop", "it left ONNX before opset 7"},
    {"", "GRU", "recurrent layers are not supported yet"},
    {"", "ImageScaler", "it left ONNX before opset 7"},
    {"", "LSTM", "recurrent layers are not supported yet"},
    {"", "Optional", "optional types are not supported"},
    {"", "OptionalGetElement", "optional types are not supported"},
    {"", "OptionalHasElement", "optional types are not supported"},
    {"", "ParametricSoftplus", "it left ONNX before opset 7"},
    {"", "RNN", "recurrent layers are not supported yet"},
    {"", "ScaledTanh", "it left ONNX before opset 7"},
    {"", "SequenceAt", "sequences are not supported"},
    {"", "SequenceConstruct", "sequences are not supported"},
    {"", "SequenceEmpty", "sequences are not supported"},
    {"", "SplitToSequence", "sequences are not supported"},
    {"", "StringNormalizer", "strings are not supported"},
    {kMs, "DynamicQuantizeLSTM", "recurrent layers with dynamic quantization are not supported"},
    {kMs, "QAttention", "attention on integers is not supported"},
    {kMs, "QEmbedLayerNormalization", "embeddings on integers are not supported"},
};

}  // namespace

const Rule* FindRule(absl::string_view domain, absl::string_view op) {
  using Key = std::pair<absl::string_view, absl::string_view>;
  static const auto* const kIndex = [] {
    auto* index = new absl::flat_hash_map<Key, const Rule*>();
    for (const Rule& rule : kRules) index->emplace(Key(rule.domain, rule.op), &rule);
    return index;
  }();
  const auto it = kIndex->find(Key(domain, op));
  return it == kIndex->end() ? nullptr : it->second;
}

absl::string_view ReasonNotSupported(absl::string_view domain, absl::string_view op) {
  for (const Refusal& refusal : kRefusals) {
    if (refusal.domain == domain && refusal.op == op) return refusal.reason;
  }
  return "";
}

}  // namespace octet::onnx_io
