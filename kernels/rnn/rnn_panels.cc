// Recurrent layers of f32 on weights packed in panels of 16 units with their gates side by side: the sums of all gates of
// a unit meet in registers, and a step needs no more than one pass over R. W x of many steps is computed at once, before
// the steps.
//
// Threads share the directions, then the rows of a large batch (then nobody waits for anybody), else the panels of each
// step.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/rnn/rnn_operands.h"
#include "kernels/rnn/rnn_panels.h"

namespace octet::kernels {
namespace {

constexpr int64_t kInputRows = 128;           // (step, row) pairs whose W x is computed at once
constexpr int64_t kThreadMultiplyAdds = 64 << 10;  // less is not worth waking a thread
constexpr int64_t kRowsPerThread = 8;         // a batch is split when each thread gets so many rows
constexpr int64_t kPrivateElements = 256 << 10;  //   and all weights fit its own cache

int64_t GrainOf(int64_t multiply_adds_of_item) { return kThreadMultiplyAdds / std::max<int64_t>(multiply_adds_of_item, 1) + 1; }

// Sizes in elements, of one direction.
struct Sizes {
  explicit Sizes(const RnnParams& p)
      : gates(p.gates()), hidden(p.hidden()), input(p.input()), panels((hidden + kPanel - 1) / kPanel) {}

  int64_t gates, hidden, input, panels;
  int64_t padded() const { return panels * kPanel; }
  int64_t line() const { return panels * gates * kPanel; }  // W x of one row
  // Packed parts and their offsets.
  int64_t w() const { return 0; }
  int64_t r() const { return w() + input * line(); }
  int64_t bias() const { return r() + hidden * line(); }
  int64_t reset_bias() const { return bias() + line(); }
  int64_t peepholes() const { return reset_bias() + padded(); }
  int64_t packed() const { return peepholes() + 3 * padded(); }
};

// [gates H, K] -> panels [K][gates][kPanel].
void PackPanels(const Sizes& s, const float* from, int64_t depth, float* to) {
  for (int64_t panel = 0; panel < s.panels; ++panel) {
    for (int64_t gate = 0; gate < s.gates; ++gate) {
      for (int64_t u = 0; u < std::min(kPanel, s.hidden - panel * kPanel); ++u) {
        const float* row = from + (gate * s.hidden + panel * kPanel + u) * depth;
        float* out = to + (panel * depth * s.gates + gate) * kPanel + u;
        for (int64_t k = 0; k < depth; ++k) out[k * s.gates * kPanel] = row[k];
      }
    }
  }
}

// All parameters of all directions. Requires f32 operands.
void Pack(const RnnParams& p, const RnnOperands& o, float* to) {
  const Sizes s(p);
  std::memset(to, 0, sizeof(float) * static_cast<size_t>(s.packed() * p.directions()));
  for (int64_t d = 0; d < p.directions(); ++d, to += s.packed()) {
    const int64_t rows = s.gates * s.hidden;
    PackPanels(s, static_cast<const float*>(o.w) + d * rows * s.input, s.input, to + s.w());
    PackPanels(s, static_cast<const float*>(o.r) + d * rows * s.hidden, s.hidden, to + s.r());
    const float* bias = o.b == nullptr ? nullptr : static_cast<const float*>(o.b) + d * 2 * rows;
    const bool apart = p.cell == RnnParams::Cell::kGru && p.reset == RnnParams::Reset::kAfterProduct;
    for (int64_t i = 0; bias != nullptr && i < rows; ++i) {
      const int64_t gate = i / s.hidden, unit = i % s.hidden;
      const float recurrent = bias[rows + i];
      const bool of_reset = apart && gate == 2;
      to[s.bias() + (unit / kPanel * s.gates + gate) * kPanel + unit % kPanel] = bias[i] + (of_reset ? 0 : recurrent);
      if (of_reset) to[s.reset_bias() + unit] = recurrent;
    }
    const float* peepholes = o.p == nullptr ? nullptr : static_cast<const float*>(o.p) + d * 3 * s.hidden;
    for (int64_t i = 0; peepholes != nullptr && i < 3 * s.hidden; ++i) {
      const int64_t gate = i / s.hidden, unit = i % s.hidden;
      to[s.peepholes() + (unit / kPanel * 3 + gate) * kPanel + unit % kPanel] = peepholes[i];
    }
  }
}

// What one thread (or, with inner parallelism, the team) works through: rows [first, first + rows) of direction d.
struct Task {
  int64_t d = 0, first = 0, rows = 0;
};

// The memory and the steps of one task.
class Walk {
 public:
  // Steps whose W x is held at once.
  static int64_t ChunkSteps(const RnnParams& p, int64_t rows) {
    return std::clamp<int64_t>(kInputRows / std::max<int64_t>(rows, 1), 1, std::max<int64_t>(p.time(), 1));
  }
  static int64_t Elements(const RnnParams& p, int64_t rows) {
    const Sizes s(p);
    return rows * (ChunkSteps(p, rows) * s.line() + 5 * s.padded());
  }

