// Products of rows with panels, and the gates of kPanel units at once.
#include "kernels/rnn/rnn_panels.h"

#include <algorithm>

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rnn/rnn_panels_loops.cc"
#include "hwy/foreach_target.h"  // NOLINT: must come before highway.h
#include "hwy/highway.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octet::kernels {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// kPanel lanes at most: the packed layout is the same on every instruction set, narrow ones take a panel in parts.
using F = hn::CappedTag<float, static_cast<size_t>(kPanel)>;
using V = hn::Vec<F>;

// The accumulators are registers only when every index is a constant.
#define OCTET_UNROLL _Pragma("GCC unroll 8")

// Rows whose accumulators fit the registers beside a row of weights.
constexpr int kTile = HWY_TARGET <= HWY_AVX3 ? 6 : 2;

// R rows x G gates x one vector, from lane `lane` of the panel on. Few rows leave the adders idle between dependent
// additions: Split chains of them take the terms in turn.
template <int R, int G, int Split>
HWY_INLINE void Tile(const PanelProduct& p, const float* const* src, float* out, int64_t lane) {
  const F d;
  V acc[Split][R][G];
  OCTET_UNROLL
  for (int s = 0; s < Split; ++s) {
    OCTET_UNROLL
    for (int r = 0; r < R; ++r) {
      OCTET_UNROLL
      for (int g = 0; g < G; ++g) acc[s][r][g] = hn::Zero(d);
    }
  }
  const int64_t step = p.gates * kPanel;
  const float* w = p.weights + p.first_gate * kPanel + lane;
  const float* a[R];
  OCTET_UNROLL
  for (int r = 0; r < R; ++r) a[r] = src[r];
  int64_t k = 0;
  for (; k + Split <= p.depth; k += Split) {
    OCTET_UNROLL
    for (int s = 0; s < Split; ++s, w += step) {
      V weight[G];
      OCTET_UNROLL
      for (int g = 0; g < G; ++g) weight[g] = hn::LoadU(d, w + g * kPanel);
      OCTET_UNROLL
      for (int r = 0; r < R; ++r) {
        const V x = hn::Set(d, a[r][k + s]);
        OCTET_UNROLL
        for (int g = 0; g < G; ++g) acc[s][r][g] = hn::MulAdd(x, weight[g], acc[s][r][g]);
      }
    }
  }
  for (; k < p.depth; ++k, w += step) {
    OCTET_UNROLL
    for (int g = 0; g < G; ++g) {
      const V weight = hn::LoadU(d, w + g * kPanel);
      OCTET_UNROLL
      for (int r = 0; r < R; ++r) acc[0][r][g] = hn::MulAdd(hn::Set(d, a[r][k]), weight, acc[0][r][g]);
    }
  }
  OCTET_UNROLL
  for (int r = 0; r < R; ++r) {
    OCTET_UNROLL
    for (int g = 0; g < G; ++g) {
      V sum = acc[0][r][g];
      OCTET_UNROLL
      for (int s = 1; s < Split; ++s) sum = hn::Add(sum, acc[s][r][g]);
      hn::StoreU(sum, d, out + r * p.out_stride + g * kPanel + lane);
    }
  }
}

// All rows, one vector of each gate.
template <int G>
HWY_INLINE void Strip(const PanelProduct& p, int64_t lane) {
  for (int64_t row = 0; row < p.rows;) {
    // Tiles of nearly equal size: a last one of few rows would read the panel for little.
    const int64_t left = p.rows - row, tiles = (left + kTile - 1) / kTile, rows = (left + tiles - 1) / tiles;
    const float* const* const src = p.src + row;
    float* const out = p.out + row * p.out_stride;
    row += rows;
    switch (rows) {
      case 1:
        Tile<1, G, (kTile > 2 ? 4 : 2)>(p, src, out, lane);
        break;
      case 2:
        Tile<2, G, (kTile > 2 ? 2 : 1)>(p, src, out, lane);
        break;
      case 3:
        Tile<std::min(3, kTile), G, 1>(p, src, out, lane);
        break;
      case 4:
        Tile<std::min(4, kTile), G, 1>(p, src, out, lane);
        break;
      case 5:
        Tile<std::min(5, kTile), G, 1>(p, src, out, lane);
        break;
      default:
        Tile<kTile, G, 1>(p, src, out, lane);
    }
  }
}

template <int G>
HWY_INLINE void Gates(const PanelProduct& p) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F()));
  for (int64_t lane = 0; lane < kPanel; lane += lanes) Strip<G>(p, lane);
}

void ProductImpl(const PanelProduct& p) {
  switch (p.used_gates) {
    case 1:
      return Gates<1>(p);
    case 2:
      return Gates<2>(p);
    case 3:
      return Gates<3>(p);
    default:
      return Gates<4>(p);
  }
}

HWY_INLINE V Function(const GateFunction& f, V x) {
  const F d;
  if (f.kind == GateFunction::Kind::kSigmoid) {
    // Highway's exp is undefined above 104; 1 / (1 + exp(88)) is 0 already.
    return hn::Div(hn::Set(d, 1), hn::Add(hn::Set(d, 1), hn::Exp(d, hn::Min(hn::Neg(x), hn::Set(d, 88)))));
  }
  if (f.kind == GateFunction::Kind::kTanh) return hn::Tanh(d, x);
  if (f.kind == GateFunction::Kind::kRelu) return hn::Max(x, hn::Zero(d));
  HWY_ALIGN float values[kPanel];
  hn::Store(x, d, values);
  for (size_t i = 0; i < hn::Lanes(d); ++i) values[i] = static_cast<float>(Apply(f, values[i]));
  return hn::Load(d, values);
}

