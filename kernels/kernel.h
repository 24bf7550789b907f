// What all kernel folders share: operand descriptions, compiled kernels, their binding to memory, and the ordered
// choice among implementations.
//
// Life of a kernel: a folder's Create*(params, env) tries the entries of its list, best first, and returns the first
// that accepts -> Kernel (immutable, shared by all contexts of one specialisation) -> Bind to the fixed addresses of
// one context -> BoundKernel, called once per inference.
#ifndef OCTET_KERNELS_KERNEL_H_
#define OCTET_KERNELS_KERNEL_H_

#include <any>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "base/buffer.h"
#include "base/dtype.h"
#include "base/parallel_for.h"
#include "base/quantization.h"
#include "base/shape.h"
#include "base/tensor.h"

namespace octet::kernels {

// Order of the elements of an activation in memory. Shapes are always given in ONNX order ([N, C, spatial...]).
enum class Layout : uint8_t {
  kPlain,         // row-major in ONNX order
  kChannelsLast,  // row-major in the order N, spatial..., C; ranks 3 to 5
};
absl::string_view NameOf(Layout layout);

// One operand of a kernel. With `quant` (per tensor for activations) the integers stand for reals.
struct TensorSpec {
  DType dtype = DType::kF32;
  Shape shape;  // concrete
  Layout layout = Layout::kPlain;
  std::optional<QuantParams> quant;

  int64_t size_bytes() const { return ByteSize(dtype, shape); }
};

// A constant operand. `id` identifies it within its program (WeightStore keys); `tensor` may have been released once
// every kernel that needs it has packed it: use tensor only inside a pack function.
struct ConstantSpec {
  int id = -1;
  Tensor tensor;
  std::optional<QuantParams> quant;  // weights: per tensor or per output channel; axis as in the ONNX operand

  bool present() const { return id >= 0; }
};

// Element functions that can be fused behind a product or applied alone. `alpha`, `beta` as each line says.
enum class ActivationKind : uint8_t {
  kRelu,         // max(x, 0)
  kLeakyRelu,    // x < 0 ? alpha x : x
  kClip,         // min(max(x, alpha), beta)
  kSigmoid,      // 1 / (1 + exp(-x))
  kTanh,
  kHardSigmoid,  // min(max(alpha x + beta, 0), 1)
  kHardSwish,    // x min(max(alpha x + beta, 0), 1), ONNX: alpha 1/6, beta 1/2
  kElu,          // x < 0 ? alpha (exp(x) - 1) : x
  kGelu,         // x Phi(x), by erf
  kGeluTanh,     // tanh approximation
  kSwish,        // x sigmoid(alpha x)
  kExp,
  kLog,
  kSqrt,
  kAbs,
  kNeg,
  kReciprocal,
  kErf,
  kFloor,
  kCeil,
  kRound,        // half to even
  kSoftplus,
  kMish,
  kSin,
  kCos,
  kSign,
  kSoftsign,
  kLinear,       // alpha x + beta
};
absl::string_view NameOf(ActivationKind kind);

struct Activation {
  ActivationKind kind = ActivationKind::kRelu;
  float alpha = 0;
  float beta = 0;
};

// The reference element function, in double (oracle of every implementation).
double Apply(const Activation& activation, double x);

// What happens to a product's real result before it is rounded into dst, in order.
struct PostOp {
  enum class Kind : uint8_t {
    kActivation,
    kAdd,  // adds the operand `residual`: same shape and layout as dst. The operand's memory IS dst's memory (in place):
           // it is read before dst is written. Its dtype has dst's size; quant may differ from dst's.
  };
  Kind kind = Kind::kActivation;
  Activation activation;
  TensorSpec residual;
};

// A packed copy of a constant in the layout that one implementation wants; immutable.
struct PackedWeights {
  Buffer data;
  std::string layout;  // printable: "OIhw16i16o4i"
  std::any detail;     // what the implementation needs to use it (a dnnl::memory::desc, column sums, ...)
};

// The packed constants of one program, shared by all its specialisations; each distinct key is packed once.
// Thread-safe.
class WeightStore {
 public:
  using PackFn = absl::FunctionRef<absl::StatusOr<PackedWeights>()>;