  Walk(const RnnParams& p, const RnnOperands& o, const float* packed, const Task& task, float* memory)
      : p_(p), o_(o), s_(p), task_(task), packed_(packed + task.d * s_.packed()), steps_(ChunkSteps(p, task.rows)) {
    input_ = memory;
    float* next = memory + task.rows * steps_ * s_.line();
    for (float** state : {&h_[0], &h_[1], &c_, &update_, &reset_}) *state = std::exchange(next, next + task.rows * s_.padded());
    const GateFunction* f = &p.functions[static_cast<size_t>(task.d * p.functions_per_direction())];
    const int64_t n = p.functions_per_direction();
    math_ = {p.cell, p.forget, p.reset, p.clip.value_or(0.0f), f[0], n > 1 ? f[1] : f[0], n > 2 ? f[2] : f[0]};
    for (int64_t b = 0; b < task.rows; ++b) longest_ = std::max(longest_, Length(b));
  }

  // `team` is null on a thread that walks alone.
  void Run(ParallelFor* team) {
    Start();
    for (int64_t s = 0; s < longest_; s += steps_) {
      const int64_t steps = std::min(steps_, longest_ - s);
      Project(s, steps, team);
      for (int64_t i = 0; i < steps; ++i) Step(s + i, i, team);
    }
    Finish();
  }

 private:
  int64_t Length(int64_t row) const { return LengthOf(p_, o_, task_.first + row); }
  int64_t TimeOf(int64_t step, int64_t row) const { return IsReverse(p_, task_.d) ? Length(row) - 1 - step : step; }
  const float* SrcOf(int64_t step, int64_t row) const {
    const int64_t time = step < Length(row) ? TimeOf(step, row) : 0;  // W x behind a row's end is not read
    return static_cast<const float*>(o_.x) + SrcRow(p_, time, task_.first + row);
  }
  int64_t State(int64_t row) const { return StateRow(p_, task_.first + row, task_.d); }

  void Start() {
    std::memset(h_[0], 0, sizeof(float) * static_cast<size_t>(5 * task_.rows * s_.padded()));
    for (int64_t row = 0; row < task_.rows; ++row) {
      if (o_.h0 != nullptr) std::copy_n(static_cast<const float*>(o_.h0) + State(row), s_.hidden, h_[0] + row * s_.padded());
      if (o_.c0 != nullptr) std::copy_n(static_cast<const float*>(o_.c0) + State(row), s_.hidden, c_ + row * s_.padded());
    }
  }

