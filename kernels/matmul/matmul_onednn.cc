// Matmul by oneDNN's matrix product primitive.
//
// A constant b is packed once per layout ("<id>/matmul/<layout>"). Leading dimensions of a are
// merged into M when b has none of its own. alpha goes into the scales of integers; f32 uses a
// linear post-op behind the bias divided by alpha.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/matmul/matmul.h"
#include "kernels/onednn_product.h"

namespace octet::kernels {
namespace {

using Dims = dnnl::memory::dims;
using Transpose = MatmulParams::Transpose;

// Dimensions of the three operands, equal in rank; matrices as the product sees them, with strides
// of the memory.
struct Problem {
  Dims a, b, dst, a_strides, b_strides, dst_strides;
  int64_t n = 0;
};

// [batch..., rows, columns] in `rank` dimensions with the strides of dense memory; the last two
// swapped on request.
void Describe(const Shape& shape, size_t rank, Transpose transpose, Dims& dims, Dims& strides) {
  dims.assign(rank - shape.size(), 1);
  dims.insert(dims.end(), shape.begin(), shape.end());
  strides.assign(rank, 1);
  for (size_t i = rank - 1; i-- > 0;) strides[i] = strides[i + 1] * dims[i + 1];
  if (transpose == Transpose::kYes) {
    std::swap(dims[rank - 1], dims[rank - 2]);
    std::swap(strides[rank - 1], strides[rank - 2]);
  }
}

Problem MakeProblem(const MatmulParams& p) {
  Shape a = p.a.shape, b = p.b.shape, dst = p.dst.shape;
  const bool b_is_matrix =
      std::all_of(b.begin(), b.end() - 2, [](int64_t dim) { return dim == 1; });
  if (b_is_matrix && (p.transpose_a == Transpose::kNo || a.size() == 2)) {
    b = {b[b.size() - 2], b.back()};
    if (a.size() > 2 || dst.size() > 2) {
      a = {NumElements(a) / a.back(), a.back()};
      dst = {NumElements(dst) / dst.back(), dst.back()};
    }
  }
  Problem out;
  const size_t rank = dst.size();
  Describe(a, rank, p.transpose_a, out.a, out.a_strides);
  Describe(b, rank, p.transpose_b, out.b, out.b_strides);
  Describe(dst, rank, Transpose::kNo, out.dst, out.dst_strides);
  out.n = dst.back();
  return out;
}

struct MatmulPlan {
  dnnl::memory::desc a, b_plain, dst, bias;
  dnnl::primitive_attr attr;
};

// Scales of the accumulator, including alpha: a vector over n for constant b, one number otherwise.
absl::Status AddScales(const MatmulParams& p, const Problem& problem, int id,
                       ConstantArguments& constants, dnnl::primitive_attr& attr) {
  const float factor = (p.a.quant ? p.a.quant->scale[0] : 1.0f) * p.alpha;
  const bool per_column = !p.b.quant->per_tensor();
  if (p.dst.dtype != DType::kS32) {  // the accumulator is not scaled
    OCTET_RETURN_IF_ERROR(DnnlCall("matmul scales", [&] {
      attr.set_scales_mask(DNNL_ARG_WEIGHTS, per_column ? 1 << (problem.b.size() - 1) : 0);
    }));
    OCTET_RETURN_IF_ERROR(
        constants.AddFloats(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, id, "matmul_scales",
                            FoldScales(*p.b.quant, per_column ? problem.n : 1, factor)));
  }
  if (p.b.quant->zero_point.empty()) return absl::OkStatus();
  const std::vector<int32_t>& zero_points = p.b.quant->zero_point;
  if (std::any_of(zero_points.begin(), zero_points.end(),
                  [&](int32_t z) { return z != zero_points[0]; })) {
    return absl::UnimplementedError("zero points of b differ between columns");
  }
  if (zero_points[0] == 0) return absl::OkStatus();
  OCTET_RETURN_IF_ERROR(
      DnnlCall("zero point of b", [&] { attr.set_zero_points_mask(DNNL_ARG_WEIGHTS, 0); }));
  return constants.AddInt(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_WEIGHTS, id, "matmul_quant",
                          zero_points[0]);
}

// The bias as a vector over n. Errors: kUnimplemented for one that varies over rows.
absl::Status AddBias(const MatmulParams& p, const Problem& problem, MatmulPlan& plan,
                     ConstantArguments& constants) {
  const int rank = static_cast<int>(problem.dst.size());
  if (p.bias.tensor.valid()) {
    const Shape& shape = p.bias.tensor.shape();
    const int64_t elements = NumElements(shape);
    if (elements != 1 && (shape.empty() || shape.back() != problem.n || elements != problem.n)) {
      return absl::UnimplementedError(
          absl::StrCat("bias ", ShapeString(shape), " varies over rows"));
    }
  }
  Dims dims(static_cast<size_t>(rank), 1), strides(static_cast<size_t>(rank), problem.n);
  dims.back() = problem.n;
  strides.back() = 1;
  OCTET_RETURN_IF_ERROR(DnnlCall("matmul bias", [&] {
    plan.bias = dnnl::memory::desc(dims, dnnl::memory::data_type::f32, strides);
  }));
  const bool divided = !p.a.quant && !p.runtime_quant && p.alpha != 1;
  return constants.AddBias({p.bias, "matmul_bias", problem.n, rank, divided ? 1 / p.alpha : 1.0f});
}

absl::StatusOr<MatmulPlan> MakePlan(const MatmulParams& p, const Problem& problem, int id,
                                    ConstantArguments& constants, DnnlKernelParts& parts) {
  MatmulPlan plan;
  const bool integer = p.a.quant || p.runtime_quant;
  OCTET_ASSIGN_OR_RETURN(const auto a_type, DnnlType(p.a.dtype));
  OCTET_ASSIGN_OR_RETURN(const auto b_type, DnnlType(p.b.dtype));
  OCTET_ASSIGN_OR_RETURN(const auto dst_type, DnnlType(p.dst.dtype));
  dnnl::post_ops post_ops;
  OCTET_RETURN_IF_ERROR(DnnlCall("matmul", [&] {
    plan.a = dnnl::memory::desc(problem.a, a_type, problem.a_strides);
    plan.b_plain = dnnl::memory::desc(problem.b, b_type, problem.b_strides);
    plan.dst = dnnl::memory::desc(problem.dst, dst_type, problem.dst_strides);
    plan.attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (!integer && p.alpha != 1) {
      post_ops.append_eltwise(dnnl::algorithm::eltwise_linear, p.alpha, 0);
    }
  }));
  OCTET_RETURN_IF_ERROR(AppendPostOps(p.post_ops, p.dst, post_ops));
  OCTET_RETURN_IF_ERROR(DnnlCall("matmul post-ops", [&] { plan.attr.set_post_ops(post_ops); }));
  if (integer) OCTET_RETURN_IF_ERROR(AddScales(p, problem, id, constants, plan.attr));
  if (p.runtime_quant) {
    OCTET_RETURN_IF_ERROR(AddRuntimeQuant(*p.runtime_quant, parts, plan.attr));
  }
  OCTET_RETURN_IF_ERROR(constants.AddQuantization(p.a, p.dst, id, "matmul_quant", plan.attr));
  if (p.bias.present()) OCTET_RETURN_IF_ERROR(AddBias(p, problem, plan, constants));
  return plan;
}

absl::StatusOr<dnnl::primitive_desc> MakePd(const MatmulPlan& plan, const dnnl::memory::desc& b) {
  dnnl::primitive_desc pd;
  OCTET_RETURN_IF_ERROR(DnnlCall("matmul", [&] {
    pd = dnnl::matmul::primitive_desc(CpuEngine(), plan.a, b, plan.bias, plan.dst, plan.attr);
  }));
  return pd;
}

absl::Status CheckSupported(const MatmulParams& p) {
  if (NumElements(p.dst.shape) == 0 || NumElements(p.a.shape) == 0) {
    return absl::UnimplementedError("empty tensor");
  }
  if (p.b.dtype == DType::kU8) return absl::UnimplementedError("u8 on the right side");
  if (p.alpha == 0) return absl::UnimplementedError("alpha is 0");
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Kernel>> Create(const MatmulParams& p, const KernelEnv& env) {
  OCTET_RETURN_IF_ERROR(CheckSupported(p));
  ConstantArguments constants(env);
  const Problem problem = MakeProblem(p);
  const int id = p.b_constant.present() ? p.b_constant.id : p.bias.id;
  DnnlKernelParts parts;
  OCTET_ASSIGN_OR_RETURN(const MatmulPlan plan, MakePlan(p, problem, id, constants, parts));
  dnnl::primitive_desc pd;
  if (p.b_constant.present()) {
    const std::string prefix = absl::StrCat(id, "/matmul/");
    dnnl::memory::desc any;
    OCTET_RETURN_IF_ERROR(DnnlCall("matmul", [&] {
      any = dnnl::memory::desc(problem.b, plan.b_plain.get_data_type(),
                               dnnl::memory::format_tag::any);
    }));
    OCTET_ASSIGN_OR_RETURN(
        pd, ChooseWeightsLayout(constants.store(), prefix, any, p.b_constant.tensor,
                                [&](const auto& weights) { return MakePd(plan, weights); }));
    const dnnl::memory::desc weights = pd.query_md(dnnl::query::weights_md);
    OCTET_ASSIGN_OR_RETURN(auto packed, PackWeights(constants.store(), prefix, p.b_constant.tensor,
                                                    plan.b_plain, weights));
    constants.Add(DNNL_ARG_WEIGHTS, weights, std::move(packed));
  } else {
    OCTET_ASSIGN_OR_RETURN(pd, MakePd(plan, plan.b_plain));
    parts.arguments.push_back({DNNL_ARG_WEIGHTS, DnnlArgument::From::kSrc, 1, plan.b_plain});
  }
  const dnnl::memory::desc scratch = pd.query_md(dnnl::query::scratchpad_md);
  parts.implementation = absl::StrCat("onednn:", ImplName(pd));
  OCTET_RETURN_IF_ERROR(DnnlCall("matmul", [&] { parts.primitive = dnnl::primitive(pd); }));
  parts.scratch_bytes = static_cast<int64_t>(scratch.get_size());
  parts.arguments.push_back({DNNL_ARG_SRC, DnnlArgument::From::kSrc, 0, plan.a});
  parts.arguments.push_back({DNNL_ARG_DST, DnnlArgument::From::kDst, 0, plan.dst});
  parts.arguments.push_back({DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, 0, scratch});
  constants.MoveInto(parts);
  return MakeDnnlKernel(std::move(parts));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateMatmulOneDnn(const MatmulParams& params,
                                                           const KernelEnv& env) {
  absl::StatusOr<std::unique_ptr<Kernel>> kernel = Create(params, env);
  if (!kernel.ok()) return AsRefusal(kernel.status());
  return kernel;
}

}  // namespace octet::kernels
