// Weight store, function kernels and the reference element functions.
#include "kernels/kernel.h"

#include <cmath>

#include "absl/strings/match.h"

namespace octet::kernels {
namespace {

#ifdef NDEBUG
// Debian's Abseil is built with checks: it learns lock orders by address and aborts at a cycle. Code built without
// checks does not tell it when a mutex dies, so the next one at that address inherits the order of the last, and
// programs that come and go abort for cycles that never were. Unchecked builds therefore do without.
const bool kIgnoresLockOrder = [] {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return true;
}();
#endif

constexpr size_t kBeingPacked = static_cast<size_t>(-1);  // index of a key whose packer is at work

class FunctionKernel final : public Kernel {
 public:
  FunctionKernel(std::string implementation, int64_t scratch_bytes, RunFn run)
      : Kernel(std::move(implementation)),
        scratch_bytes_(scratch_bytes),
        run_(std::make_shared<const RunFn>(std::move(run))) {}

  absl::StatusOr<BoundKernel> Bind(const BindArgs& args) const override {
    return BoundKernel(
        [run = run_, src = std::vector<const void*>(args.src.begin(), args.src.end()),
         dst = std::vector<void*>(args.dst.begin(), args.dst.end()), scratch = args.scratch,
         parallel = args.parallel]() -> absl::Status {
          (*run)(BindArgs{src, dst, scratch, parallel});
          return absl::OkStatus();
        });
  }
  int64_t scratch_bytes() const override { return scratch_bytes_; }

 private:
  int64_t scratch_bytes_;
  std::shared_ptr<const RunFn> run_;
};

}  // namespace

absl::string_view NameOf(Layout layout) {
  return layout == Layout::kPlain ? "plain" : "channels_last";
}

absl::string_view NameOf(ActivationKind kind) {
  static constexpr absl::string_view kNames[] = {
      "relu", "leaky_relu", "clip", "sigmoid", "tanh",  "hard_sigmoid", "hard_swish",
      "elu",  "gelu",       "gelu_tanh", "swish", "exp", "log",   "sqrt",   "abs",
      "neg",  "reciprocal", "erf",  "floor",   "ceil",  "round", "softplus", "mish",
      "sin",  "cos",        "sign", "softsign", "linear"};
  return kNames[static_cast<size_t>(kind)];
}

double Apply(const Activation& a, double x) {
  const double alpha = a.alpha, beta = a.beta;
  switch (a.kind) {
    case ActivationKind::kRelu:
      return x > 0 ? x : (std::isnan(x) ? x : 0.0);
    case ActivationKind::kLeakyRelu:
      return x < 0 ? alpha * x : x;
    case ActivationKind::kClip:
      return std::isnan(x) ? x : std::fmin(std::fmax(x, alpha), beta);
    case ActivationKind::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case ActivationKind::kTanh:
      return std::tanh(x);
    case ActivationKind::kHardSigmoid:
      return std::fmin(std::fmax(alpha * x + beta, 0), 1);
    case ActivationKind::kHardSwish:
      return x * std::fmin(std::fmax(alpha * x + beta, 0), 1);
    case ActivationKind::kElu:
      return x < 0 ? alpha * std::expm1(x) : x;
    case ActivationKind::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case ActivationKind::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ActivationKind::kSwish:
      return x / (1 + std::exp(-alpha * x));
    case ActivationKind::kExp:
      return std::exp(x);
    case ActivationKind::kLog:
      return std::log(x);
    case ActivationKind::kSqrt:
      return std::sqrt(x);
    case ActivationKind::kAbs:
      return std::fabs(x);
    case ActivationKind::kNeg:
      return -x;
    case ActivationKind::kReciprocal:
      return 1 / x;
    case ActivationKind::kErf:
      return std::erf(x);
    case ActivationKind::kFloor:
      return std::floor(x);
    case ActivationKind::kCeil:
      return std::ceil(x);
    case ActivationKind::kRound:
      return std::nearbyint(x);
    case ActivationKind::kSoftplus:
      return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
    case ActivationKind::kMish:
      return x * std::tanh(x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)));
    case ActivationKind::kSin:
      return std::sin(x);
    case ActivationKind::kCos:
      return std::cos(x);
    case ActivationKind::kSign:
      return x > 0 ? 1 : (x < 0 ? -1 : 0);
    case ActivationKind::kSoftsign:
      return x / (1 + std::fabs(x));
    case ActivationKind::kLinear:
      return alpha * x + beta;
  }
  return x;
}

absl::StatusOr<std::shared_ptr<const PackedWeights>> WeightStore::GetOrPack(const std::string& key,
                                                                            PackFn pack) {
  {
    absl::MutexLock lock(&mutex_);
    const auto settled = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      const auto it = index_.find(key);
      return it == index_.end() || it->second != kBeingPacked;
    };
    mutex_.Await(absl::Condition(&settled));
    const auto [it, absent] = index_.try_emplace(key, kBeingPacked);
    if (!absent) return entries_[it->second].second;
  }
  // Packed outside the lock (it may take milliseconds); others that want this key wait above.
  absl::StatusOr<PackedWeights> packed = pack();
  absl::MutexLock lock(&mutex_);
  if (!packed.ok()) {
    index_.erase(key);
    return packed.status();
  }
  index_[key] = entries_.size();
  entries_.emplace_back(key, std::make_shared<const PackedWeights>(*std::move(packed)));
  return entries_.back().second;
}

std::shared_ptr<const PackedWeights> WeightStore::FindFirst(absl::string_view prefix) const {
  absl::MutexLock lock(&mutex_);
  for (const auto& [key, packed] : entries_) {
    if (absl::StartsWith(key, prefix)) return packed;
  }
  return nullptr;
}

int64_t WeightStore::TotalBytes() const {
  absl::MutexLock lock(&mutex_);
  int64_t total = 0;
  for (const auto& [key, packed] : entries_) total += packed->data.size_bytes();
  return total;
}

std::vector<std::pair<std::string, int64_t>> WeightStore::Entries() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::pair<std::string, int64_t>> out;
  for (const auto& [key, packed] : entries_) out.emplace_back(key, packed->data.size_bytes());
  return out;
}

std::unique_ptr<Kernel> MakeFunctionKernel(std::string implementation, int64_t scratch_bytes,
                                           RunFn run) {
  return std::make_unique<FunctionKernel>(std::move(implementation), scratch_bytes, std::move(run));
}

}  // namespace octet::kernels
