// Shape rules of signal processing and of n-gram counts.
//
// Source: ONNX DFT-20, STFT-17, HannWindow-17, HammingWindow-17, BlackmanWindow-17,
// MelWeightMatrix-17, TfIdfVectorizer-9.
#include <algorithm>

#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

// A scalar operand: a known number, a dimension's symbol, or nothing.
absl::StatusOr<Element> Scalar(const RuleArgs& args, size_t i, absl::string_view what) {
  OCTET_ASSIGN_OR_RETURN(const auto elements, args.Integers(i, what));
  if (!elements.has_value()) return Element();
  if (elements->size() != 1)
    return Invalid(what, " has ", elements->size(), " elements, expected one");
  return elements->front();
}

absl::StatusOr<int64_t> Length(const Element& element, absl::string_view what) {
  if (!element.known) return element.dim;
  if (element.integer < 1) return Invalid(what, " is ", element.integer, ", expected at least 1");
  return CheckedDim(element.integer, what);
}

int64_t Bins(int64_t length, bool onesided) {
  if (!onesided) return length;
  return Known(length) ? length / 2 + 1 : kUnknownDim;
}

absl::StatusOr<Results> Dft(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  OCTET_ASSIGN_OR_RETURN(const Element wanted, Scalar(args, 1, "dft_length"));
  OCTET_ASSIGN_OR_RETURN(const Element axis_element, Scalar(args, 2, "axis"));
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  Shape out = *args.shape(0);
  OCTET_RETURN_IF_ERROR(RequireRank(out, 2, kMaxRank));
  if (Known(out.back()) && out.back() != 1 && out.back() != 2) {
    return Invalid("operand of shape ", Str(out),
                   ", expected 1 (real) or 2 (complex) in its last dimension");
  }
  out.back() = 2;
  if (args.has(2) && !axis_element.known) return One(args.dtype(0), AllUnknown(out.size()));
  OCTET_ASSIGN_OR_RETURN(const int axis,
                         NormalizeAxis(args.has(2) ? axis_element.integer : -2, out.size()));
  if (axis == static_cast<int>(out.size()) - 1)
    return Invalid("axis ", axis, " is that of real and imaginary parts");
  if (args.has(1)) {
    OCTET_ASSIGN_OR_RETURN(out[axis], Length(wanted, "dft_length"));
  }
  out[axis] = Bins(out[axis], args.node.GetInt("onesided", 0) != 0);
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> Stft(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  OCTET_ASSIGN_OR_RETURN(const Element step, Scalar(args, 1, "frame_step"));
  OCTET_ASSIGN_OR_RETURN(const Element declared, Scalar(args, 3, "frame_length"));
  if (args.has(2)) OCTET_RETURN_IF_ERROR(SameType(args, 0, 2));
  if (!args.shape(0).has_value()) return One(args.dtype(0), AllUnknown(4));
  const Shape& x = *args.shape(0);
  OCTET_RETURN_IF_ERROR(RequireRank(x, 2, 3));
  if (x.size() == 3 && Known(x[2]) && x[2] != 1 && x[2] != 2) {
    return Invalid("signal of shape ", Str(x), ", expected [batch, samples, 1 or 2]");
  }
  int64_t frame = x[1];
  if (args.has(3)) {
    OCTET_ASSIGN_OR_RETURN(frame, Length(declared, "frame_length"));
  } else if (args.has(2)) {
    frame = kUnknownDim;
    if (args.shape(2).has_value()) {
      OCTET_RETURN_IF_ERROR(RequireRank(*args.shape(2), 1, 1));
      frame = (*args.shape(2))[0];
    }
  }
  if (args.has(2) && args.shape(2).has_value()) {
    const Shape& window = *args.shape(2);
    if (window.size() != 1 || (Known(window[0]) && Known(frame) && window[0] != frame)) {
      return Invalid("window of shape ", Str(window), " for frames of ", frame);
    }
  }
  int64_t frames = kUnknownDim;
  if (step.known && step.integer < 1)
    return Invalid("frame_step is ", step.integer, ", expected at least 1");
  if (step.known && Known(x[1]) && Known(frame)) {
    if (frame > x[1] || frame < 1)
      return Invalid("frames of ", frame, " from a signal of ", x[1], " samples");
    frames = (x[1] - frame) / step.integer + 1;
  }
  return One(args.dtype(0),
             Shape{x[0], frames, Bins(frame, args.node.GetInt("onesided", 1) != 0), 2});
}

absl::StatusOr<DType> OutputType(const RuleArgs& args) {
  const DType dtype = DTypeOfOnnxCode(args.node.GetInt("output_datatype", 1));
  if (dtype == DType::kInvalid) return Invalid("attribute 'output_datatype' names an unknown type");
  return dtype;
}

absl::StatusOr<Results> Window(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(const DType dtype, OutputType(args));
  OCTET_ASSIGN_OR_RETURN(const Element size, Scalar(args, 0, "size"));
  int64_t dim = size.dim;
  if (size.known) {
    OCTET_ASSIGN_OR_RETURN(dim, CheckedDim(size.integer, "size"));
  }
  return One(dtype, Shape{dim});
}

absl::StatusOr<Results> MelWeightMatrix(const RuleArgs& args) {
  OCTET_ASSIGN_OR_RETURN(const DType dtype, OutputType(args));
  OCTET_ASSIGN_OR_RETURN(const Element mel_bins, Scalar(args, 0, "num_mel_bins"));
  OCTET_ASSIGN_OR_RETURN(const Element dft_length, Scalar(args, 1, "dft_length"));
  OCTET_ASSIGN_OR_RETURN(const int64_t columns, Length(mel_bins, "num_mel_bins"));
  OCTET_ASSIGN_OR_RETURN(const int64_t length, Length(dft_length, "dft_length"));
  return One(dtype, Shape{Bins(length, true), columns});
}

absl::StatusOr<Results> TfIdf(const RuleArgs& args) {
  const std::vector<int64_t> columns = args.node.GetInts("ngram_indexes");
  if (columns.empty()) return Invalid("attribute 'ngram_indexes' is empty");
  int64_t width = 0;
  for (int64_t column : columns) {
    OCTET_RETURN_IF_ERROR(CheckedDim(column, "ngram_indexes").status());
    width = std::max(width, column + 1);
  }
  if (!args.shape(0).has_value()) return One(DType::kF32, std::nullopt);
  const Shape& x = *args.shape(0);
  OCTET_RETURN_IF_ERROR(RequireRank(x, 0, 2));
  return One(DType::kF32, x.size() == 2 ? Shape{x[0], width} : Shape{width});
}

constexpr RuleEntry kRules[] = {
    {"BlackmanWindow", Window, 1, 1},
    {"DFT", Dft, 1, 3},
    {"HammingWindow", Window, 1, 1},
    {"HannWindow", Window, 1, 1},
    {"MelWeightMatrix", MelWeightMatrix, 5, 5},
    {"STFT", Stft, 2, 4},
    {"TfIdfVectorizer", TfIdf, 1, 1},
};

}  // namespace

absl::Span<const RuleEntry> SignalRules() { return kRules; }

}  // namespace octet::graph
