// Window arithmetic. Source: ONNX Conv-22, MaxPool-22 (auto_pad, ceil_mode).
#include "engine/windows.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace octet::engine {

absl::StatusOr<Window> WindowOf(const graph::Node& node, absl::Span<const int64_t> src,
                                absl::Span<const int64_t> dst, absl::Span<const int64_t> kernel) {
  const size_t rank = kernel.size();
  Window w;
  w.kernel.assign(kernel.begin(), kernel.end());
  w.strides = node.GetInts("strides", std::vector<int64_t>(rank, 1));
  w.dilations = node.GetInts("dilations", std::vector<int64_t>(rank, 1));
  std::vector<int64_t> pads = node.GetInts("pads", std::vector<int64_t>(2 * rank, 0));
  if (src.size() != rank + 2 || dst.size() != rank + 2 || w.strides.size() != rank ||
      w.dilations.size() != rank || pads.size() != 2 * rank) {
    return absl::InvalidArgumentError(absl::StrCat(
        "window of rank ", rank, " on input ", ShapeString(src), ": strides, dilations or pads have another rank"));
  }
  const std::string auto_pad = node.GetString("auto_pad", "NOTSET");
  for (size_t i = 0; i < rank; ++i) {
    const int64_t extent = (w.kernel[i] - 1) * w.dilations[i] + 1;
    const int64_t covered = (dst[i + 2] - 1) * w.strides[i] + extent;
    const int64_t total = std::max<int64_t>(covered - src[i + 2], 0);
    int64_t begin = pads[i];
    if (auto_pad == "SAME_UPPER") begin = total / 2;
    if (auto_pad == "SAME_LOWER") begin = total - total / 2;
    if (auto_pad == "VALID") begin = 0;
    w.pads_begin.push_back(begin);
    // Zero where the last window ends before the source does: the tail is not read.
    w.pads_end.push_back(std::max<int64_t>(covered - src[i + 2] - begin, 0));
  }
  return w;
}

Window GlobalWindow(absl::Span<const int64_t> src) {
  Window w;
  w.kernel.assign(src.begin() + 2, src.end());
  w.strides.assign(w.kernel.size(), 1);
  w.dilations.assign(w.kernel.size(), 1);
  w.pads_begin.assign(w.kernel.size(), 0);
  w.pads_end.assign(w.kernel.size(), 0);
  return w;
}

}  // namespace octet::engine
