// Nearest neighbour: an index table per dimension; what lies inside the last resized dimension
// moves as one piece.
#include <cstring>

#include "kernels/resize/resize_reference.h"

namespace octet::kernels {
namespace {

struct Plan {
  Shape dims;  // dst, memory order, up to and with the last resized dimension
  std::vector<std::vector<int64_t>> offsets;  // [dim][dst coordinate]: bytes into src
  int64_t piece_bytes = 1;

  int64_t rows() const {
    return NumElements(absl::MakeConstSpan(dims).subspan(0, dims.size() - 1));
  }

  template <typename Move>
  void Rows(const std::byte* src, std::byte* dst, int64_t begin, int64_t end,
            const Move& move) const {
    const std::vector<int64_t>& last = offsets.back();
    for (int64_t row = begin; row < end; ++row) {
      const std::byte* from = src;
      int64_t rest = row;
      for (size_t d = dims.size() - 1; d-- > 0;) {
        from += offsets[d][static_cast<size_t>(rest % dims[d])];
        rest /= dims[d];
      }
      std::byte* to = dst + row * dims.back() * piece_bytes;
      for (int64_t offset : last) {
        move(to, from + offset);
        to += piece_bytes;
      }
    }
  }

  void Run(const std::byte* src, std::byte* dst, int64_t begin, int64_t end) const {
    const auto fixed = [&](auto t) {
      Rows(src, dst, begin, end,
           [](std::byte* to, const std::byte* from) { std::memcpy(to, from, sizeof(t)); });
    };
    switch (piece_bytes) {
      case 1:
        return fixed(uint8_t{});
      case 4:
        return fixed(uint32_t{});
      default:
        Rows(src, dst, begin, end,
             [n = static_cast<size_t>(piece_bytes)](std::byte* to, const std::byte* from) {
               std::memcpy(to, from, n);
             });
    }
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateResizeNearest(const ResizeParams& params,
                                                            const KernelEnv&) {
  if (params.mode != ResizeParams::Mode::kNearest) return absl::UnimplementedError("interpolates");
  if (BitsOf(params.src.dtype) < 8) return absl::UnimplementedError("elements share bytes");
  if (params.src.shape.empty()) return absl::UnimplementedError("a scalar");
  const auto order = MemoryOrder(params.src);
  const Shape strides = StridesIn(params.src);
  const int64_t bytes = BytesOf(params.src.dtype);
  Plan plan;
  bool moves = false;  // some dimension already seen (from the inside) is resized
  plan.piece_bytes = bytes;
  for (size_t i = order.size(); i-- > 0;) {
    const auto d = static_cast<size_t>(order[i]);
    std::vector<int64_t> table;
    bool identity = params.src.shape[d] == params.dst.shape[d];
    for (int64_t at = 0; at < params.dst.shape[d]; ++at) {
      const Taps taps = TapsOf(params, d, at);
      if (taps.outside) return absl::UnimplementedError("samples outside of the source");
      identity = identity && taps.of[0].first == at;
      table.push_back(taps.of[0].first * strides[d] * bytes);
    }
    if (!moves && identity && i > 0) {
      plan.piece_bytes *= params.dst.shape[d];
      continue;
    }
    moves = true;
    plan.dims.insert(plan.dims.begin(), params.dst.shape[d]);
    plan.offsets.insert(plan.offsets.begin(), std::move(table));
  }
  if (NumElements(params.dst.shape) == 0) return absl::UnimplementedError("empty");
  const int64_t grain = kGrainBytes / (plan.dims.back() * plan.piece_bytes) + 1;
  return MakeFunctionKernel("nearest", 0, [plan = std::move(plan), grain](const BindArgs& args) {
    RunParallel(args.parallel, plan.rows(), grain, [&](int64_t begin, int64_t end) {
      plan.Run(static_cast<const std::byte*>(args.src[0]), static_cast<std::byte*>(args.dst[0]),
               begin, end);
    });
  });
}

}  // namespace octet::kernels
