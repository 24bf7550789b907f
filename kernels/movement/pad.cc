// Pad: a table per axis says where each coordinate comes from; rows copy their inner run at once.
#include <algorithm>
#include <cstring>

#include "base/status.h"
#include "kernels/movement/movement_reference.h"
#include "kernels/movement/sized.h"

namespace octet::kernels {
namespace {

struct Plan {
  DType dtype;
  Shape src_strides, dst_shape;
  std::vector<std::vector<int64_t>> source;  // [axis][dst coordinate] = src coordinate or -1
  int64_t inner_begin = 0, inner_end = 0;    // dst coordinates of the last axis that lie inside src
  std::vector<std::byte> fill;

  int64_t row_length() const { return dst_shape.back(); }

  // Source offset of dst row `row` (all axes but the last), or -1 when it lies outside.
  int64_t RowOffset(int64_t row) const {
    int64_t offset = 0;
    for (size_t d = dst_shape.size() - 1; d-- > 0;) {
      const int64_t at = source[d][static_cast<size_t>(row % dst_shape[d])];
      if (at < 0) return -1;
      offset += at * src_strides[d];
      row /= dst_shape[d];
    }
    return offset;
  }

  template <typename T>
  void Rows(const T* src, T* dst, T value, int64_t begin, int64_t end) const {
    const std::vector<int64_t>& last = source.back();
    for (int64_t row = begin; row < end; ++row) {
      T* to = dst + row * row_length();
      const int64_t offset = RowOffset(row);
      if (offset < 0) {
        std::fill_n(to, row_length(), value);
        continue;
      }
      const auto edge = [&](int64_t from, int64_t until) {
        for (int64_t i = from; i < until; ++i) {
          const int64_t at = last[static_cast<size_t>(i)];
          to[i] = at < 0 ? value : src[offset + at];
        }
      };
      edge(0, inner_begin);
      if (inner_end > inner_begin) {
        std::memcpy(to + inner_begin, src + offset + last[static_cast<size_t>(inner_begin)],
                    static_cast<size_t>(inner_end - inner_begin) * sizeof(T));
      }
      edge(inner_end, row_length());
    }
  }
};

absl::Status Validate(const PadParams& p) {
  OCTET_RETURN_IF_ERROR(CheckSized("pad", p.src.dtype));
  if (p.src.dtype != p.dst.dtype || p.src.shape.size() != p.dst.shape.size() ||
      p.begin.size() != p.src.shape.size()) {
    return absl::InvalidArgumentError(absl::StrCat("pad: ", ShapeString(p.src.shape), " to ",
                                                   ShapeString(p.dst.shape), " with ",
                                                   p.begin.size(), " pads"));
  }
  if (p.mode == PadParams::Mode::kConstant) {
    if (!p.fill.empty() && static_cast<int64_t>(p.fill.size()) != BytesOf(p.src.dtype)) {
      return absl::InvalidArgumentError(absl::StrCat("pad: fill value has ", p.fill.size(),
                                                     " bytes, ", NameOf(p.src.dtype), " needs ",
                                                     BytesOf(p.src.dtype)));
    }
  } else if (NumElements(p.src.shape) == 0 && NumElements(p.dst.shape) > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("pad: nothing to repeat in ", ShapeString(p.src.shape)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreatePad(const PadParams& params, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(Validate(params));
  const int64_t n = NumElements(params.dst.shape);
  if (n == 0) return MakeFunctionKernel("empty", 0, [](const BindArgs&) {});
  Plan plan{params.src.dtype, StridesOf(params.src.shape), params.dst.shape, {}, 0, 0, params.fill};
  for (size_t d = 0; d < params.dst.shape.size(); ++d) {
    std::vector<int64_t>& table = plan.source.emplace_back();
    for (int64_t i = 0; i < params.dst.shape[d]; ++i) {
      table.push_back(PadSource(params.mode, i - params.begin[d], params.src.shape[d]));
    }
  }
  if (params.dst.shape.empty()) {  // a scalar is one row of one element
    plan.dst_shape.push_back(1);
    plan.src_strides.push_back(1);
    plan.source.push_back({0});
    plan.inner_end = 1;
  } else {
    const int64_t begin = params.begin.back();
    plan.inner_begin = std::clamp<int64_t>(begin, 0, plan.row_length());
    plan.inner_end =
        std::clamp<int64_t>(begin + params.src.shape.back(), plan.inner_begin, plan.row_length());
  }
  const int64_t rows = n / plan.row_length();
  const int64_t grain = kGrainBytes / (plan.row_length() * BytesOf(plan.dtype)) + 1;
  const bool constant = params.mode == PadParams::Mode::kConstant;
  return MakeFunctionKernel("rows", 0, [plan = std::move(plan), rows, grain, constant](const BindArgs& args) {
    WithSize(plan.dtype, [&](auto t) {
      using T = decltype(t);
      T value{};
      if (constant) std::memcpy(&value, plan.fill.empty() ? args.src[1] : plan.fill.data(), sizeof(T));
      RunParallel(args.parallel, rows, grain, [&](int64_t begin, int64_t end) {
        plan.Rows(static_cast<const T*>(args.src[0]), static_cast<T*>(args.dst[0]), value, begin, end);
      });
    });
  });
}

}  // namespace octet::kernels
