// Lowering of Einsum: pairs of operands as matrix products, what products do not say (diagonals,
// sums, broadcasts, other types than f32) in plain loops, and copies where an order has to change.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "engine/builder.h"
#include "engine/lower.h"
#include "graph/einsum.h"
#include "kernels/matmul/matmul.h"
#include "kernels/movement/movement.h"
#include "kernels/plain/einsum.h"

namespace octet::engine {
namespace {

using Labels = graph::Einsum::Labels;
using kernels::TensorSpec;

bool Has(const Labels& labels, int label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

Labels operator+(Labels a, const Labels& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Operand {
  Location at;
  Labels labels;  // one per dimension
};

class EinsumLowering {
 public:
  EinsumLowering(Builder& b, const FusedNode& fused, std::map<int, int64_t> sizes)
      : b_(b), fused_(fused), sizes_(std::move(sizes)) {}

  // All operands at once in plain loops.
  absl::StatusOr<Operand> Loops(const std::vector<Operand>& operands, Labels result) {
    Labels all = result;
    for (const Operand& o : operands) {
      for (int label : o.labels) {
        if (!Has(all, label)) all.push_back(label);
      }
    }
    kernels::EinsumParams params;
    params.dtype = operands[0].at.spec.dtype;
    params.result = ShapeOf(result);
    params.summed =
        ShapeOf(Labels(all.begin() + static_cast<std::ptrdiff_t>(result.size()), all.end()));
    std::vector<Location> src;
    for (const Operand& o : operands) {
      const Shape own = StridesOf(o.at.spec.shape);
      Shape strides(all.size(), 0);
      for (size_t d = 0; d < own.size(); ++d) {
        const auto k =
            static_cast<size_t>(std::find(all.begin(), all.end(), o.labels[d]) - all.begin());
        if (o.at.spec.shape[d] != 1) strides[k] += own[d];
      }
      params.strides.push_back(std::move(strides));
      src.push_back(o.at);
    }
    const Location dst = NewDst(params.result, params.dtype);
    OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateEinsum(params, b_.env()));
    b_.Emit(std::move(kernel), std::move(src), {dst}, &fused_,
            NumElements(params.result) * NumElements(params.summed));
    return Operand{dst, std::move(result)};
  }

  // The same operand with its dimensions in this order. Requires: the labels are a permutation of
  // its own.
  absl::StatusOr<Operand> Ordered(const Operand& o, const Labels& order) {
    if (o.labels == order) return o;
    const Shape own = StridesOf(o.at.spec.shape);
    Shape strides;
    for (int label : order) {
      strides.push_back(own[static_cast<size_t>(std::find(o.labels.begin(), o.labels.end(), label) -
                                                o.labels.begin())]);
    }
    const Location dst = NewDst(ShapeOf(order), o.at.spec.dtype);
    OCTET_ASSIGN_OR_RETURN(auto kernel,
                           kernels::CreateStridedCopy(
                               {o.at.spec.dtype, dst.spec.shape, std::move(strides), 0}, b_.env()));
    b_.Emit(std::move(kernel), {o.at}, {dst}, &fused_);
    return Operand{dst, order};
  }

  // Without broadcast dimensions, diagonals, and labels that nobody else needs.
  absl::StatusOr<Operand> Simplified(const Operand& o, const Labels& needed) {
    Operand out{o.at, {}};
    Shape shape;
    Labels kept;
    for (size_t d = 0; d < o.labels.size(); ++d) {
      const int label = o.labels[d];
      if (o.at.spec.shape[d] == 1 && sizes_.at(label) != 1) continue;
      shape.push_back(o.at.spec.shape[d]);
      out.labels.push_back(label);
      if (Has(needed, label) && !Has(kept, label)) kept.push_back(label);
    }
    out.at = Builder::View(o.at, std::move(shape), kernels::Layout::kPlain);
    if (kept.size() == out.labels.size()) return out;
    return Loops({out}, kept);
  }

  // Sum over the labels of a and b that are not needed.
  absl::StatusOr<Operand> Product(const Operand& a, const Operand& b, const Labels& needed) {
    Labels batch, m, n, k;
    for (int label : a.labels)
      (!Has(b.labels, label) ? m : Has(needed, label) ? batch : k).push_back(label);
    for (int label : b.labels) {
      if (!Has(a.labels, label)) n.push_back(label);
    }
    const int64_t rows = Volume(m), columns = Volume(n), depth = Volume(k), count = Volume(batch);
    if (rows * columns * depth * count == 0 || depth == 1 || (rows == 1 && columns == 1)) {
      return Loops({a, b}, batch + m + n);
    }
    using Transpose = kernels::MatmulParams::Transpose;
    kernels::MatmulParams params;
    params.transpose_a = a.labels == batch + k + m ? Transpose::kYes : Transpose::kNo;
    params.transpose_b = b.labels == batch + n + k ? Transpose::kYes : Transpose::kNo;
    const bool ta = params.transpose_a == Transpose::kYes,
               tb = params.transpose_b == Transpose::kYes;
    OCTET_ASSIGN_OR_RETURN(const Operand left, Ordered(a, ta ? batch + k + m : batch + m + k));
    OCTET_ASSIGN_OR_RETURN(const Operand right, Ordered(b, tb ? batch + n + k : batch + k + n));
    const auto matrices = [&](int64_t outer, int64_t inner) {
      return batch.empty() ? Shape{outer, inner} : Shape{count, outer, inner};
    };
    const Location l =
        Builder::View(left.at, ta ? matrices(depth, rows) : matrices(rows, depth), {});
    const Location r =
        Builder::View(right.at, tb ? matrices(columns, depth) : matrices(depth, columns), {});
    const Location dst = NewDst(matrices(rows, columns), DType::kF32);
    params.a = l.spec;
    params.b = r.spec;
    params.dst = dst.spec;
    OCTET_ASSIGN_OR_RETURN(auto kernel, kernels::CreateMatmul(params, b_.env()));
    b_.Emit(std::move(kernel), {l, r}, {dst}, &fused_, count * rows * columns * depth);
    const Labels labels = batch + m + n;
    return Operand{Builder::View(dst, ShapeOf(labels), {}), labels};
  }

  Shape ShapeOf(const Labels& labels) const {
    Shape shape;
    for (int label : labels) shape.push_back(sizes_.at(label));
    return shape;
  }

 private:
  Location NewDst(Shape shape, DType dtype) {
    TensorSpec spec;
    spec.dtype = dtype;
    spec.shape = std::move(shape);
    return b_.NewBuffer(spec);
  }
  int64_t Volume(const Labels& labels) const { return NumElements(ShapeOf(labels)); }

  Builder& b_;
  const FusedNode& fused_;
  std::map<int, int64_t> sizes_;
};

// Pairs from the left; the last step brings the result's order.
absl::StatusOr<Operand> LowerPairs(EinsumLowering& lowering, std::vector<Operand> rest,
                                   const Labels& result) {
  // What operands from `from` on and the result read.
  const auto needed = [&](size_t from, size_t but) {
    Labels labels = result;
    for (size_t i = from; i < rest.size(); ++i) {
      if (i != but) labels = labels + rest[i].labels;
    }
    return labels;
  };
  for (size_t i = 0; i < rest.size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(rest[i], lowering.Simplified(rest[i], needed(0, i)));
  }
  Operand all = rest[0];
  for (size_t i = 1; i < rest.size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(all, lowering.Product(all, rest[i], needed(i + 1, rest.size())));
  }
  if (all.labels.size() != result.size()) return lowering.Loops({all}, result);
  return lowering.Ordered(all, result);
}

absl::Status LowerEinsum(Builder& b, const FusedNode& fused) {
  const graph::Node& node = *fused.node;
  std::vector<size_t> ranks;
  for (graph::ValueId id : node.inputs) ranks.push_back(b.info(id).shape.size());
  OCTET_ASSIGN_OR_RETURN(const auto einsum,
                         graph::ParseEinsum(node.GetString("equation", ""), ranks));
  OCTET_ASSIGN_OR_RETURN(const std::vector<Location> src, NumberOperands(b, node.inputs));
  std::vector<Operand> operands;
  std::map<int, int64_t> sizes;
  for (size_t i = 0; i < src.size(); ++i) {
    operands.push_back({src[i], einsum.operands[i]});
    for (size_t d = 0; d < ranks[i]; ++d) {
      const auto [it, fresh] = sizes.emplace(einsum.operands[i][d], src[i].spec.shape[d]);
      if (!fresh && it->second == 1) it->second = src[i].spec.shape[d];
    }
  }
  EinsumLowering lowering(b, fused, std::move(sizes));
  Operand out;
  if (src[0].spec.dtype == DType::kF32) {
    OCTET_ASSIGN_OR_RETURN(out, LowerPairs(lowering, std::move(operands), einsum.result));
  } else {
    OCTET_ASSIGN_OR_RETURN(out, lowering.Loops(operands, einsum.result));
  }
  return b.Bind(fused.output,
                Builder::View(out.at, b.info(fused.output).shape, kernels::Layout::kPlain));
}

}  // namespace

void AddEinsumRule(LowerTable* table) { table->Add("Einsum", LowerEinsum); }

}  // namespace octet::engine