// What goes into a gate's function.
HWY_INLINE V Sum(const CellUnits& u, int64_t gate, int64_t lane) {
  const F d;
  return hn::Add(hn::LoadU(d, u.input + gate * kPanel + lane), hn::LoadU(d, u.product + gate * kPanel + lane));
}
HWY_INLINE V Clipped(const CellMath& math, V x) {
  const F d;
  if (math.clip == 0) return x;
  return hn::Min(hn::Max(x, hn::Set(d, -math.clip)), hn::Set(d, math.clip));
}

HWY_INLINE void LstmPart(const CellMath& math, const CellUnits& u, int64_t lane) {
  const F d;
  V c = hn::LoadU(d, u.cell + lane);
  V gates[4];
  for (int64_t g = 0; g < 4; ++g) gates[g] = Sum(u, g, lane);
  const auto peephole = [&](int64_t gate) HWY_ATTR { return hn::LoadU(d, u.peepholes + gate * kPanel + lane); };
  if (u.peepholes != nullptr) {
    gates[0] = hn::MulAdd(peephole(0), c, gates[0]);
    gates[2] = hn::MulAdd(peephole(2), c, gates[2]);
  }
  const V i = Function(math.f, Clipped(math, gates[0]));
  const V f = math.forget == RnnParams::Forget::kOneMinusInput ? hn::Sub(hn::Set(d, 1), i)
                                                               : Function(math.f, Clipped(math, gates[2]));
  c = hn::MulAdd(f, c, hn::Mul(i, Function(math.g, Clipped(math, gates[3]))));
  if (u.peepholes != nullptr) gates[1] = hn::MulAdd(peephole(1), c, gates[1]);
  const V o = Function(math.f, Clipped(math, gates[1]));
  hn::StoreU(c, d, u.cell + lane);
  hn::StoreU(hn::Mul(o, Function(math.h, c)), d, u.next + lane);
}

// h := (1 - z) n + z h
HWY_INLINE void Blend(const CellUnits& u, V z, V n, int64_t lane) {
  const F d;
  const V h = hn::LoadU(d, u.last + lane);
  hn::StoreU(hn::MulAdd(hn::Sub(hn::Set(d, 1), z), n, hn::Mul(z, h)), d, u.next + lane);
}

HWY_INLINE void GruPart(const CellMath& math, const CellUnits& u, int64_t lane) {
  const F d;
  const V z = Function(math.f, Clipped(math, Sum(u, 0, lane)));
  const V r = Function(math.f, Clipped(math, Sum(u, 1, lane)));
  const V product = hn::Add(hn::LoadU(d, u.product + 2 * kPanel + lane), hn::LoadU(d, u.reset_bias + lane));
  const V n = hn::MulAdd(r, product, hn::LoadU(d, u.input + 2 * kPanel + lane));
  Blend(u, z, Function(math.g, Clipped(math, n)), lane);
}

template <typename Body>
HWY_INLINE void Parts(const Body& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F()));
  for (int64_t lane = 0; lane < kPanel; lane += lanes) body(lane);
}

void CellImpl(const CellMath& math, const CellUnits& u) {
  switch (math.cell) {
    case RnnParams::Cell::kLstm:
      return Parts([&](int64_t lane) HWY_ATTR { LstmPart(math, u, lane); });
    case RnnParams::Cell::kGru:
      return Parts([&](int64_t lane) HWY_ATTR { GruPart(math, u, lane); });
    case RnnParams::Cell::kRnn:
      return Parts([&](int64_t lane) HWY_ATTR {
        hn::StoreU(Function(math.f, Clipped(math, Sum(u, 0, lane))), F(), u.next + lane);
      });
  }
}

void ResetHalfImpl(const CellMath& math, const CellUnits& u) {
  Parts([&](int64_t lane) HWY_ATTR {
    const F d;
    hn::StoreU(Function(math.f, Clipped(math, Sum(u, 0, lane))), d, u.update + lane);
    const V r = Function(math.f, Clipped(math, Sum(u, 1, lane)));
    hn::StoreU(hn::Mul(r, hn::LoadU(d, u.last + lane)), d, u.reset + lane);
  });
}

void StateHalfImpl(const CellMath& math, const CellUnits& u) {
  Parts([&](int64_t lane) HWY_ATTR {
    const V n = Function(math.g, Clipped(math, Sum(u, 2, lane)));
    Blend(u, hn::LoadU(F(), u.update + lane), n, lane);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octet::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octet::kernels {

HWY_EXPORT(ProductImpl);
HWY_EXPORT(CellImpl);
HWY_EXPORT(ResetHalfImpl);
HWY_EXPORT(StateHalfImpl);

void RunPanelProduct(const PanelProduct& product) { HWY_DYNAMIC_DISPATCH(ProductImpl)(product); }
void RunCell(const CellMath& math, const CellUnits& units) { HWY_DYNAMIC_DISPATCH(CellImpl)(math, units); }
void RunResetHalf(const CellMath& math, const CellUnits& units) { HWY_DYNAMIC_DISPATCH(ResetHalfImpl)(math, units); }
void RunStateHalf(const CellMath& math, const CellUnits& units) { HWY_DYNAMIC_DISPATCH(StateHalfImpl)(math, units); }

}  // namespace octet::kernels
#endif  // HWY_ONCE
