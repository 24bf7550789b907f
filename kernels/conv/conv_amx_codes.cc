// Conv of weights of less than 8 bits on AMX: entry "amx_codes".
//
// Tiles of weights are decoded from the codes of "onednn_codes" (one copy serves both) into a ring that stays in L1, while the
// tiles before them are multiplied: codes cross the memory bus once and decoded weights never leave the core. Every thread takes
// its own outputs and copies the source for itself, so that there is one parallel region. "onednn_codes" decodes all weights
// first, and wins where many rows make decoding cheap. Results are its, bit for bit.
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "kernels/amx.h"
#include "kernels/conv/conv.h"
#include "kernels/conv/conv_amx_codes.h"
#include "kernels/conv/conv_codes.h"
#include "kernels/conv/conv_rows.h"

namespace octet::kernels {
namespace {

// More rows, and decoding all weights first costs little (bench/README.md).
constexpr int64_t kMostPositions = kAmxMostTiles * 16;
constexpr int64_t kRoundBytes = 16 << 10;        // of the source, so that it stays in L1 for all outputs of a unit
constexpr int64_t kSplitBytes = 32 << 10;        // from here on worth rounds
constexpr int64_t kGrainProducts = 1 << 20;  // as kOneThreadMultiplyAdds of conv_onednn.cc

absl::Status Refuse(absl::string_view why) { return absl::UnimplementedError(why); }

absl::Status CheckForm(const ConvParams& p) {
  if (!IsNarrow(p.weights_dtype)) return Refuse("the weights have 8 bits or more");
  if (!AmxInt8Available()) return Refuse("no AMX int8 tiles here");
  if (p.groups != 1) return Refuse(absl::StrCat(p.groups, " groups"));
  if (p.runtime_quant || p.src.dtype != DType::kU8) return Refuse("src is not u8 with quantization");
  if (p.src.layout != Layout::kChannelsLast || p.dst.layout != Layout::kChannelsLast) return Refuse("not channels-last");
  if (NumElements(p.src.shape) == 0 || NumElements(p.dst.shape) == 0) return Refuse("empty tensor");
  return absl::OkStatus();
}

absl::StatusOr<AmxFinish> MakeFinish(const ConvParams& p) {
  using Op = AmxFinish::Op;
  AmxFinish f;
  f.outputs = p.dst.shape[1];
  f.to = p.dst.dtype == DType::kF32 ? AmxFinish::To::kF32 : p.dst.dtype == DType::kS8 ? AmxFinish::To::kS8 : AmxFinish::To::kU8;
  if (p.dst.quant) {
    f.inverse_scale = 1 / p.dst.quant->scale[0];
    f.zero_point = static_cast<float>(p.dst.quant->zero_point_at(0));
  }
  for (size_t i = 0; i < p.post_ops.size(); ++i) {
    const PostOp& op = p.post_ops[i];
    if (op.kind == PostOp::Kind::kAdd) {
      const auto& quant = op.residual.quant;
      const DType type = op.residual.dtype;
      f.steps.push_back({type == DType::kF32 ? Op::kAddF32 : type == DType::kS8 ? Op::kAddS8 : Op::kAddU8,
                         quant ? quant->scale[0] : 1.0f, quant ? static_cast<float>(quant->zero_point_at(0)) : 0.0f});
      continue;
    }
    const Activation& a = op.activation;
    if (i + 1 == p.post_ops.size() && SaturationGives(a, p.dst)) continue;
    if (a.kind == ActivationKind::kRelu) {
      f.steps.push_back({Op::kRelu});
    } else if (a.kind == ActivationKind::kLeakyRelu) {
      f.steps.push_back({Op::kLeakyRelu, a.alpha});
    } else if (a.kind == ActivationKind::kClip) {
      f.steps.push_back({Op::kClip, a.alpha, a.beta});
    } else {
      return Refuse(absl::StrCat("no ", NameOf(a.kind), " here"));
    }
  }
  return f;
}

// Quads of the depth of one AMX step.
int64_t StepQuads(const ConvPanels& panels) { return std::min<int64_t>(panels.quads, 16); }

// Requires: `rows` made for steps of StepQuads(). `depth` of channels that are multiplied at a time.
AmxWeights MakeWeights(const ConvCodes& codes, const std::byte* packed, const ConvRows& rows, int64_t depth) {
  AmxWeights w;
  w.stream = &codes.stream;
  w.packed = reinterpret_cast<const uint8_t*>(packed);
  w.quads = StepQuads(*codes.panels);
  const int64_t steps = codes.panels->quads / w.quads, at_once = std::max<int64_t>(depth / (w.quads * 4), 1);
  for (int64_t first = 0; first < steps; first += at_once) {
    for (int64_t tap = 0; tap < codes.panels->taps; ++tap) {
      for (int64_t s = first; s < std::min(first + at_once, steps); ++s) {
        w.stream_steps.push_back(tap * steps + s);
        w.src_offsets.push_back(rows.TapOffset(tap) * rows.pixel_bytes() + s * w.quads * 4);
      }
    }
  }
  w.round = std::min(at_once, steps) * codes.panels->taps;
  return w;
}

absl::Status CheckPanels(const ConvCodes& codes) {
  if (!codes.panels) return Refuse(absl::StrCat("layout ", LayoutString(codes.desc)));
  const int64_t quads = StepQuads(*codes.panels);
  if (codes.panels->quads % quads != 0 || quads % codes.stream.chunks_per_block() != 0) {
    return Refuse(absl::StrCat(codes.panels->quads * 4, " channels in codes of ", codes.stream.Name()));
  }
  return absl::OkStatus();
}

// Tiles of neighbouring positions, of as few rows as their number allows.
AmxRows MakeTiles(const ConvRows& rows) {
  AmxRows out;
  const int64_t positions = rows.positions(), tiles = (positions + 15) / 16;
  out.tile_rows = (positions + tiles - 1) / tiles;
  out.row_bytes = rows.pixel_bytes();
  int64_t done = 0;
  for (int64_t i = 0; i < tiles; ++i) {
    // Nothing may be read behind a source that is not copied: its last tile repeats rows of the one before.
    const int64_t start = rows.needs_copy() ? i * out.tile_rows : std::min(i * out.tile_rows, positions - out.tile_rows);
    out.tile_offsets.push_back(start * out.row_bytes);
    for (int64_t p = start; p < start + 16; ++p) {
      const bool computed = p >= done && p < positions && p < start + out.tile_rows;
      out.pixels.push_back(computed ? static_cast<int32_t>(rows.PixelAt(p)) : -1);
    }
    done = start + out.tile_rows;
  }
  return out;
}

// Columns of a unit: wide ones finish faster, but every thread must get as many.
int64_t UnitColumns(int64_t outputs, int64_t workers) {
  const int64_t panels = (outputs + 15) / 16;
  int64_t columns = kAmxMostColumns;
  for (; columns > 1; columns /= 2) {
    const int64_t units = (panels + columns - 1) / columns;
    if (units % workers == 0 || units >= 8 * workers) break;
  }
  return columns;
}

// zero_point * sum of an output's weights: what the source's zero point adds to its sums.
absl::StatusOr<std::shared_ptr<const PackedWeights>> Corrections(const ConvParams& p, const AmxWeights& w, WeightStore& store) {
  const int32_t zero_point = p.src.quant->zero_point_at(0);
  return store.GetOrPack(absl::StrCat(p.weights.id, "/conv_codes_sums/", zero_point), [&]() -> absl::StatusOr<PackedWeights> {
    const int64_t outputs = p.dst.shape[1], chunks = w.steps() * w.quads, blocks = chunks / w.stream->chunks_per_block();
    OCTET_ASSIGN_OR_RETURN(Buffer panel, Buffer::Allocate(chunks * CodeStream::kChunk));
    auto* const decoded = reinterpret_cast<int8_t*>(panel.data());
    PackedWeights out;
    OCTET_ASSIGN_OR_RETURN(out.data, Buffer::Allocate(outputs * int64_t{sizeof(int32_t)}));
    auto* const sums = reinterpret_cast<int32_t*>(out.data.data());
    for (int64_t o = 0; o < outputs; ++o) {
      if (o % 16 == 0) ChooseCodeStreamDecode()(*w.stream, w.packed, o / 16 * blocks, (o / 16 + 1) * blocks, decoded, CodeStream::kChunk);
      int32_t sum = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const int8_t* quad = decoded + chunk * CodeStream::kChunk + o % 16 * 4;
        sum += quad[0] + quad[1] + quad[2] + quad[3];
      }
      sums[o] = sum * zero_point;
    }
    out.layout = "vector";
    return out;
  });
}

// Everything a run needs; immutable.
struct Plan {
  ConvCodesOperands operands;
  std::shared_ptr<const PackedWeights> corrections;
  std::unique_ptr<ConvRows> rows;
  AmxWeights weights;
  AmxRows tiles;
  AmxFinish finish;
  uint8_t padding = 0;
  int64_t workers = 1, columns = 1;

