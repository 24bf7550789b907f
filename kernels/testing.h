// Helpers of kernel tests: filled operands, running a kernel on a team of two, and the comparison
// of every entry of a list with its last one, the reference. Included by tests and benchmarks only.
#ifndef OCTET_KERNELS_TESTING_H_
#define OCTET_KERNELS_TESTING_H_

#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "gtest/gtest.h"
#include "kernels/elements.h"
#include "kernels/kernel.h"

namespace octet::kernels {

// A dense operand: its description and aligned memory.
struct Operand {
  TensorSpec spec;
  Buffer buffer;
  void* data() { return buffer.data(); }
  const void* data() const { return buffer.data(); }
  double number(int64_t i) const { return LoadNumber(spec.dtype, buffer.data(), i); }
};

inline Operand MakeOperand(const TensorSpec& spec) {
  absl::StatusOr<Buffer> buffer = Buffer::Allocate(std::max<int64_t>(spec.size_bytes(), 1));
  EXPECT_TRUE(buffer.ok()) << buffer.status();
  return Operand{spec, *std::move(buffer)};
}

// Values as numbers in memory order.
inline Operand MakeOperand(const TensorSpec& spec, const std::vector<double>& values) {
  Operand operand = MakeOperand(spec);
  EXPECT_EQ(static_cast<int64_t>(values.size()), NumElements(spec.shape));
  for (size_t i = 0; i < values.size(); ++i) {
    StoreNumber(spec.dtype, operand.data(), static_cast<int64_t>(i), values[i]);
  }
  return operand;
}

// Numbers uniform in [low, high] (integers included at both ends).
inline Operand MakeRandom(const TensorSpec& spec, double low, double high, uint64_t seed) {
  Operand operand = MakeOperand(spec);
  const CounterRng rng(seed);
  const int64_t n = NumElements(spec.shape);
  for (int64_t i = 0; i < n; ++i) {
    double value = low + (high - low) * rng.Uniform(static_cast<uint64_t>(i));
    if (!IsFloat(spec.dtype)) value = std::nearbyint(value);
    StoreNumber(spec.dtype, operand.data(), i, value);
  }
  return operand;
}

// The widest range that tests of a dtype want: all of it for 8 bits and less, else [-4, 4] (counts:
// [-100, 100]).
inline Operand MakeRandom(const TensorSpec& spec, uint64_t seed) {
  if (IsFloat(spec.dtype)) return MakeRandom(spec, -4, 4, seed);
  const auto [low, high] = IntegerRange(spec.dtype);
  return MakeRandom(spec, static_cast<double>(std::max<int64_t>(low, -128)),
                    static_cast<double>(std::min<int64_t>(high, 255)), seed);
}

inline std::vector<double> Numbers(const Operand& operand) {
  std::vector<double> out;
  for (int64_t i = 0; i < NumElements(operand.spec.shape); ++i) out.push_back(operand.number(i));
  return out;
}

// Binds and runs twice (a second run must not depend on the first).
inline absl::Status RunKernel(const Kernel& kernel, const std::vector<const void*>& src,
                              const std::vector<void*>& dst, int threads = 2) {
  absl::StatusOr<Buffer> scratch = Buffer::Allocate(std::max<int64_t>(kernel.scratch_bytes(), 1));
  if (!scratch.ok()) return scratch.status();
  OpenMpFor team(threads);
  absl::StatusOr<BoundKernel> bound = kernel.Bind({src, dst, scratch->data(), &team});
  if (!bound.ok()) return bound.status();
  if (absl::Status s = (*bound)(); !s.ok()) return s;
  return (*bound)();
}

// |got - want| <= absolute + relative |want| for every element; NaN equals NaN, infinities equal
// themselves.
struct Tolerance {
  double absolute = 0;
  double relative = 0;
};
inline void ExpectClose(const Operand& got, const Operand& want, Tolerance tolerance,
                        const std::string& what) {
  int failures = 0;
  for (int64_t i = 0; i < NumElements(want.spec.shape) && failures < 5; ++i) {
    const double g = got.number(i), w = want.number(i);
    if (g == w || (std::isnan(g) && std::isnan(w))) continue;
    if (std::fabs(g - w) <= tolerance.absolute + tolerance.relative * std::fabs(w)) continue;
    ADD_FAILURE() << what << ": element " << i << " is " << g << ", want " << w;
    ++failures;
  }
}

// Compares every entry that accepts with the reference (last entry); returns the names of those
// that accepted.
template <typename Params>
std::set<std::string> CompareImplementations(absl::Span<const Implementation<Params>> list,
                                             const Params& params,
                                             const std::vector<Operand>& sources,
                                             const TensorSpec& dst_spec, Tolerance tolerance,
                                             const std::string& what) {
  KernelEnv env;
  env.threads = 2;
  SetTeamSize(env.threads);
  std::vector<const void*> src;
  for (const Operand& operand : sources) src.push_back(operand.data());
  absl::StatusOr<std::unique_ptr<Kernel>> reference = list.back().create(params, env);
  EXPECT_TRUE(reference.ok()) << what << ": " << reference.status();
  if (!reference.ok()) return {};
  Operand want = MakeOperand(dst_spec);
  EXPECT_TRUE(RunKernel(**reference, src, {want.data()}).ok()) << what;
  std::set<std::string> accepted;
  for (const Implementation<Params>& entry : list.subspan(0, list.size() - 1)) {
    absl::StatusOr<std::unique_ptr<Kernel>> kernel = entry.create(params, env);
    if (!kernel.ok()) {
      EXPECT_TRUE(absl::IsUnimplemented(kernel.status())) << what << ": " << kernel.status();
      continue;
    }
    accepted.insert(entry.name);
    Operand got = MakeRandom(dst_spec, 999);  // whatever is not written must show
    const absl::Status status = RunKernel(**kernel, src, {got.data()});
    EXPECT_TRUE(status.ok()) << what << ", " << entry.name << ": " << status;
    ExpectClose(got, want, tolerance, what + ", " + (*kernel)->implementation());
  }
  return accepted;
}

// The numbers that the reference writes for `sources`.
template <typename Params>
std::vector<double> ReferenceNumbers(absl::Span<const Implementation<Params>> list,
                                     const Params& params, const std::vector<Operand>& sources,
                                     const TensorSpec& dst_spec) {
  std::vector<const void*> src;
  for (const Operand& operand : sources) src.push_back(operand.data());
  absl::StatusOr<std::unique_ptr<Kernel>> kernel = list.back().create(params, KernelEnv{});
  EXPECT_TRUE(kernel.ok()) << kernel.status();
  Operand dst = MakeOperand(dst_spec);
  if (kernel.ok()) {
    EXPECT_TRUE(RunKernel(**kernel, src, {dst.data()}).ok());
  }
  return Numbers(dst);
}

template <typename... Parts>
std::vector<Operand> Operands(Parts&&... parts) {
  std::vector<Operand> out;
  (out.push_back(std::forward<Parts>(parts)), ...);
  return out;
}

inline TensorSpec Spec(DType dtype, const Shape& shape, Layout layout = Layout::kPlain) {
  return TensorSpec{dtype, shape, layout, std::nullopt};
}
inline TensorSpec QuantSpec(DType dtype, const Shape& shape, float scale, int32_t zero_point,
                            Layout layout = Layout::kPlain) {
  return TensorSpec{dtype, shape, layout, QuantParams::PerTensor(scale, zero_point)};
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_TESTING_H_
