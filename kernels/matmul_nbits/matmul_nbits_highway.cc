// MatmulNBits by our own vector loops: source rows are quantized first, then each thread takes
// panels of columns.
//
// Up to eight rows are multiplied with the packed records directly: one pass over memory is most of their cost.
// More rows share tiles that are unpacked to s8 once, in L1. Entry "amx" multiplies those tiles on
// AMX; of long groups it takes whole panels, and unpacks them while it multiplies.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/amx.h"
#include "kernels/elements.h"
#include "kernels/matmul_nbits/matmul_nbits_panels.h"
#include "kernels/matmul_nbits/matmul_nbits_vector.h"
#include "kernels/product_reference.h"

namespace octet::kernels {
namespace {

constexpr int64_t kDirectRows = 8;           // up to here rows are multiplied while records are unpacked: once for all
constexpr int64_t kDirectRowsOfLongGroups = 4;  // AMX works longer on these before their sums need scales
constexpr int64_t kRowBlock = 64;            // rows that share a tile
constexpr int64_t kTileDepth = 256;          // k of a tile, unless a group is longer: 16 KB
constexpr int64_t kAmxRows = 4;              // fewer do not fill tiles
constexpr int64_t kGrainProducts = 1 << 16;  // smallest work worth a thread
constexpr int64_t kOwnSource = 1 << 15;      // elements that every thread quantizes for itself: cores are far apart

int64_t RoundUp(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

enum class Unit : uint8_t { kVector, kAmx };

// Everything a run needs; immutable.
struct Plan {
  Unit unit = Unit::kVector;
  const NBitsVectorOps* ops = nullptr;
  NBitsPanels panels;
  std::shared_ptr<const PackedWeights> weights, bias;
  TensorSpec src;
  float multiplier = 1;
  std::vector<PostOp> post_ops;
  int64_t rows = 0;
  int workers = 1;

  // Scratch: sources, one or one per worker: rows | their scales; per worker: tile weights | tile scales | accumulators.
  // An odd number of cache lines: the same k of neighbouring rows must not share a cache set.
  int64_t src_stride() const { return (RoundUp(panels.depth, 64) / 64 | 1) * 64; }
  int64_t tile_depth() const {
    return std::max<int64_t>(kTileDepth / panels.group, 1) * panels.group;
  }
  int64_t tile_bytes() const { return tile_depth() * NBitsPanels::kWidth; }
  int64_t scales_bytes() const { return tile_depth() / panels.group * NBitsPanels::kWidth * 4; }
  int64_t acc_bytes() const { return std::min(kRowBlock, RoundUp(rows, 16)) * kNBitsAccStride * 4; }
  int64_t rows_bytes() const { return RoundUp(rows, 16) * src_stride(); }
  int64_t row_scales_bytes() const {
    return RoundUp(rows * static_cast<int64_t>(sizeof(NBitsRow)), Buffer::kAlignment);
  }
  // Groups of more than one step of AMX are long.
  bool direct() const {
    const bool long_groups = unit == Unit::kAmx && panels.group > 64;
    return rows <= (long_groups ? kDirectRowsOfLongGroups : kDirectRows);
  }
  bool amx_panels() const { return unit == Unit::kAmx && !direct() && NBitsAmxTakesPanels(panels); }
  int64_t worker_bytes() const {
    return amx_panels() ? NBitsAmxScratchBytes(panels) : tile_bytes() + scales_bytes() + acc_bytes();
  }
  bool own_source() const { return rows * panels.depth <= kOwnSource; }
  int64_t source_bytes() const { return rows_bytes() + row_scales_bytes(); }
  int64_t sources() const { return own_source() ? workers : 1; }
  int64_t scratch_bytes() const { return sources() * source_bytes() + workers * worker_bytes(); }
};

// One run of a plan on its operands.
class Run {
 public:
  Run(const Plan& plan, const BindArgs& args)
      : plan_(plan),
        src_(static_cast<const std::byte*>(args.src[0])),
        dst_(static_cast<float*>(args.dst[0])),
        parallel_(args.parallel),
        scratch_(static_cast<uint8_t*>(args.scratch)),
        packed_(reinterpret_cast<const uint8_t*>(plan.weights->data.data())),
        packed_end_(packed_ + plan.weights->data.size_bytes()) {
    finish_.multiplier = plan.multiplier;
    finish_.sums = reinterpret_cast<const float*>(packed_ + plan.panels.sums_offset());
    if (plan.bias != nullptr) finish_.bias = reinterpret_cast<const float*>(plan.bias->data.data());
    finish_.post_ops = plan.post_ops;
  }

  void operator()() {
    const bool own = plan_.own_source();
    if (!own) {
      RunParallel(parallel_, plan_.rows, std::max<int64_t>(kGrainProducts / 4 / plan_.panels.k, 1),
                  [&](int64_t begin, int64_t end) { Quantize(begin, end, SourceOf(0)); });
    }
    const int64_t products = plan_.rows * plan_.panels.depth * plan_.panels.n;
    const int64_t grain = products < kGrainProducts ? plan_.workers : 1;
    RunParallel(parallel_, plan_.workers, grain, [&](int64_t begin, int64_t end) {
      const Source source = SourceOf(own ? begin : 0);
      if (own) Quantize(0, plan_.rows, source);
      for (int64_t worker = begin; worker < end; ++worker) Work(worker, source);
    });
  }

 private:
  // Quantized rows, src_stride() apart, and what they stand for.
  struct Source {
    uint8_t* rows;
    NBitsRow* scales;
  };
  Source SourceOf(int64_t index) const {
    uint8_t* const rows = scratch_ + index * plan_.source_bytes();
    return {rows, reinterpret_cast<NBitsRow*>(rows + plan_.rows_bytes())};
  }
  uint8_t* WorkerScratch(int64_t worker) const {
    return scratch_ + plan_.sources() * plan_.source_bytes() + worker * plan_.worker_bytes();
  }

  void Quantize(int64_t begin, int64_t end, const Source& source) const {
    for (int64_t m = begin; m < end; ++m) source.scales[m] = QuantizeRow(m, source.rows + m * plan_.src_stride());
  }

  NBitsRow QuantizeRow(int64_t m, uint8_t* to) const {
    const int64_t k = plan_.panels.k;
    const std::byte* from = src_ + m * k * BytesOf(plan_.src.dtype);
    NBitsRow row;
    if (!plan_.src.quant) {
      row = plan_.ops->quantize_row(reinterpret_cast<const float*>(from), k, to);
    } else {
      const int shift = plan_.src.dtype == DType::kS8 ? 128 : 0;  // s8 as u8
      for (int64_t i = 0; i < k; ++i)
        to[i] = static_cast<uint8_t>(static_cast<uint8_t>(from[i]) ^ shift);
      row = {plan_.src.quant->scale[0], static_cast<float>(plan_.src.quant->zero_point_at(0) + shift)};
    }
    std::memset(to + k, 0, static_cast<size_t>(plan_.panels.depth - k));
    if (plan_.panels.format == NBitsFormat::kVectors) plan_.ops->order_for_vectors(to, plan_.panels.depth);
    return row;
  }

  // Items are panels times blocks of rows, blocks fastest; each worker takes a contiguous share.
  void Work(int64_t worker, const Source& source) {
    const int64_t blocks = (plan_.rows + kRowBlock - 1) / kRowBlock;
    const int64_t items = plan_.panels.panels() * blocks;
    const int64_t end = items * (worker + 1) / plan_.workers;
    if (plan_.amx_panels()) return AmxPanels(worker, items, source);
    const bool amx = plan_.unit == Unit::kAmx && !plan_.direct();
    if (amx) NBitsAmxBegin(AmxStep(plan_.panels.group));
    for (int64_t item = items * worker / plan_.workers; item < end; ++item) {
      const int64_t p = item / blocks, first = item % blocks * kRowBlock;
      const NBitsPanel panel = {&plan_.panels, packed_ + plan_.panels.panel_offset(p),
                                plan_.panels.width(p)};
      uint8_t* scratch = WorkerScratch(worker);
      if (plan_.direct()) {
        Direct(panel, p, source);
      } else {
        Tiles(panel, p, first, std::min(kRowBlock, plan_.rows - first), source, scratch);
      }
    }
    if (amx) NBitsAmxEnd();
  }

  void AmxPanels(int64_t worker, int64_t items, const Source& source) {
    static_assert(kRowBlock == kNBitsAmxRows);
    NBitsAmxShare share;
    share.layout = &plan_.panels;
    share.ops = plan_.ops;
    share.packed = packed_;
    share.src = source.rows;
    share.src_stride = plan_.src_stride();
    share.rows = plan_.rows;
    share.begin = items * worker / plan_.workers;
    share.end = items * (worker + 1) / plan_.workers;
    share.scratch = WorkerScratch(worker);
    NBitsAmxMultiplyPanels(share, [&](int64_t column, int64_t n, int64_t m, int64_t rows, const float* acc) {
      Finish(column, n, m, rows, source, acc);
    });
  }

  void Direct(const NBitsPanel& panel, int64_t p, const Source& source) {
    alignas(64) float acc[kDirectRows * kNBitsAccStride] = {};
    plan_.ops->multiply_few_rows(panel, source.rows, plan_.src_stride(), plan_.rows, acc);
    Finish(p * NBitsPanels::kWidth, NBitsPanels::kWidth, 0, plan_.rows, source, acc);
  }

  void Tiles(const NBitsPanel& panel, int64_t p, int64_t first, int64_t rows, const Source& source, uint8_t* scratch) {
    NBitsTile tile;
    tile.weights = reinterpret_cast<int8_t*>(scratch);
    tile.scales = reinterpret_cast<float*>(scratch + plan_.tile_bytes());
    tile.width = panel.width;
    tile.group = plan_.panels.group;
    auto* acc = reinterpret_cast<float*>(scratch + plan_.tile_bytes() + plan_.scales_bytes());
    std::memset(acc, 0, static_cast<size_t>(RoundUp(rows, 16) * kNBitsAccStride * 4));
    const int64_t amx_step = plan_.unit == Unit::kAmx ? AmxStep(tile.group) : 0;
    const int64_t records = plan_.tile_depth() / tile.group;
    const uint8_t* record = panel.records;
    const uint8_t* const panel_end = record + plan_.panels.panel_bytes(panel.width);
    for (int64_t k = 0; k < plan_.panels.depth; k += plan_.tile_depth()) {
      tile.depth = std::min(plan_.tile_depth(), plan_.panels.depth - k);
      plan_.ops->unpack(panel, record, tile);
      const int64_t tile_bytes = records * plan_.panels.record_bytes(panel.width, tile.group);
      record = std::min(record + tile_bytes, panel_end);
      tile.next = record;  // behind the last one begins the next panel
      tile.next_bytes = std::min(tile_bytes, packed_end_ - record);
      const uint8_t* src = source.rows + first * plan_.src_stride() + k;
      if (amx_step != 0 && tile.depth % amx_step == 0) {
        NBitsAmxMultiplyTile(tile, src, plan_.src_stride(), rows, acc);
      } else {
        plan_.ops->multiply_tile(tile, src, plan_.src_stride(), rows, acc);
      }
    }
    Finish(p * NBitsPanels::kWidth, NBitsPanels::kWidth, first, rows, source, acc);
  }

  // Rows and columns from m and `column` on; acc [rows][n].
  void Finish(int64_t column, int64_t n, int64_t m, int64_t rows, const Source& source, const float* acc) {
    NBitsPart part;
    part.column = column;
    part.n = std::min(n, plan_.panels.n - column);
    part.rows = rows;
    part.row = source.scales + m;
    part.acc = acc;
    part.acc_stride = n;
    part.dst = dst_ + m * plan_.panels.n + column;
    part.dst_stride = plan_.panels.n;
    plan_.ops->finish(finish_, part);
  }

  const Plan& plan_;
  const std::byte* src_;
  float* dst_;
  ParallelFor* parallel_;
  uint8_t* scratch_;
  const uint8_t* packed_;
  const uint8_t* packed_end_;
  NBitsFinish finish_;
};

absl::Status CopyConstants(const MatmulNBitsParams& p, const KernelEnv& env, Plan& plan) {
  WeightStore own;
  WeightStore& store = env.weights != nullptr ? *env.weights : own;
  const auto released = absl::UnimplementedError("a constant was released after packing");
  const bool transposed = p.transpose_weights == MatmulNBitsParams::Transpose::kYes;
  const auto pack = [&]() -> absl::StatusOr<PackedWeights> {
    if (!p.weights_constant.tensor.valid()) return released;
    return PackPanels(p.weights, p.transpose_weights, p.weights_constant.tensor.data());
  };
  OCTET_ASSIGN_OR_RETURN(
      plan.weights,
      store.GetOrPack(absl::StrCat(p.weights_constant.id, "/matmul_nbits/", transposed ? "t" : "n"),
                      pack));
  plan.panels = std::any_cast<NBitsPanels>(plan.weights->detail);
  if (!p.bias.present()) return absl::OkStatus();
  const auto pack_bias = [&]() -> absl::StatusOr<PackedWeights> {
    if (!p.bias.tensor.valid()) return released;
    const std::vector<double> reals = BiasReals(p.bias, p.bias.tensor.ToF64());
    PackedWeights packed;
    OCTET_ASSIGN_OR_RETURN(packed.data, Buffer::Allocate(plan.panels.n * 4));
    for (int64_t n = 0; n < plan.panels.n; ++n) {
      StoreNumber(DType::kF32, packed.data.data(), n,
                  reals[reals.size() == 1 ? 0 : static_cast<size_t>(n)]);
    }
    packed.layout = "f32";
    return packed;
  };
  OCTET_ASSIGN_OR_RETURN(
      plan.bias,
      store.GetOrPack(absl::StrCat(p.bias.id, "/matmul_nbits_bias/", plan.panels.n), pack_bias));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Kernel>> Create(const MatmulNBitsParams& p, const KernelEnv& env,
                                               Unit unit) {
  if (NumElements(p.dst.shape) == 0 || NumElements(p.src.shape) == 0) {
    return absl::UnimplementedError("empty tensor");
  }
  auto plan = std::make_shared<Plan>();
  plan->unit = unit;
  plan->rows = NumElements(p.src.shape) / p.src.shape.back();
  plan->workers = std::max(env.threads, 1);
  if (unit == Unit::kAmx) {
    if (!AmxInt8Available()) return absl::UnimplementedError("no AMX int8 tiles here");
    if (plan->rows < kAmxRows)
      return absl::UnimplementedError(absl::StrCat("only ", plan->rows, " rows"));
    const int64_t group = PlanPanels(p.weights, p.transpose_weights).group;
    if (AmxStep(group) == 0) {
      return absl::UnimplementedError(absl::StrCat("groups of ", group, ", not a multiple of 16"));
    }
  }
  OCTET_RETURN_IF_ERROR(CopyConstants(p, env, *plan));
  plan->ops = &ChooseNBitsVectorOps();
  plan->src = p.src;
  plan->multiplier = p.alpha * plan->panels.factor;
  if (plan->panels.format == NBitsFormat::kS4) plan->multiplier /= 16;
  plan->post_ops = p.post_ops;
  return MakeFunctionKernel(absl::StrCat("highway:", unit == Unit::kAmx && !plan->direct() ? "AMX+" : "",
                                         plan->ops->name, ":", plan->weights->layout),
                            plan->scratch_bytes(),
                            [plan](const BindArgs& args) { Run(*plan, args)(); });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateMatmulNBitsAmx(const MatmulNBitsParams& params,
                                                             const KernelEnv& env) {
  return Create(params, env, Unit::kAmx);
}
absl::StatusOr<std::unique_ptr<Kernel>> CreateMatmulNBitsHighway(const MatmulNBitsParams& params,
                                                                 const KernelEnv& env) {
  return Create(params, env, Unit::kVector);
}

}  // namespace octet::kernels
