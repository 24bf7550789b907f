// Shape rules of sliding windows: convolutions and pooling.
//
//   span = (kernel - 1) * dilation + 1
//   out  = floor((in + pad_begin + pad_end - span) / stride) + 1        (ceil with ceil_mode)
//
// Source: ONNX Conv-22, ConvTranspose-22, MaxPool-22, AveragePool-22.
#include <algorithm>

#include "absl/strings/str_join.h"
#include "graph/infer_rules.h"

namespace octet::graph {
namespace {

constexpr size_t kMinRank = 3;  // [N, C, at least one spatial dimension]
constexpr size_t kMaxWindowRank = 5;

struct Window {
  std::string auto_pad;
  std::vector<int64_t> kernel, strides, dilations, pads_begin, pads_end;

  int64_t span(size_t i) const { return (kernel[i] - 1) * dilations[i] + 1; }
  bool same() const { return auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER"; }
};

absl::StatusOr<std::vector<int64_t>> ReadInts(const Node& node, absl::string_view key, size_t count,
                                              int64_t absent, int64_t min) {
  std::vector<int64_t> out = node.GetInts(key, std::vector<int64_t>(count, absent));
  if (out.empty()) out.assign(count, absent);
  if (out.size() != count) {
    return Invalid("attribute '", key, "' has ", out.size(), " numbers, expected ", count);
  }
  for (int64_t value : out) {
    if (value < min || value > kMaxAttribute) {
      return Invalid("attribute '", key, "' contains ", value, ", expected at least ", min,
                     " and at most 2^31");
    }
  }
  return out;
}

// `kernel` holds known sizes (a negative one: unknown, its output is unknown).
absl::StatusOr<Window> ReadWindow(const Node& node, std::vector<int64_t> kernel) {
  Window window;
  const size_t count = kernel.size();
  for (int64_t size : kernel) {
    if (size == 0 || size > kMaxAttribute) {
      return Invalid("kernel [", absl::StrJoin(kernel, ", "), "], expected sizes from 1 to 2^31");
    }
  }
  window.kernel = std::move(kernel);
  window.auto_pad = node.GetString("auto_pad", "NOTSET");
  if (window.auto_pad.empty()) window.auto_pad = "NOTSET";
  if (window.auto_pad != "NOTSET" && window.auto_pad != "VALID" && !window.same()) {
    return Invalid("auto_pad '", window.auto_pad,
                   "', expected NOTSET, SAME_UPPER, SAME_LOWER or VALID");
  }
  OCTET_ASSIGN_OR_RETURN(window.strides, ReadInts(node, "strides", count, 1, 1));
  OCTET_ASSIGN_OR_RETURN(window.dilations, ReadInts(node, "dilations", count, 1, 1));
  OCTET_ASSIGN_OR_RETURN(std::vector<int64_t> pads, ReadInts(node, "pads", 2 * count, 0, 0));
  if (window.auto_pad != "NOTSET") pads.assign(2 * count, 0);
  window.pads_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(count));
  window.pads_end.assign(pads.begin() + static_cast<std::ptrdiff_t>(count), pads.end());
  return window;
}

absl::StatusOr<int64_t> WindowOutput(const Window& window, size_t i, int64_t in, bool ceil_mode) {
  if (!Known(in)) {  // a window that keeps the size keeps what is known of it
    const bool keeps =
        window.strides[i] == 1 &&
        (window.same() || (Known(window.kernel[i]) &&
                           window.pads_begin[i] + window.pads_end[i] + 1 == window.span(i)));
    return keeps ? in : kUnknownDim;
  }
  const int64_t stride = window.strides[i];
  if (window.same()) return (in + stride - 1) / stride;
  if (!Known(window.kernel[i])) return kUnknownDim;
  const int64_t room = in + window.pads_begin[i] + window.pads_end[i] - window.span(i);
  if (room < 0) {
    return Invalid("window of ", window.span(i), " (kernel ", window.kernel[i], ", dilation ",
                   window.dilations[i], ") in spatial dimension ", i, " does not fit the input of ",
                   in, " with padding ", window.pads_begin[i], " + ", window.pads_end[i]);
  }
  int64_t out = room / stride + 1;
  if (ceil_mode && room % stride != 0) {
    ++out;  // but a window that would start in the end padding does not count
    if ((out - 1) * stride >= in + window.pads_begin[i]) --out;
  }
  return out;
}

absl::Status CheckInput(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  const Shape& x = *args.shape(0);
  if (x.size() > kMaxWindowRank) {
    return absl::UnimplementedError(
        absl::StrCat("input of shape ", Str(x), ": more than 3 spatial dimensions"));
  }
  return RequireRank(x, kMinRank, kMaxWindowRank);
}

// Kernel sizes of a convolution: of the weights, which the attribute must repeat.
absl::StatusOr<std::vector<int64_t>> ConvKernel(const RuleArgs& args, size_t spatial) {
  std::vector<int64_t> kernel(spatial, kUnknownDim);
  if (args.shape(1).has_value()) {
    const Shape& w = *args.shape(1);
    if (w.size() != spatial + 2) {
      return Invalid("weights of shape ", Str(w), ", expected rank ", spatial + 2,
                     " as the input has");
    }
    kernel.assign(w.begin() + 2, w.end());
  }
  const std::vector<int64_t> attribute = args.node.GetInts("kernel_shape");
  if (attribute.empty()) return kernel;
  if (attribute.size() != spatial) {
    return Invalid("attribute 'kernel_shape' has ", attribute.size(), " numbers, expected ",
                   spatial);
  }
  for (size_t i = 0; i < spatial; ++i) {
    if (attribute[i] < 1) return Invalid("attribute 'kernel_shape' contains ", attribute[i]);
    OCTET_ASSIGN_OR_RETURN(kernel[i], MergeDims(kernel[i], attribute[i],
                                                "attribute 'kernel_shape' against the weights"));
  }
  return kernel;
}

// Checks a bias [channels]; `channels` may be unknown.
absl::Status CheckBias(const RuleArgs& args, int64_t channels) {
  if (!args.has(2)) return absl::OkStatus();
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 2));
  if (!args.shape(2).has_value()) return absl::OkStatus();
  const Shape& bias = *args.shape(2);
  if (bias.size() != 1 || (Known(bias[0]) && Known(channels) && bias[0] != channels)) {
    return Invalid("bias of shape ", Str(bias), ", expected ", Str({channels}));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> ReadGroups(const Node& node) {
  const int64_t groups = node.GetInt("group", 1);
  if (groups < 1 || groups > kMaxAttribute) {
    return Invalid("attribute 'group' is ", groups, ", expected at least 1");
  }
  return groups;
}

absl::StatusOr<Results> Conv(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 1));
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  OCTET_RETURN_IF_ERROR(CheckInput(args));
  const Shape& x = *args.shape(0);
  OCTET_ASSIGN_OR_RETURN(const int64_t groups, ReadGroups(args.node));
  OCTET_ASSIGN_OR_RETURN(std::vector<int64_t> kernel, ConvKernel(args, x.size() - 2));
  OCTET_ASSIGN_OR_RETURN(const Window window, ReadWindow(args.node, std::move(kernel)));
  int64_t out_channels = kUnknownDim;
  if (args.shape(1).has_value()) {
    const Shape& w = *args.shape(1);
    out_channels = w[0];
    if (Known(w[1]) && Known(x[1]) && (x[1] % groups != 0 || x[1] / groups != w[1])) {
      return Invalid("input of ", x[1], " channels in ", groups, " groups, weights of shape ",
                     Str(w), " expect ", w[1], " channels a group");
    }
    if (Known(out_channels) && out_channels % groups != 0) {
      return Invalid("weights of shape ", Str(w), " do not divide into ", groups, " groups");
    }
  }
  OCTET_RETURN_IF_ERROR(CheckBias(args, out_channels));
  Shape out = {x[0], out_channels};
  for (size_t i = 0; i + 2 < x.size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(const int64_t dim, WindowOutput(window, i, x[i + 2], false));
    out.push_back(dim);
  }
  return One(args.dtype(0), std::move(out));
}

