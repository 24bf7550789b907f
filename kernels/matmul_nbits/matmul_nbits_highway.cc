// MatmulNBits by our own vector loops: source rows are quantized first, then each thread takes
// panels of columns.
//
// Up to eight rows are multiplied with the packed records directly: one pass over memory is most of their cost.
// More rows share tiles that are unpacked to s8 once, in L1. Entry "amx" multiplies those tiles on
// AMX.
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

  // Scratch: source rows | their scales | per worker: tile weights | tile scales | accumulators.
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
  int64_t worker_bytes() const { return tile_bytes() + scales_bytes() + acc_bytes(); }
  // Groups of more than one step of AMX are long.
  bool direct() const {
    const bool long_groups = unit == Unit::kAmx && panels.group > 64;
    return rows <= (long_groups ? kDirectRowsOfLongGroups : kDirectRows);
  }
  int64_t scratch_bytes() const {
    return rows_bytes() + row_scales_bytes() + workers * worker_bytes();
  }
};

// One run of a plan on its operands.
class Run {
 public:
  Run(const Plan& plan, const BindArgs& args)
      : plan_(plan),
        src_(static_cast<const std::byte*>(args.src[0])),
        dst_(static_cast<float*>(args.dst[0])),
        parallel_(args.parallel),
        quantized_(static_cast<uint8_t*>(args.scratch)),
        row_scales_(reinterpret_cast<NBitsRow*>(quantized_ + plan.rows_bytes())),
        worker_scratch_(quantized_ + plan.rows_bytes() + plan.row_scales_bytes()),
        packed_(reinterpret_cast<const uint8_t*>(plan.weights->data.data())),
        packed_end_(packed_ + plan.weights->data.size_bytes()) {}

  void operator()() {
    RunParallel(parallel_, plan_.rows, std::max<int64_t>(kGrainProducts / 4 / plan_.panels.k, 1),
                [&](int64_t begin, int64_t end) {
                  for (int64_t m = begin; m < end; ++m) QuantizeSource(m);
                });
    const int64_t products = plan_.rows * plan_.panels.depth * plan_.panels.n;
    const int64_t grain = products < kGrainProducts ? plan_.workers : 1;
    RunParallel(parallel_, plan_.workers, grain, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) Work(worker);
    });
  }

 private:
  void QuantizeSource(int64_t m) {
    const int64_t k = plan_.panels.k;
    uint8_t* to = quantized_ + m * plan_.src_stride();
    const std::byte* from = src_ + m * k * BytesOf(plan_.src.dtype);
    if (!plan_.src.quant) {
      row_scales_[m] = plan_.ops->quantize_row(reinterpret_cast<const float*>(from), k, to);
    } else {
      const int shift = plan_.src.dtype == DType::kS8 ? 128 : 0;  // s8 as u8
      for (int64_t i = 0; i < k; ++i)
        to[i] = static_cast<uint8_t>(static_cast<uint8_t>(from[i]) ^ shift);
      row_scales_[m] = {plan_.src.quant->scale[0],
                        static_cast<float>(plan_.src.quant->zero_point_at(0) + shift)};
    }
    std::memset(to + k, 0, static_cast<size_t>(plan_.panels.depth - k));
    if (plan_.panels.format == NBitsFormat::kVectors) plan_.ops->order_for_vectors(to, plan_.panels.depth);
  }

  // Items are panels times blocks of rows, blocks fastest; each worker takes a contiguous share.
  void Work(int64_t worker) {
    const int64_t blocks = (plan_.rows + kRowBlock - 1) / kRowBlock;
    const int64_t items = plan_.panels.panels() * blocks;
    const int64_t end = items * (worker + 1) / plan_.workers;
    const bool amx = plan_.unit == Unit::kAmx && !plan_.direct();
    if (amx) NBitsAmxBegin(AmxStep(plan_.panels.group));
    for (int64_t item = items * worker / plan_.workers; item < end; ++item) {
      const int64_t p = item / blocks, first = item % blocks * kRowBlock;
      const NBitsPanel panel = {&plan_.panels, packed_ + plan_.panels.panel_offset(p),
                                plan_.panels.width(p)};
      uint8_t* scratch = worker_scratch_ + worker * plan_.worker_bytes();
      if (plan_.direct()) {
        Direct(panel, p);
      } else {
        Tiles(panel, p, first, std::min(kRowBlock, plan_.rows - first), scratch);
      }
    }
    if (amx) NBitsAmxEnd();
  }

  void Direct(const NBitsPanel& panel, int64_t p) {
    alignas(64) float acc[kDirectRows * kNBitsAccStride] = {};
    plan_.ops->multiply_few_rows(panel, quantized_, plan_.src_stride(), plan_.rows, acc);
    for (int64_t m = 0; m < plan_.rows; ++m) Finish(p, m, acc + m * kNBitsAccStride);
  }

  void Tiles(const NBitsPanel& panel, int64_t p, int64_t first, int64_t rows, uint8_t* scratch) {
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
      const uint8_t* src = quantized_ + first * plan_.src_stride() + k;
      if (amx_step != 0 && tile.depth % amx_step == 0) {
        NBitsAmxMultiplyTile(tile, src, plan_.src_stride(), rows, acc);
      } else {
        plan_.ops->multiply_tile(tile, src, plan_.src_stride(), rows, acc);
      }
    }
    for (int64_t m = 0; m < rows; ++m) Finish(p, first + m, acc + m * kNBitsAccStride);
  }

  void Finish(int64_t p, int64_t m, const float* acc) {
    const int64_t column = p * NBitsPanels::kWidth;
    NBitsFinish finish;
    finish.multiplier = plan_.multiplier;
    finish.sums = reinterpret_cast<const float*>(packed_ + plan_.panels.sums_offset()) + column;
    if (plan_.bias != nullptr) {
      finish.bias = reinterpret_cast<const float*>(plan_.bias->data.data()) + column;
    }
    finish.post_ops = plan_.post_ops;
    const int64_t n = std::min(NBitsPanels::kWidth, plan_.panels.n - column);
    plan_.ops->finish_row(finish, row_scales_[m], acc, n, dst_ + m * plan_.panels.n + column);
  }

  const Plan& plan_;
  const std::byte* src_;
  float* dst_;
  ParallelFor* parallel_;
  uint8_t* quantized_;
  NBitsRow* row_scales_;
  uint8_t* worker_scratch_;
  const uint8_t* packed_;
  const uint8_t* packed_end_;
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
