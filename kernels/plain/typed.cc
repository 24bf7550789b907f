// Kernels whose run can fail.
#include "kernels/plain/typed.h"

#include <utility>
#include <vector>

namespace octet::kernels {
namespace {

class CheckedKernel final : public Kernel {
 public:
  CheckedKernel(std::string implementation, int64_t scratch_bytes, CheckedRunFn run)
      : Kernel(std::move(implementation)),
        scratch_bytes_(scratch_bytes),
        run_(std::make_shared<const CheckedRunFn>(std::move(run))) {}

  absl::StatusOr<BoundKernel> Bind(const BindArgs& args) const override {
    return BoundKernel([run = run_,
                        src = std::vector<const void*>(args.src.begin(), args.src.end()),
                        dst = std::vector<void*>(args.dst.begin(), args.dst.end()),
                        scratch = args.scratch, parallel = args.parallel]() -> absl::Status {
      return (*run)({src, dst, scratch, parallel});
    });
  }
  int64_t scratch_bytes() const override { return scratch_bytes_; }

 private:
  int64_t scratch_bytes_;
  std::shared_ptr<const CheckedRunFn> run_;  // bound kernels may outlive this one
};

}  // namespace

std::unique_ptr<Kernel> MakeCheckedKernel(std::string implementation, int64_t scratch_bytes,
                                          CheckedRunFn run) {
  return std::make_unique<CheckedKernel>(std::move(implementation), scratch_bytes, std::move(run));
}

}  // namespace octet::kernels