  // input_[step][row] = W x + bias for steps [first, first + steps).
  void Project(int64_t first, int64_t steps, ParallelFor* team) {
    const int64_t pairs = steps * task_.rows, blocks = (pairs + kMaxRows - 1) / kMaxRows;
    const int64_t work = std::min(pairs, kMaxRows) * s_.input * s_.gates * kPanel;
    RunParallel(team, s_.panels * blocks, GrainOf(work), [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t panel = item / blocks, pair = item % blocks * kMaxRows;
        const float* src[kMaxRows];
        const int64_t rows = std::min(kMaxRows, pairs - pair);
        for (int64_t i = 0; i < rows; ++i) src[i] = SrcOf(first + (pair + i) / task_.rows, (pair + i) % task_.rows);
        const int64_t width = s_.gates * kPanel;
        float* out = input_ + pair * s_.line() + panel * width;
        RunPanelProduct({src, rows, s_.input, packed_ + s_.w() + panel * s_.input * width, s_.gates, 0, s_.gates, out,
                         s_.line()});
        const float* bias = packed_ + s_.bias() + panel * width;
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < width; ++j) out[i * s_.line() + j] += bias[j];
        }
      }
    });
  }

  void Step(int64_t step, int64_t in_chunk, ParallelFor* team) {
    const int64_t grain = GrainOf(task_.rows * s_.hidden * s_.gates * kPanel);
    const auto over_panels = [&](auto part) {
      RunParallel(team, s_.panels, grain, [&](int64_t begin, int64_t end) {
        for (int64_t panel = begin; panel < end; ++panel) part(panel);
      });
    };
    if (math_.cell == RnnParams::Cell::kGru && math_.reset == RnnParams::Reset::kBeforeProduct) {
      over_panels([&](int64_t panel) { Rows(step, in_chunk, panel, 0, 2, h_[step & 1], RunResetHalf); });
      over_panels([&](int64_t panel) {
        Rows(step, in_chunk, panel, 2, 1, reset_, RunStateHalf);
        Write(step, panel);
      });
      return;
    }
    over_panels([&](int64_t panel) {
      Rows(step, in_chunk, panel, 0, s_.gates, h_[step & 1], RunCell);
      Write(step, panel);
    });
  }

  // The product of `gates` gates of one panel with `state`, and `finish` on each row that is not at its end.
  void Rows(int64_t step, int64_t in_chunk, int64_t panel, int64_t first_gate, int64_t gates, const float* state,
            void (*finish)(const CellMath&, const CellUnits&)) {
    const int64_t width = s_.gates * kPanel, unit = panel * kPanel;
    float product[kMaxRows * 4 * kPanel];
    const float* src[kMaxRows];
    int64_t active[kMaxRows];
    for (int64_t row = 0; row < task_.rows;) {
      int64_t n = 0;
      for (; row < task_.rows && n < kMaxRows; ++row) {
        if (step >= Length(row)) continue;
        active[n] = row;
        src[n++] = state + row * s_.padded();
      }
      if (n == 0) continue;
      RunPanelProduct({src, n, s_.hidden, packed_ + s_.r() + panel * s_.hidden * width, s_.gates, first_gate, gates,
                       product + first_gate * kPanel, width});
      for (int64_t i = 0; i < n; ++i) {
        const int64_t at = active[i] * s_.padded() + unit;
        CellUnits u;
        u.input = input_ + (in_chunk * task_.rows + active[i]) * s_.line() + panel * width;
        u.product = product + i * width;
        u.last = h_[step & 1] + at;
        u.next = h_[(step + 1) & 1] + at;
        u.cell = c_ + at;
        u.peepholes = p_.peepholes.spec ? packed_ + s_.peepholes() + 3 * unit : nullptr;
        u.reset_bias = packed_ + s_.reset_bias() + unit;
        u.update = update_ + at;
        u.reset = reset_ + at;
        finish(math_, u);
      }
    }
  }

  // The new state of one panel into Y.
  void Write(int64_t step, int64_t panel) {
    if (o_.y == nullptr) return;
    const int64_t unit = panel * kPanel, n = std::min(kPanel, s_.hidden - unit);
    for (int64_t row = 0; row < task_.rows; ++row) {
      if (step >= Length(row)) continue;
      float* y = static_cast<float*>(o_.y) + OutputRow(p_, TimeOf(step, row), task_.first + row, task_.d);
      std::copy_n(h_[(step + 1) & 1] + row * s_.padded() + unit, n, y + unit);
    }
  }

  // Last states, and zeros behind the rows' ends.
  void Finish() {
    for (int64_t row = 0; row < task_.rows; ++row) {
      const int64_t length = Length(row);
      const auto last = [&](void* to, const float* state) {
        if (to == nullptr) return;
        float* out = static_cast<float*>(to) + State(row);
        if (length == 0) {
          std::fill_n(out, s_.hidden, 0.0f);
        } else {
          std::copy_n(state + row * s_.padded(), s_.hidden, out);
        }
      };
      last(o_.y_h, h_[length & 1]);
      last(o_.y_c, c_);
      for (int64_t t = length; o_.y != nullptr && t < p_.time(); ++t) {
        std::fill_n(static_cast<float*>(o_.y) + OutputRow(p_, t, task_.first + row, task_.d), s_.hidden, 0.0f);
      }
    }
  }

  const RnnParams& p_;
  const RnnOperands& o_;
  const Sizes s_;
  const Task task_;
  const float* const packed_;
  const int64_t steps_;
  int64_t longest_ = 0;
  CellMath math_;
  float* input_;  // [steps_][rows][panels][gates][kPanel]
  float* h_[2];   // [rows][padded]; step s reads h_[s & 1] and writes the other
  float *c_, *update_, *reset_;
};

class Panels final : public Kernel {
 public:
  Panels(const RnnParams& params, int threads, std::shared_ptr<const PackedWeights> packed)
      : Kernel("panels"), params_(params), packed_(std::move(packed)) {
    const int64_t directions = params.directions(), batch = params.batch();
    int64_t splits = 1;
    if (threads > directions) {
      const int64_t wanted = (threads + directions - 1) / directions;
      if (batch >= wanted * kRowsPerThread && Sizes(params).packed() <= kPrivateElements) splits = wanted;
    }
    together_ = threads > directions && splits == 1;
    for (int64_t d = 0; d < directions; ++d) {
      for (int64_t i = 0; i < splits; ++i) {
        const int64_t first = batch * i / splits;
        tasks_.push_back({d, first, batch * (i + 1) / splits - first});
      }
    }
    region_ = Walk::Elements(params, (batch + splits - 1) / splits);
  }