//   out = stride * (in - 1) + output_padding + span - pad_begin - pad_end
absl::StatusOr<int64_t> TransposedOutput(const Window& window, size_t i, int64_t in,
                                         int64_t output_padding) {
  if (!Known(in) || !Known(window.kernel[i])) return kUnknownDim;
  if (in == 0) return Invalid("spatial dimension ", i, " of the input is empty");
  if (window.same()) return CheckedMul(in, window.strides[i], "output size");
  OCTET_ASSIGN_OR_RETURN(const int64_t steps, CheckedMul(in - 1, window.strides[i], "output size"));
  const int64_t out =
      steps + output_padding + window.span(i) - window.pads_begin[i] - window.pads_end[i];
  if (out <= 0) {
    return Invalid("spatial dimension ", i, " of the output would have size ", out);
  }
  return out;
}

absl::StatusOr<Results> ConvTranspose(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(SameType(args, 0, 1));
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  OCTET_RETURN_IF_ERROR(CheckInput(args));
  const Shape& x = *args.shape(0);
  const size_t spatial = x.size() - 2;
  OCTET_ASSIGN_OR_RETURN(const int64_t groups, ReadGroups(args.node));
  OCTET_ASSIGN_OR_RETURN(std::vector<int64_t> kernel, ConvKernel(args, spatial));
  OCTET_ASSIGN_OR_RETURN(const Window window, ReadWindow(args.node, std::move(kernel)));
  int64_t out_channels = kUnknownDim;
  if (args.shape(1).has_value()) {
    const Shape& w = *args.shape(1);
    if (Known(w[0]) && Known(x[1]) && w[0] != x[1]) {
      return Invalid("input of ", x[1], " channels, weights of shape ", Str(w), " expect ", w[0]);
    }
    if (Known(w[0]) && w[0] % groups != 0) {
      return Invalid("weights of shape ", Str(w), " do not divide into ", groups, " groups");
    }
    if (Known(w[1])) {
      OCTET_ASSIGN_OR_RETURN(out_channels, CheckedMul(w[1], groups, "output channels"));
    }
  }
  OCTET_RETURN_IF_ERROR(CheckBias(args, out_channels));
  OCTET_ASSIGN_OR_RETURN(const std::vector<int64_t> output_padding,
                         ReadInts(args.node, "output_padding", spatial, 0, 0));
  OCTET_ASSIGN_OR_RETURN(const std::vector<int64_t> output_shape,
                         ReadInts(args.node, "output_shape", spatial, 0, 0));
  Shape out = {x[0], out_channels};
  for (size_t i = 0; i < spatial; ++i) {
    if (output_shape[i] > 0) {
      out.push_back(output_shape[i]);
      continue;
    }
    OCTET_ASSIGN_OR_RETURN(const int64_t dim,
                           TransposedOutput(window, i, x[i + 2], output_padding[i]));
    out.push_back(dim);
  }
  return One(args.dtype(0), std::move(out));
}

