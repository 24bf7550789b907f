// Sliding windows of convolutions and poolings: explicit padding from attributes, auto_pad and ceil_mode.
#ifndef OCTET_ENGINE_WINDOWS_H_
#define OCTET_ENGINE_WINDOWS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/shape.h"
#include "graph/graph.h"

namespace octet::engine {

// One entry per spatial dimension; dilation 1 means dense.
struct Window {
  std::vector<int64_t> kernel, strides, dilations, pads_begin, pads_end;
};

// src and dst are [N, C, spatial...]; dst is what shape inference says: pads_end is what the last window needs (more
// than declared with ceil_mode, less when it ends before the source does).
// Errors: kInvalidArgument when ranks disagree.
absl::StatusOr<Window> WindowOf(const graph::Node& node, absl::Span<const int64_t> src,
                                absl::Span<const int64_t> dst, absl::Span<const int64_t> kernel);

// The window of global pooling: all of src.
Window GlobalWindow(absl::Span<const int64_t> src);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_WINDOWS_H_