  // The copy stored under `key`; calls `pack` when there is none. Keys start with the constant's id:
  // "<id>/<role>/<layout>", e.g. "12/conv/OIhw16i16o4i".
  absl::StatusOr<std::shared_ptr<const PackedWeights>> GetOrPack(const std::string& key, PackFn pack);

  // The first copy whose key starts with `prefix` ("12/conv/"): the layout others should try to use, or nullptr.
  std::shared_ptr<const PackedWeights> FindFirst(absl::string_view prefix) const;

  // Sum of all copies; number of copies per constant id (of keys with the role in `prefix_role`, all when empty).
  int64_t TotalBytes() const;
  std::vector<std::pair<std::string, int64_t>> Entries() const;  // key, bytes; in order of packing

 private:
  mutable absl::Mutex mutex_;
  std::vector<std::pair<std::string, std::shared_ptr<const PackedWeights>>> entries_
      ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, size_t> index_ ABSL_GUARDED_BY(mutex_);
};

// What creation may depend on beside the parameters. `weights` outlives the kernels made with it.
struct KernelEnv {
  WeightStore* weights = nullptr;
  int threads = 1;  // team size the kernel will run on; the creating thread's team is already set to it
};

struct BindArgs {
  absl::Span<const void* const> src;  // as each folder's contract numbers its operands
  absl::Span<void* const> dst;
  void* scratch = nullptr;            // Kernel::scratch_bytes() bytes, 64-byte aligned, shared between kernels
  ParallelFor* parallel = nullptr;    // the team
};

// Runs the kernel once on the memory it was bound to. Not reentrant; one at a time per context.
using BoundKernel = absl::AnyInvocable<absl::Status()>;

// A compiled operator. Thread-safe: immutable after creation.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual absl::StatusOr<BoundKernel> Bind(const BindArgs& args) const = 0;
  virtual int64_t scratch_bytes() const { return 0; }

  // "onednn:brgconv:avx512_core_vnni", "reference", ...
  const std::string& implementation() const { return implementation_; }
  // "<implementation>: <reason>" for each entry that was tried before and refused.
  const std::vector<std::string>& refusals() const { return refusals_; }

  void set_refusals(std::vector<std::string> refusals) { refusals_ = std::move(refusals); }

 protected:
  explicit Kernel(std::string implementation) : implementation_(std::move(implementation)) {}

 private:
  std::string implementation_;
  std::vector<std::string> refusals_;
};

// A kernel whose binding is a plain function of pointers: what most of our own implementations are.
using RunFn = absl::AnyInvocable<void(const BindArgs&) const>;
std::unique_ptr<Kernel> MakeFunctionKernel(std::string implementation, int64_t scratch_bytes,
                                           RunFn run);

// One entry of a folder's ordered list. `create` refuses with kUnimplemented and a reason; any other error ends the search.
template <typename Params>
struct Implementation {
  const char* name;
  absl::StatusOr<std::unique_ptr<Kernel>> (*create)(const Params&, const KernelEnv&);
};

// The first entry that accepts, with the refusals of those before it.
// Errors: kUnimplemented with all reasons when none accepts; the first other error otherwise.
template <typename Params>
absl::StatusOr<std::unique_ptr<Kernel>> Select(absl::Span<const Implementation<Params>> list,
                                               const Params& params, const KernelEnv& env) {
  std::vector<std::string> refusals;
  for (const Implementation<Params>& entry : list) {
    absl::StatusOr<std::unique_ptr<Kernel>> kernel = entry.create(params, env);
    if (kernel.ok()) {
      (*kernel)->set_refusals(std::move(refusals));
      return kernel;
    }
    if (!absl::IsUnimplemented(kernel.status())) return kernel.status();
    refusals.push_back(absl::StrCat(entry.name, ": ", kernel.status().message()));
  }
  std::string all;
  for (const std::string& refusal : refusals) absl::StrAppend(&all, all.empty() ? "" : "; ", refusal);
  return absl::UnimplementedError(absl::StrCat("no implementation accepts: ", all));
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_KERNEL_H_
