// Oracle of Binary: one element after the other, in the arithmetic of its kind (counts, f32 or f64
// reals).
#ifndef OCTET_KERNELS_BINARY_BINARY_REFERENCE_H_
#define OCTET_KERNELS_BINARY_BINARY_REFERENCE_H_

#include <cmath>

#include "kernels/binary/binary.h"
#include "kernels/elements.h"

namespace octet::kernels {

template <typename T>
bool ComparisonOf(BinaryKind kind, T a, T b) {
  switch (kind) {
    case BinaryKind::kEqual:
      return a == b;
    case BinaryKind::kLess:
      return a < b;
    case BinaryKind::kLessOrEqual:
      return a <= b;
    case BinaryKind::kGreater:
      return a > b;
    case BinaryKind::kGreaterOrEqual:
      return a >= b;
    case BinaryKind::kAnd:
      return a != 0 && b != 0;
    case BinaryKind::kOr:
      return a != 0 || b != 0;
    default:
      return (a != 0) != (b != 0);  // kXor
  }
}

// R is float, or double when an operand is f64.
template <typename R>
R RealOf(BinaryKind kind, R a, R b) {
  switch (kind) {
    case BinaryKind::kAdd:
      return a + b;
    case BinaryKind::kSub:
      return a - b;
    case BinaryKind::kMul:
      return a * b;
    case BinaryKind::kDiv:
      return a / b;
    case BinaryKind::kPow:
      return std::pow(a, b);
    case BinaryKind::kMax:
      return a > b || std::isnan(a) ? a : b;
    case BinaryKind::kMin:
      return a < b || std::isnan(a) ? a : b;
    case BinaryKind::kMod: {
      const R r = std::fmod(a, b);
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
    case BinaryKind::kFmod:
      return std::fmod(a, b);
    default:
      return a < 0 ? a * b : a;  // kPrelu
  }
}

// Wraps as the machine does; T is int64_t or uint64_t. A division by zero gives 0.
template <typename T>
T CountOf(BinaryKind kind, T a, T b) {
  const auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
  const bool minus_one = std::is_signed_v<T> && b == static_cast<T>(-1);  // smallest / -1 traps
  switch (kind) {
    case BinaryKind::kAdd:
      return static_cast<T>(ua + ub);
    case BinaryKind::kSub:
      return static_cast<T>(ua - ub);
    case BinaryKind::kMul:
      return static_cast<T>(ua * ub);
    case BinaryKind::kDiv:
      return b == 0 ? 0 : minus_one ? static_cast<T>(0 - ua) : a / b;
    case BinaryKind::kMax:
      return a > b ? a : b;
    case BinaryKind::kMin:
      return a < b ? a : b;
    case BinaryKind::kMod:
    case BinaryKind::kFmod: {
      const T r = b == 0 || minus_one ? 0 : a % b;
      return kind == BinaryKind::kMod && r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
    case BinaryKind::kPow: {
      if (b < 0) return a == 1 ? 1 : a == static_cast<T>(-1) ? (ub % 2 == 0 ? 1 : a) : 0;
      uint64_t power = 1, square = ua;
      for (uint64_t rest = ub; rest > 0; rest /= 2, square *= square) {
        if (rest % 2 == 1) power *= square;
      }
      return static_cast<T>(power);
    }
    default:
      return a < 0 ? static_cast<T>(ua * ub) : a;  // kPrelu
  }
}

inline bool IsComparison(BinaryKind kind) { return kind >= BinaryKind::kEqual; }

// Writes destination elements [begin, end) in memory order. Requires: valid params.
inline void BinaryReference(const BinaryParams& p, const LoopNest& nest, const void* a,
                            const void* b, void* dst, int64_t begin, int64_t end) {
  const auto is_count = [](const TensorSpec& s) {
    return (IsInteger(s.dtype) || s.dtype == DType::kBool) && !s.quant;
  };
  const bool counts = is_count(p.a) && is_count(p.b);
  const bool f64 = p.a.dtype == DType::kF64 || p.b.dtype == DType::kF64;
  const auto one = [&](int64_t i, int64_t ia, int64_t ib) {
    if (counts) {
      const int64_t x = LoadInteger(p.a.dtype, a, ia), y = LoadInteger(p.b.dtype, b, ib);
      const bool u64 = p.a.dtype == DType::kU64;
      const auto ux = static_cast<uint64_t>(x), uy = static_cast<uint64_t>(y);
      const int64_t r =
          IsComparison(p.kind)
              ? (u64 ? ComparisonOf(p.kind, ux, uy) : ComparisonOf(p.kind, x, y))
              : (u64 ? static_cast<int64_t>(CountOf(p.kind, ux, uy)) : CountOf(p.kind, x, y));
      return StoreInteger(p.dst.dtype, dst, i, r);
    }
    const double x = LoadReal(p.a, a, ia), y = LoadReal(p.b, b, ib);
    if (IsComparison(p.kind)) return StoreInteger(p.dst.dtype, dst, i, ComparisonOf(p.kind, x, y));
    double r =
        f64 ? RealOf(p.kind, x, y) : RealOf(p.kind, static_cast<float>(x), static_cast<float>(y));
    for (const PostOp& op : p.post_ops) r = Apply(op.activation, r);
    StoreReal(p.dst, dst, i, r);
  };
  int64_t i = begin;
  ForEachRun(nest, begin, end, [&](const int64_t* offsets, int64_t count) {
    for (int64_t j = 0; j < count; ++j, ++i) {
      one(i, offsets[0] + j * nest.strides[0].back(), offsets[1] + j * nest.strides[1].back());
    }
  });
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_BINARY_BINARY_REFERENCE_H_
