// The two inner loops of recurrent layers on packed weights, compiled for every instruction set; internal to kernels/rnn.
//
// A panel holds the weights of kPanel neighbouring units: [K][gates][kPanel]. Units beyond the last are padded with 0.
#ifndef OCTET_KERNELS_RNN_RNN_PANELS_H_
#define OCTET_KERNELS_RNN_RNN_PANELS_H_

#include <cstdint>

#include "kernels/rnn/rnn.h"

namespace octet::kernels {

inline constexpr int64_t kPanel = 16;
inline constexpr int64_t kMaxRows = 48;  // of one call

// out[row][gate][kPanel] = sum_k src[row][k] * weights[k][first_gate + gate][kPanel]
struct PanelProduct {
  const float* const* src = nullptr;  // `rows` vectors of `depth` elements
  int64_t rows = 0;                   // at most kMaxRows
  int64_t depth = 0;
  const float* weights = nullptr;     // the panel
  int64_t gates = 0;                  // of the panel
  int64_t first_gate = 0, used_gates = 0;
  float* out = nullptr;
  int64_t out_stride = 0;             // elements between rows of out
};
void RunPanelProduct(const PanelProduct& product);

// The functions of a direction, with what the gates add.
struct CellMath {
  RnnParams::Cell cell;
  RnnParams::Forget forget;
  RnnParams::Reset reset;
  float clip = 0;  // 0: none
  GateFunction f, g, h;
};

// One row's share of a panel: kPanel units.
struct CellUnits {
  const float* input = nullptr;       // [gates][kPanel]: W x + bias
  float* product = nullptr;           // [gates][kPanel]: R h; overwritten
  const float* last = nullptr;        // h before the step
  float* next = nullptr;              // h after it
  float* cell = nullptr;              // LSTM: c, updated
  const float* peepholes = nullptr;   // LSTM: [3][kPanel] i o f, or nullptr
  const float* reset_bias = nullptr;  // GRU with the reset after the product: Rbh
  float* update = nullptr;            // GRU with the reset before the product: z, from the first to the second half
  float* reset = nullptr;             //   and r h
};
void RunCell(const CellMath& math, const CellUnits& units);
// GRU with the reset before the product: gates z and r, and then, with product[2] of r h, the new state.
void RunResetHalf(const CellMath& math, const CellUnits& units);
void RunStateHalf(const CellMath& math, const CellUnits& units);

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_RNN_RNN_PANELS_H_
