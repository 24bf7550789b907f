// Concat as interleaved runs: each part contributes one contiguous run to every index of the
// dimensions that lie outside the axis in memory. Runs are copied, or looked up in a table when the
// part's grid differs from dst's.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "kernels/concat/concat.h"
#include "kernels/elements.h"
#include "kernels/rows.h"

namespace octet::kernels {
namespace {

using Table = std::array<uint8_t, 256>;

struct Part {
  size_t src = 0;  // operand
  int64_t run_bytes = 0;
  int64_t offset_bytes = 0;  // of the run within dst's row
  std::optional<Table> table;

  void Copy(const std::byte* from, std::byte* to) const {
    if (table) {
      LookupRow(reinterpret_cast<const uint8_t*>(from), run_bytes, table->data(),
                reinterpret_cast<uint8_t*>(to));
    } else {
      std::memcpy(to, from, static_cast<size_t>(run_bytes));
    }
  }
};

Table RequantizationTable(const TensorSpec& src, const TensorSpec& dst) {
  Table table;
  for (int bits = 0; bits < 256; ++bits) {
    const auto stored = static_cast<uint8_t>(bits);
    StoreReal(dst, table.data(), bits, LoadReal(src, &stored, 0));
  }
  return table;
}

// Rows shared by threads when there are many, else pieces of the runs of one row.
void RunRows(const std::vector<Part>& parts, int64_t rows, int64_t row_bytes,
             const BindArgs& args) {
  auto* dst = static_cast<std::byte*>(args.dst[0]);
  RunParallel(args.parallel, rows, kGrainBytes / row_bytes + 1, [&](int64_t begin, int64_t end) {
    for (const Part& part : parts) {
      const auto* src = static_cast<const std::byte*>(args.src[part.src]);
      for (int64_t row = begin; row < end; ++row) {
        part.Copy(src + row * part.run_bytes, dst + row * row_bytes + part.offset_bytes);
      }
    }
  });
}

void RunPieces(const std::vector<Part>& parts, int64_t row_bytes, const BindArgs& args) {
  auto* dst = static_cast<std::byte*>(args.dst[0]);
  RunParallel(args.parallel, row_bytes, kGrainBytes, [&](int64_t begin, int64_t end) {
    for (const Part& part : parts) {
      const int64_t from = std::max(begin, part.offset_bytes);
      const int64_t until = std::min(end, part.offset_bytes + part.run_bytes);
      if (from >= until) continue;
      Part piece = part;
      piece.run_bytes = until - from;
      const auto* src = static_cast<const std::byte*>(args.src[part.src]);
      piece.Copy(src + (from - part.offset_bytes), dst + from);
    }
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateConcatRuns(const ConcatParams& params,
                                                         const KernelEnv&) {
  if (BitsOf(params.dst.dtype) < 8) return absl::UnimplementedError("elements share bytes");
  const int64_t bytes = BytesOf(params.dst.dtype);
  const auto axis = static_cast<size_t>(params.axis);
  const int64_t inner = StridesIn(params.dst)[axis];  // elements per step along the axis
  const int64_t row_bytes = params.dst.shape[axis] * inner * bytes;
  std::vector<Part> parts;
  int64_t offset = 0;
  for (size_t i = 0; i < params.parts.size(); ++i) {
    const TensorSpec& spec = params.parts[i];
    Part part{i, spec.shape[axis] * inner * bytes, offset, std::nullopt};
    offset += part.run_bytes;
    if (part.run_bytes == 0) continue;
    if (spec.quant != params.dst.quant) {
      if (!IsQuantized8(spec) || !IsQuantized8(params.dst)) {
        return absl::UnimplementedError("a part wider than 8 bits changes its grid");
      }
      part.table = RequantizationTable(spec, params.dst);
    }
    parts.push_back(std::move(part));
  }
  const int64_t total = params.dst.size_bytes();
  const int64_t rows = row_bytes == 0 ? 0 : total / row_bytes;
  return MakeFunctionKernel("runs", 0,
                            [parts = std::move(parts), rows, row_bytes](const BindArgs& args) {
                              if (rows == 0) return;
                              if (rows == 1) {
                                RunPieces(parts, row_bytes, args);
                              } else {
                                RunRows(parts, rows, row_bytes, args);
                              }
                            });
}

}  // namespace octet::kernels
