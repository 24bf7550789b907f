// oneDNN wrapper.
#include "kernels/onednn.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::kernels {
namespace {

absl::Status FromDnnlError(absl::string_view what, const dnnl::error& e) {
  const std::string message = absl::StrCat(what, ": oneDNN says ", e.what());
  switch (e.status) {
    case dnnl_unimplemented:
      return absl::UnimplementedError(message);
    case dnnl_out_of_memory:
      return absl::ResourceExhaustedError(message);
    case dnnl_invalid_arguments:
      return absl::InvalidArgumentError(message);
    default:
      return absl::InternalError(message);
  }
}

// Memories and argument array of one binding, at fixed addresses for dnnl_primitive_execute.
struct Binding {
  dnnl::primitive primitive;
  dnnl::stream stream;
  std::vector<dnnl::memory> memories;
  std::vector<dnnl_exec_arg_t> arguments;
  std::vector<std::shared_ptr<const void>> owners;
};

class DnnlKernel final : public Kernel {
 public:
  explicit DnnlKernel(DnnlKernelParts parts)
      : Kernel(parts.implementation), parts_(std::move(parts)) {}

  int64_t scratch_bytes() const override { return parts_.scratch_bytes; }

  absl::StatusOr<BoundKernel> Bind(const BindArgs& args) const override {
    auto binding = std::make_shared<Binding>();
    OCTET_RETURN_IF_ERROR(DnnlCall(implementation(), [&] {
      binding->primitive = parts_.primitive;
      binding->stream = dnnl::stream(CpuEngine());
      binding->owners = parts_.owners;
      for (const DnnlArgument& a : parts_.arguments) {
        binding->memories.emplace_back(a.desc, CpuEngine(), Pointer(a, args));
        binding->arguments.push_back({a.dnnl_arg, binding->memories.back().get()});
      }
    }));
    return BoundKernel([binding, name = implementation()]() -> absl::Status {
      const dnnl_status_t status = dnnl_primitive_execute(
          binding->primitive.get(), binding->stream.get(),
          static_cast<int>(binding->arguments.size()), binding->arguments.data());
      if (status != dnnl_success) {
        return absl::InternalError(absl::StrCat(name, ": execution failed with oneDNN status ",
                                                static_cast<int>(status)));
      }
      return absl::OkStatus();
    });
  }

 private:
  void* Pointer(const DnnlArgument& a, const BindArgs& args) const {
    const auto index = static_cast<size_t>(a.index);
    switch (a.from) {
      case DnnlArgument::From::kSrc:
        return const_cast<void*>(args.src[index]);
      case DnnlArgument::From::kDst:
        return args.dst[index];
      case DnnlArgument::From::kScratch:
        return args.scratch;
      case DnnlArgument::From::kConstant:
        return const_cast<void*>(parts_.constants[index]);
    }
    return nullptr;
  }

  DnnlKernelParts parts_;
};

}  // namespace

const dnnl::engine& CpuEngine() {
  static const auto* const engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

absl::StatusOr<dnnl::memory::data_type> DnnlType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return dnnl::memory::data_type::f32;
    case DType::kF16:
      return dnnl::memory::data_type::f16;
    case DType::kBF16:
      return dnnl::memory::data_type::bf16;
    case DType::kS8:
      return dnnl::memory::data_type::s8;
    case DType::kU8:
      return dnnl::memory::data_type::u8;
    case DType::kS32:
      return dnnl::memory::data_type::s32;
    case DType::kF64:
      return dnnl::memory::data_type::f64;
    default:
      return absl::UnimplementedError(
          absl::StrCat("oneDNN computes nothing on ", NameOf(dtype)));
  }
}

absl::StatusOr<dnnl::memory::desc> DnnlDesc(const TensorSpec& spec) {
  OCTET_ASSIGN_OR_RETURN(const dnnl::memory::data_type type, DnnlType(spec.dtype));
  dnnl::memory::dims dims(spec.shape.begin(), spec.shape.end());
  if (dims.empty()) dims.push_back(1);
  const size_t rank = dims.size();
  dnnl::memory::dims strides(rank, 1);
  if (spec.layout == Layout::kChannelsLast && rank >= 3) {
    int64_t step = dims[1];
    for (size_t i = rank; i-- > 2;) {
      strides[i] = step;
      step *= dims[i];
    }
    strides[1] = 1;
    strides[0] = step;
  } else {
    for (size_t i = rank - 1; i-- > 0;) strides[i] = strides[i + 1] * dims[i + 1];
  }
  for (int64_t& stride : strides) stride = std::max<int64_t>(stride, 1);
  dnnl::memory::desc desc;
  OCTET_RETURN_IF_ERROR(DnnlCall(ShapeString(spec.shape),
                                 [&] { desc = dnnl::memory::desc(dims, type, strides); }));
  return desc;
}

absl::Status DnnlCall(absl::string_view what, absl::FunctionRef<void()> body) {
  try {
    body();
  } catch (const dnnl::error& e) {
    return FromDnnlError(what, e);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": out of memory"));
  }
  return absl::OkStatus();
}

std::string ImplName(const dnnl::primitive_desc_base& pd) { return pd.impl_info_str(); }

bool IsReferenceImpl(absl::string_view impl_name) { return absl::StartsWith(impl_name, "ref"); }

std::unique_ptr<Kernel> MakeDnnlKernel(DnnlKernelParts parts) {
  return std::make_unique<DnnlKernel>(std::move(parts));
}

void ClearPrimitiveCache() {
  const int capacity = dnnl::get_primitive_cache_capacity();
  dnnl::set_primitive_cache_capacity(0);
  dnnl::set_primitive_cache_capacity(capacity);
}

}  // namespace octet::kernels