  int64_t copy_bytes() const { return (rows->copy_bytes() + 63) / 64 * 64; }
  int64_t worker_bytes() const { return copy_bytes() + AmxScratchBytes(weights); }
};

// Rows, tiles, rounds and shares.
absl::Status PlanRows(const ConvParams& params, const KernelEnv& env, const ConvCodes& codes, Plan& plan) {
  const int64_t depth = StepQuads(*codes.panels) * 4, channels = codes.panels->quads * 4;
  plan.rows = std::make_unique<ConvRows>(params, depth);
  const int64_t positions = plan.rows->positions();
  if (positions > kMostPositions) return Refuse(absl::StrCat(positions, " rows"));
  int64_t at_once = channels;
  // Other taps read what the one before has left in L1.
  if (codes.panels->taps == 1 && positions * channels > kSplitBytes) {
    at_once = std::max(kRoundBytes / positions / depth * depth, depth);
    plan.rows = std::make_unique<ConvRows>(params, depth, ConvRows::Copied::kAlways);
  }
  plan.tiles = MakeTiles(*plan.rows);
  plan.weights = MakeWeights(codes, plan.operands.codes->data.data(), *plan.rows, at_once);
  plan.workers = NumElements(params.weights_shape) * positions < kGrainProducts ? 1 : std::max(env.threads, 1);
  plan.columns = UnitColumns(plan.finish.outputs, plan.workers);
  return absl::OkStatus();
}

void Run(const Plan& plan, const BindArgs& args) {
  const int64_t units = (plan.finish.outputs + plan.columns * 16 - 1) / (plan.columns * 16);
  RunParallel(args.parallel, plan.workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      auto* const scratch = static_cast<uint8_t*>(args.scratch) + worker * plan.worker_bytes();
      AmxShare share;
      share.columns = plan.columns;
      share.begin = units * worker / plan.workers;
      share.end = units * (worker + 1) / plan.workers;
      if (share.begin == share.end) continue;
      share.rows = static_cast<const uint8_t*>(args.src[0]);
      if (plan.rows->needs_copy()) {
        PrefetchAmxCodes(plan.weights, share);
        plan.rows->Copy(share.rows, plan.padding, scratch);
        share.rows = scratch;
      }
      share.scratch = scratch + plan.copy_bytes();
      share.dst = args.dst[0];
      MultiplyAmxCodes(plan.weights, plan.tiles, plan.finish, share);
    }
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateConvAmxCodes(const ConvParams& params, const KernelEnv& env) {
  OCTET_RETURN_IF_ERROR(CheckForm(params));
  auto plan = std::make_shared<Plan>();
  OCTET_ASSIGN_OR_RETURN(plan->finish, MakeFinish(params));
  WeightStore own;
  const KernelEnv stored{env.weights != nullptr ? env.weights : &own, env.threads};
  OCTET_ASSIGN_OR_RETURN(plan->operands, OneDnnConvCodes(params, stored));
  const PackedWeights& codes = *plan->operands.codes;
  const auto& detail = std::any_cast<const ConvCodes&>(codes.detail);
  OCTET_RETURN_IF_ERROR(CheckPanels(detail));
  OCTET_RETURN_IF_ERROR(PlanRows(params, env, detail, *plan));
  plan->padding = static_cast<uint8_t>(params.src.quant->zero_point_at(0));
  plan->finish.scales = plan->operands.scales;
  plan->finish.bias = plan->operands.bias;
  if (plan->padding != 0) {
    OCTET_ASSIGN_OR_RETURN(plan->corrections, Corrections(params, plan->weights, *stored.weights));
    plan->finish.corrections = reinterpret_cast<const int32_t*>(plan->corrections->data.data());
  }
  return MakeFunctionKernel(absl::StrCat("amx:codes of ", detail.stream.Name()), plan->workers * plan->worker_bytes(),
                            [plan](const BindArgs& args) { Run(*plan, args); });
}

}  // namespace octet::kernels