  int64_t scratch_bytes() const override {
    return (PackedElements() + region_ * static_cast<int64_t>(tasks_.size())) * static_cast<int64_t>(sizeof(float));
  }

  absl::StatusOr<BoundKernel> Bind(const BindArgs& args) const override {
    auto* const scratch = static_cast<float*>(args.scratch);
    return BoundKernel([this, o = OperandsOf(params_, args), scratch, parallel = args.parallel]() -> absl::Status {
      OCTET_RETURN_IF_ERROR(CheckLengths(params_, o));
      const float* packed = scratch;
      if (packed_ != nullptr) {
        packed = reinterpret_cast<const float*>(packed_->data.data());
      } else {
        Pack(params_, o, scratch);
      }
      const auto walk = [&](int64_t i, ParallelFor* team) {
        Walk(params_, o, packed, tasks_[static_cast<size_t>(i)], scratch + PackedElements() + i * region_).Run(team);
      };
      const auto n = static_cast<int64_t>(tasks_.size());
      if (together_) {
        for (int64_t i = 0; i < n; ++i) walk(i, parallel);
        return absl::OkStatus();
      }
      RunParallel(parallel, n, GrainOf(TaskMultiplyAdds()), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) walk(i, nullptr);
      });
      return absl::OkStatus();
    });
  }

 private:
  int64_t PackedElements() const { return packed_ != nullptr ? 0 : Sizes(params_).packed() * params_.directions(); }
  int64_t TaskMultiplyAdds() const {
    const Sizes s(params_);
    return params_.time() * tasks_[0].rows * s.line() * (s.input + s.hidden);
  }

  const RnnParams params_;
  const std::shared_ptr<const PackedWeights> packed_;
  std::vector<Task> tasks_;
  bool together_ = false;  // the team works on one task at a time
  int64_t region_ = 0;     // elements of memory per task
};

absl::StatusOr<PackedWeights> PackConstants(const RnnParams& p) {
  for (const RnnWeight* w : {&p.weights, &p.recurrence, &p.bias, &p.peepholes}) {
    if (w->spec && w->constant.tensor.data() == nullptr) {
      return absl::InternalError("recurrent layer: a constant was released before it was packed");
    }
  }
  // A slice of a model file may lie at any address.
  RnnParams aligned = p;
  for (RnnWeight* w : {&aligned.weights, &aligned.recurrence, &aligned.bias, &aligned.peepholes}) {
    const Tensor& t = w->constant.tensor;
    if (w->spec && reinterpret_cast<uintptr_t>(t.data()) % alignof(float) != 0) {
      w->constant.tensor = Tensor::FromF32(t.shape(), t.ToF32());
    }
  }
  PackedWeights packed;
  const int64_t elements = Sizes(p).packed() * p.directions();
  OCTET_ASSIGN_OR_RETURN(packed.data, Buffer::Allocate(elements * static_cast<int64_t>(sizeof(float))));
  const void* const none[] = {nullptr, nullptr, nullptr, nullptr};
  void* const no_dst[] = {nullptr, nullptr, nullptr};
  Pack(p, OperandsOf(aligned, {none, no_dst, nullptr, nullptr}), reinterpret_cast<float*>(packed.data.data()));
  packed.layout = absl::StrCat("panels", kPanel);
  return packed;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateRnnPanels(const RnnParams& p, const KernelEnv& env) {
  if (p.src.dtype != DType::kF32) return absl::UnimplementedError(absl::StrCat("operands are ", NameOf(p.src.dtype)));
  std::shared_ptr<const PackedWeights> packed;
  if (p.has_constant_weights()) {
    if (env.weights != nullptr) {
      const std::string key =
          absl::StrCat(p.weights.constant.id, "/rnn/", p.recurrence.constant.id, ".", p.bias.constant.id, ".",
                       p.peepholes.constant.id, ".", static_cast<int>(p.cell), ".", static_cast<int>(p.reset));
      OCTET_ASSIGN_OR_RETURN(packed, env.weights->GetOrPack(key, [&] { return PackConstants(p); }));
    } else {
      OCTET_ASSIGN_OR_RETURN(PackedWeights own, PackConstants(p));
      packed = std::make_shared<const PackedWeights>(std::move(own));
    }
  }
  return std::make_unique<Panels>(p, env.threads, std::move(packed));
}

}  // namespace octet::kernels
