// The one wrapper around oneDNN: turns its exceptions into statuses and our specs into its descriptors.
#ifndef OCTET_KERNELS_ONEDNN_H_
#define OCTET_KERNELS_ONEDNN_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/kernel.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace octet::kernels {

// The CPU engine: stateless, safe to share between threads.
const dnnl::engine& CpuEngine();

// dnnl data type of a storage type. Errors: kUnimplemented for types oneDNN has no name for.
absl::StatusOr<dnnl::memory::data_type> DnnlType(DType dtype);

// Descriptor of a spec: its type, shape and layout (rank 0 becomes [1]).
absl::StatusOr<dnnl::memory::desc> DnnlDesc(const TensorSpec& spec);

// Runs `body`; a dnnl::error becomes a status: kUnimplemented for unimplemented, kResourceExhausted for out of memory,
// kInvalidArgument for invalid arguments, else kInternal; the message starts with `what`.
absl::Status DnnlCall(absl::string_view what, absl::FunctionRef<void()> body);

// "brgconv:avx512_core_vnni" of a primitive descriptor; IsReferenceImpl: oneDNN fell back to its slow reference.
std::string ImplName(const dnnl::primitive_desc_base& pd);
bool IsReferenceImpl(absl::string_view impl_name);

// A kernel around one primitive. `constants` are memories that the kernel owns (packed weights, scales, bias).
struct DnnlArgument {
  int dnnl_arg;         // DNNL_ARG_SRC, ...
  enum class From : uint8_t { kSrc, kDst, kScratch, kConstant } from;
  int index = 0;        // into BindArgs::src / dst, or into constants
  dnnl::memory::desc desc;
};
struct DnnlKernelParts {
  std::string implementation;
  dnnl::primitive primitive;
  std::vector<DnnlArgument> arguments;
  int64_t scratch_bytes = 0;  // user scratchpad (attribute scratchpad_mode::user)
  // Owners of constant memory: shared packed weights and small vectors (scales).
  std::vector<std::shared_ptr<const void>> owners;
  std::vector<const void*> constants;  // one pointer per constant argument index
};

// Binds by making the dnnl::memory objects once with the context's addresses and executing with a prebuilt argument
// array. Pointers in args.src/dst may repeat (in place).
std::unique_ptr<Kernel> MakeDnnlKernel(DnnlKernelParts parts);

// Clears oneDNN's global primitive cache: after loads and unloads, so that code of unloaded models is freed.
void ClearPrimitiveCache();

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_ONEDNN_H_
