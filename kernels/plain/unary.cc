// Element functions in typed loops.
#include "kernels/plain/unary.h"

#include <cmath>
#include <limits>

#include "kernels/elements.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

using Kind = PlainUnaryKind;
using Result = absl::StatusOr<std::unique_ptr<Kernel>>;

bool IsTest(Kind kind) {
  return kind == Kind::kIsNan || kind == Kind::kIsInf || kind == Kind::kNot;
}

// C is float or double.
template <typename C>
C RealFunction(const PlainUnaryParams& p, C x) {
  const C alpha = static_cast<C>(p.alpha), beta = static_cast<C>(p.beta);
  switch (p.kind) {
    case Kind::kAcos:
      return std::acos(x);
    case Kind::kAcosh:
      return std::acosh(x);
    case Kind::kAsin:
      return std::asin(x);
    case Kind::kAsinh:
      return std::asinh(x);
    case Kind::kAtan:
      return std::atan(x);
    case Kind::kAtanh:
      return std::atanh(x);
    case Kind::kCosh:
      return std::cosh(x);
    case Kind::kSinh:
      return std::sinh(x);
    case Kind::kTan:
      return std::tan(x);
    case Kind::kCelu:
      return x > 0 ? x : alpha * std::expm1(x / alpha);
    case Kind::kSelu:
      return x > 0 ? beta * x : beta * alpha * std::expm1(x);
    case Kind::kShrink:
      return x < -alpha ? x + beta : x > alpha ? x - beta : C{0};
    case Kind::kThresholdedRelu:
      return x > alpha ? x : C{0};
    default:
      return static_cast<C>(Apply(p.activation, static_cast<double>(x)));
  }
}

// Toward zero; what T does not hold becomes its nearest end.
template <typename T>
T Truncated(double x) {
  using Limits = std::numeric_limits<T>;
  if (x >= static_cast<double>(Limits::max())) return Limits::max();
  if (x <= static_cast<double>(Limits::min())) return Limits::min();
  return static_cast<T>(x);
}

template <typename T>
T CountFunction(const PlainUnaryParams& p, T x) {
  switch (p.kind) {
    case Kind::kBitwiseNot:
      return static_cast<T>(~x);
    case Kind::kShrink: {  // computed on reals, then truncated, as ONNX's reference does
      return Truncated<T>(RealFunction<double>(p, static_cast<double>(x)));
    }
    default:
      break;
  }
  const T negative = static_cast<T>(0 - static_cast<uint64_t>(x));
  switch (p.activation.kind) {
    case ActivationKind::kAbs:
      return x < 0 ? negative : x;
    case ActivationKind::kNeg:
      return negative;
    case ActivationKind::kErf:  // of a real, truncated
      return Truncated<T>(Apply(p.activation, static_cast<double>(x)));
    case ActivationKind::kSign:
      return static_cast<T>(x > 0 ? 1 : x < 0 ? -1 : 0);
    default:
      return x > 0 ? x : T{0};  // kRelu
  }
}

bool HasCountFunction(const PlainUnaryParams& p) {
  if (p.kind == Kind::kBitwiseNot || p.kind == Kind::kShrink) return true;
  const ActivationKind a = p.activation.kind;
  return p.kind == Kind::kActivation &&
         (a == ActivationKind::kErf || a == ActivationKind::kAbs || a == ActivationKind::kNeg ||
          a == ActivationKind::kSign || a == ActivationKind::kRelu);
}

bool RealTest(const PlainUnaryParams& p, double x) {
  if (p.kind == Kind::kIsNan) return std::isnan(x);
  return std::isinf(x) && (x < 0 ? p.alpha != 0 : p.beta != 0);
}

template <typename T, typename D, typename F>
std::unique_ptr<Kernel> Loop(const PlainUnaryParams& p, F f) {
  return MakeFunctionKernel("plain", 0, [n = NumElements(p.src.shape), f](const BindArgs& args) {
    const T* src = static_cast<const T*>(args.src[0]);
    D* dst = static_cast<D*>(args.dst[0]);
    RunParallel(args.parallel, n, kGrainBytes / 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) dst[i] = static_cast<D>(f(src[i]));
    });
  });
}

absl::Status Validate(const PlainUnaryParams& p) {
  const DType want = IsTest(p.kind) ? DType::kBool : p.src.dtype;
  if (p.src.shape != p.dst.shape || p.src.layout != p.dst.layout || p.dst.dtype != want ||
      p.src.quant || p.dst.quant) {
    return absl::InvalidArgumentError(absl::StrCat("element function: ", NameOf(p.src.dtype),
                                                   ShapeString(p.src.shape), " to ",
                                                   NameOf(p.dst.dtype), ShapeString(p.dst.shape)));
  }
  if (p.kind == Kind::kNot && p.src.dtype != DType::kBool) {
    return absl::InvalidArgumentError(
        absl::StrCat("not: operand of type ", NameOf(p.src.dtype), ", expected bool"));
  }
  return absl::OkStatus();
}

}  // namespace

Result CreatePlainUnary(const PlainUnaryParams& params, const KernelEnv&) {
  if (absl::Status s = Validate(params); !s.ok()) return s;
  return WithType("element function", params.src.dtype, [&](auto t) -> Result {
    using T = decltype(t);
    using C = ComputeType<T>;
    if constexpr (std::is_floating_point_v<C>) {
      if (params.kind == Kind::kBitwiseNot) {
        return absl::InvalidArgumentError(
            "bitwise not: operand of a float type, expected integers");
      }
      if (IsTest(params.kind)) {
        return Loop<T, uint8_t>(
            params, [params](T x) { return RealTest(params, static_cast<C>(x)) ? 1 : 0; });
      }
      return Loop<T, T>(params,
                        [params](T x) { return T(RealFunction<C>(params, static_cast<C>(x))); });
    } else {
      if (params.kind == Kind::kNot)
        return Loop<T, uint8_t>(params, [](T x) { return x == 0 ? 1 : 0; });
      if (!HasCountFunction(params)) {
        return absl::UnimplementedError(
            absl::StrCat("this element function of ", NameOf(params.src.dtype)));
      }
      return Loop<T, T>(params, [params](T x) { return CountFunction<T>(params, x); });
    }
  });
}

}  // namespace octet::kernels