absl::StatusOr<Results> Pool(const RuleArgs& args) {
  const bool max_pool = args.node.op == "MaxPool";
  const auto results = [&](std::optional<Shape> shape) {
    Results out = One(args.dtype(0), shape);
    if (max_pool) out.push_back({DType::kS64, std::move(shape)});
    return out;
  };
  if (!args.shape(0).has_value()) return results(std::nullopt);
  const Shape& x = *args.shape(0);
  if (!max_pool || !IsInteger(args.dtype(0))) OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  OCTET_RETURN_IF_ERROR(RequireRank(x, kMinRank, kMaxWindowRank));
  const std::vector<int64_t> kernel = args.node.GetInts("kernel_shape");
  if (kernel.size() != x.size() - 2) {
    return Invalid("attribute 'kernel_shape' has ", kernel.size(), " numbers, expected ",
                   x.size() - 2);
  }
  for (int64_t size : kernel) {
    if (size < 1) return Invalid("attribute 'kernel_shape' contains ", size);
  }
  OCTET_ASSIGN_OR_RETURN(const Window window, ReadWindow(args.node, kernel));
  const bool ceil_mode = args.node.GetInt("ceil_mode", 0) != 0;
  Shape out = {x[0], x[1]};
  for (size_t i = 0; i + 2 < x.size(); ++i) {
    if (window.pads_begin[i] >= window.span(i) || window.pads_end[i] >= window.span(i)) {
      return Invalid("padding ", window.pads_begin[i], " + ", window.pads_end[i],
                     " in spatial dimension ", i, " leaves windows of ", window.span(i),
                     " without any input");
    }
    OCTET_ASSIGN_OR_RETURN(const int64_t dim, WindowOutput(window, i, x[i + 2], ceil_mode));
    out.push_back(dim);
  }
  return results(std::move(out));
}

absl::StatusOr<Results> GlobalPool(const RuleArgs& args) {
  OCTET_RETURN_IF_ERROR(RequireFloat(args, 0));
  if (!args.shape(0).has_value()) return One(args.dtype(0), std::nullopt);
  Shape out = *args.shape(0);
  OCTET_RETURN_IF_ERROR(RequireRank(out, kMinRank, kMaxWindowRank));
  std::fill(out.begin() + 2, out.end(), 1);
  return One(args.dtype(0), std::move(out));
}

constexpr RuleEntry kRules[] = {
    {"AveragePool", Pool, 1, 1},
    {"Conv", Conv, 2, 3},
    {"ConvTranspose", ConvTranspose, 2, 3},
    {"GlobalAveragePool", GlobalPool, 1, 1},
    {"GlobalLpPool", GlobalPool, 1, 1},
    {"GlobalMaxPool", GlobalPool, 1, 1},
    {"LpPool", Pool, 1, 1},
    {"MaxPool", Pool, 1, 1},
};

}  // namespace

absl::Span<const RuleEntry> WindowRules() { return kRules; }

}  // namespace octet::graph
