// Recurrent layers: LSTM, GRU and the plain RNN with ONNX's whole semantics.
//
// One step of a direction, x = src at time t, h and c the state, gates in the order of their weights:
//
//   LSTM (i o f c)  i = f(Wi x + Ri h + Pi c + bi)    f' = f(Wf x + Rf h + Pf c + bf), 1 - i with input_forget
//                   c := f' c + i g(Wc x + Rc h + bc)
//                   o = f(Wo x + Ro h + Po c + bo)    h := o h(c)            (Po sees the new c)
//   GRU (z r h)     z = f(Wz x + Rz h + bz)           r = f(Wr x + Rr h + br)
//                   n = g(Wh x + Rh (r h) + bh),      or g(Wh x + r (Rh h + Rbh) + Wbh) with linear_before_reset
//                   h := (1 - z) n + z h
//   RNN (i)         h := f(Wi x + Ri h + bi)
//
// b is Wb + Rb. With `clip`, what goes into f and g is limited to [-clip, clip] (h(c) is not: as ONNX Runtime does). A row
// that is shorter than the others (sequence_lens) keeps its state, has 0 in y behind its end, and is reversed within its
// own length; a row of length 0 has a last state of 0 (as ONNX Runtime).
//
// Operands of Bind: src[0] = X; then, unless the weights are constants, W, R, and B, P where present; then sequence_lens,
// initial_h, initial_c where present. dst: y, y_h, y_c, those that are wanted. A run fails with kInvalidArgument when a
// sequence length is outside of [0, time]. Source: ONNX LSTM-22, GRU-22, RNN-22.
#ifndef OCTET_KERNELS_RNN_RNN_H_
#define OCTET_KERNELS_RNN_RNN_H_

#include <memory>
#include <optional>
#include <vector>

#include "kernels/kernel.h"

namespace octet::kernels {

// The element functions that ONNX allows in gates.
struct GateFunction {
  enum class Kind : uint8_t {
    kSigmoid,
    kTanh,
    kRelu,
    kAffine,           // alpha x + beta
    kLeakyRelu,        // x >= 0 ? x : alpha x
    kThresholdedRelu,  // x > alpha ? x : 0
    kScaledTanh,       // alpha tanh(beta x)
    kHardSigmoid,      // min(max(alpha x + beta, 0), 1)
    kElu,              // x >= 0 ? x : alpha (exp(x) - 1)
    kSoftsign,         // x / (1 + |x|)
    kSoftplus,         // log(1 + exp(x))
  };
  Kind kind = Kind::kSigmoid;
  float alpha = 0;
  float beta = 0;
};
double Apply(const GateFunction& function, double x);

// A parameter: a constant when `constant` is present, else read at run time. Absent when spec is.
struct RnnWeight {
  std::optional<TensorSpec> spec;
  ConstantSpec constant;
};

struct RnnParams {
  enum class Cell : uint8_t { kLstm, kGru, kRnn };
  enum class Direction : uint8_t { kForward, kReverse, kBidirectional };
  enum class Layout : uint8_t { kTimeFirst, kBatchFirst };                   // ONNX's layout 0 and 1
  enum class Forget : uint8_t { kOwnGate, kOneMinusInput };                  // input_forget
  enum class Reset : uint8_t { kBeforeProduct, kAfterProduct };              // linear_before_reset 0 and 1
  Cell cell = Cell::kLstm;
  Direction direction = Direction::kForward;
  Layout layout = Layout::kTimeFirst;
  Forget forget = Forget::kOwnGate;
  Reset reset = Reset::kBeforeProduct;
  std::optional<float> clip;
  std::vector<GateFunction> functions;  // f, g, h of each direction, as many as the cell has: 3, 2, 1

  TensorSpec src;       // [T, B, I], batch first [B, T, I]
  RnnWeight weights;    // [D, gates H, I]
  RnnWeight recurrence; // [D, gates H, H]
  RnnWeight bias;       // [D, 2 gates H]: Wb, Rb; optional
  RnnWeight peepholes;  // [D, 3 H]: i o f; LSTM only, optional
  std::optional<TensorSpec> sequence_lens;          // s32 [B]
  std::optional<TensorSpec> initial_h, initial_c;   // [D, B, H], batch first [B, D, H]
  std::optional<TensorSpec> y;                      // [T, D, B, H], batch first [B, T, D, H]
  std::optional<TensorSpec> y_h, y_c;               // as the initial states

  int64_t directions() const { return direction == Direction::kBidirectional ? 2 : 1; }
  int64_t gates() const { return cell == Cell::kLstm ? 4 : cell == Cell::kGru ? 3 : 1; }
  int64_t functions_per_direction() const { return cell == Cell::kLstm ? 3 : cell == Cell::kGru ? 2 : 1; }
  int64_t time() const { return src.shape[layout == Layout::kBatchFirst ? 1 : 0]; }
  int64_t batch() const { return src.shape[layout == Layout::kBatchFirst ? 0 : 1]; }
  int64_t input() const { return src.shape[2]; }
  int64_t hidden() const { return recurrence.spec->shape[2]; }
  bool has_constant_weights() const { return weights.constant.present(); }
};

// Errors: kInvalidArgument (shapes or types disagree), kUnimplemented (no implementation accepts).
absl::StatusOr<std::unique_ptr<Kernel>> CreateRnn(const RnnParams& params, const KernelEnv& env);

// The ordered list, best first, reference last.
absl::Span<const Implementation<RnnParams>> RnnImplementations();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_RNN_RNN_H_
