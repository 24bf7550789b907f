// Recurrent layers in plain loops and double precision: the oracle, and what other types than f32 use.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/elements.h"
#include "kernels/rnn/rnn_operands.h"

namespace octet::kernels {
namespace {

using Vector = std::vector<double>;

// One direction of one row.
class Row {
 public:
  Row(const RnnParams& p, const RnnOperands& o, int64_t d, int64_t b)
      : p_(p), o_(o), d_(d), b_(b), n_(p.hidden()), h_(Read(p.initial_h, o.h0)), c_(Read(p.initial_c, o.c0)) {}

  void Run() const {
    Vector h = h_, c = c_;
    const int64_t length = LengthOf(p_, o_, b_);
    for (int64_t s = 0; s < p_.time(); ++s) {
      const int64_t t = IsReverse(p_, d_) && s < length ? length - 1 - s : s;
      if (s < length) Step(t, &h, &c);
      for (int64_t j = 0; p_.y && j < n_; ++j) {
        StoreNumber(p_.y->dtype, o_.y, OutputRow(p_, t, b_, d_) + j, s < length ? h[At(j)] : 0);
      }
    }
    for (int64_t j = 0; j < n_; ++j) {
      const int64_t at = StateRow(p_, b_, d_) + j;
      if (p_.y_h) StoreNumber(p_.y_h->dtype, o_.y_h, at, length > 0 ? h[At(j)] : 0);
      if (p_.y_c) StoreNumber(p_.y_c->dtype, o_.y_c, at, length > 0 ? c[At(j)] : 0);
    }
  }

 private:
  static size_t At(int64_t i) { return static_cast<size_t>(i); }

  Vector Read(const std::optional<TensorSpec>& spec, const void* data) const {
    Vector state(At(n_), 0.0);
    for (int64_t j = 0; spec && j < n_; ++j) state[At(j)] = LoadNumber(spec->dtype, data, StateRow(p_, b_, d_) + j);
    return state;
  }
  double Load(const RnnWeight& w, const void* data, int64_t index) const {
    return w.spec ? LoadNumber(w.spec->dtype, data, index) : 0;
  }
  // Wb of part 0, Rb of part 1.
  double Bias(int64_t part, int64_t gate, int64_t j) const {
    return Load(p_.bias, o_.b, (d_ * 2 + part) * p_.gates() * n_ + gate * n_ + j);
  }
  double Peephole(int64_t gate, int64_t j, double c) const { return Load(p_.peepholes, o_.p, (d_ * 3 + gate) * n_ + j) * c; }
  double Input(int64_t gate, int64_t j, int64_t t) const {
    double sum = 0;
    const int64_t row = ((d_ * p_.gates() + gate) * n_ + j) * p_.input();
    for (int64_t k = 0; k < p_.input(); ++k) {
      sum += LoadNumber(p_.src.dtype, o_.x, SrcRow(p_, t, b_) + k) * Load(p_.weights, o_.w, row + k);
    }
    return sum;
  }
  double Recurrent(int64_t gate, int64_t j, const Vector& h) const {
    double sum = 0;
    for (int64_t k = 0; k < n_; ++k) {
      sum += h[At(k)] * Load(p_.recurrence, o_.r, ((d_ * p_.gates() + gate) * n_ + j) * n_ + k);
    }
    return sum;
  }
  double F(int64_t function, double x) const {
    if (p_.clip) x = std::clamp(x, -static_cast<double>(*p_.clip), static_cast<double>(*p_.clip));
    return Unclipped(function, x);
  }
  double Unclipped(int64_t function, double x) const {
    return Apply(p_.functions[At(d_ * p_.functions_per_direction() + function)], x);
  }
  double Gate(int64_t gate, int64_t j, int64_t t, const Vector& h) const {
    return Input(gate, j, t) + Recurrent(gate, j, h) + Bias(0, gate, j) + Bias(1, gate, j);
  }

  void Step(int64_t t, Vector* h, Vector* c) const {
    const Vector last = *h;
    Vector reset = last;
    for (int64_t j = 0; p_.cell == RnnParams::Cell::kGru && j < n_; ++j) reset[At(j)] *= F(0, Gate(1, j, t, last));
    for (int64_t j = 0; j < n_; ++j) {
      double& out = (*h)[At(j)];
      if (p_.cell == RnnParams::Cell::kRnn) {
        out = F(0, Gate(0, j, t, last));
      } else if (p_.cell == RnnParams::Cell::kGru) {
        const double z = F(0, Gate(0, j, t, last));
        double n = Input(2, j, t) + Bias(0, 2, j);
        if (p_.reset == RnnParams::Reset::kAfterProduct) {
          n += F(0, Gate(1, j, t, last)) * (Recurrent(2, j, last) + Bias(1, 2, j));
        } else {
          n += Recurrent(2, j, reset) + Bias(1, 2, j);
        }
        out = (1 - z) * F(1, n) + z * last[At(j)];
      } else {
        double& cell = (*c)[At(j)];
        const double i = F(0, Gate(0, j, t, last) + Peephole(0, j, cell));
        const double f = p_.forget == RnnParams::Forget::kOneMinusInput
                             ? 1 - i
                             : F(0, Gate(2, j, t, last) + Peephole(2, j, cell));
        cell = f * cell + i * F(1, Gate(3, j, t, last));
        out = F(0, Gate(1, j, t, last) + Peephole(1, j, cell)) * Unclipped(2, cell);
      }
    }
  }

  const RnnParams& p_;
  const RnnOperands& o_;
  const int64_t d_, b_, n_;
  const Vector h_, c_;
};

class Reference final : public Kernel {
 public:
  explicit Reference(const RnnParams& params) : Kernel("reference"), params_(params) {}
  absl::StatusOr<BoundKernel> Bind(const BindArgs& args) const override {
    return BoundKernel([this, o = OperandsOf(params_, args)]() -> absl::Status {
      if (absl::Status status = CheckLengths(params_, o); !status.ok()) return status;
      for (int64_t d = 0; d < params_.directions(); ++d) {
        for (int64_t b = 0; b < params_.batch(); ++b) Row(params_, o, d, b).Run();
      }
      return absl::OkStatus();
    });
  }

 private:
  const RnnParams params_;
};

}  // namespace

double Apply(const GateFunction& f, double x) {
  using Kind = GateFunction::Kind;
  switch (f.kind) {
    case Kind::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Kind::kTanh:
      return std::tanh(x);
    case Kind::kRelu:
      return std::max(x, 0.0);
    case Kind::kAffine:
      return f.alpha * x + f.beta;
    case Kind::kLeakyRelu:
      return x >= 0 ? x : f.alpha * x;
    case Kind::kThresholdedRelu:
      return x > f.alpha ? x : 0;
    case Kind::kScaledTanh:
      return f.alpha * std::tanh(f.beta * x);
    case Kind::kHardSigmoid:
      return std::clamp(f.alpha * x + f.beta, 0.0, 1.0);
    case Kind::kElu:
      return x >= 0 ? x : f.alpha * std::expm1(x);
    case Kind::kSoftsign:
      return x / (1 + std::fabs(x));
    case Kind::kSoftplus:
      return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
  }
  return x;
}

absl::StatusOr<std::unique_ptr<Kernel>> CreateRnnReference(const RnnParams& params, const KernelEnv&) {
  if (params.has_constant_weights() && params.weights.constant.tensor.data() == nullptr) {
    return absl::UnimplementedError("the weights have been released");
  }
  return std::make_unique<Reference>(params);
}

}  // namespace octet::kernels
