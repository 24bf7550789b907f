// Internal to the lowering rules: the table they register in and the helpers they share.
#ifndef OCTET_ENGINE_LOWER_H_
#define OCTET_ENGINE_LOWER_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "engine/builder.h"

namespace octet::engine {

class LowerTable {
 public:
  void Add(const std::string& op, LowerFn rule) { rules_[op] = rule; }
  const std::map<std::string, LowerFn>& rules() const { return rules_; }

 private:
  std::map<std::string, LowerFn> rules_;  // default domain
};

void AddProductRules(LowerTable* table);      // lower_products.cc
void AddElementwiseRules(LowerTable* table);  // lower_elementwise.cc
void AddMovementRules(LowerTable* table);     // lower_movement.cc
void AddTransformerRules(LowerTable* table);  // lower_transformer.cc
void AddIndexingRules(LowerTable* table);     // lower_indexing.cc
void AddEinsumRule(LowerTable* table);        // lower_einsum.cc
void AddSamplingRules(LowerTable* table);     // lower_sampling.cc
void AddSignalRules(LowerTable* table);       // lower_signal.cc
void AddPlainRules(LowerTable* table);        // lower_plain.cc
void AddNormalizeRules(LowerTable* table);    // lower_normalize.cc
void AddDeconvRule(LowerTable* table);        // lower_deconv.cc
void AddRecurrentRules(LowerTable* table);    // lower_rnn.cc

// A constant with quant, or of another float type, as f32 reals, under a key of its own in the weight store.
absl::StatusOr<kernels::ConstantSpec> DequantizedConstant(Builder& b, graph::ValueId id, bool* local);

// An operand as moving operators take it: plain, stored integers kept where one scale and zero point serve them all.
absl::StatusOr<Location> MovableOperand(Builder& b, graph::ValueId id);

// Operands of one type for kernels that compute: their own float type where all have the same, else f32. Plain.
absl::StatusOr<std::vector<Location>> RealOperands(Builder& b, absl::Span<const graph::ValueId> ids);

// The same for kernels that compute on numbers of any type: integers stay, unless one stands for reals.
absl::StatusOr<std::vector<Location>> NumberOperands(Builder& b, absl::Span<const graph::ValueId> ids);

// MaxPool whose second output is read.
absl::Status LowerMaxPoolIndex(Builder& b, const FusedNode& fused);

// An axis attribute counted from the front. Errors: kInvalidArgument outside of [-rank, rank).
absl::StatusOr<int> AxisOf(const graph::Node& node, absl::string_view key, int64_t absent, size_t rank);

// lower_plain_products.cc: products that need the plain kernels (computed convolution weights, f64, integers), and a
// Gemm whose bias is computed: `product` lowers it without bias.
bool NeedsPlainProduct(const Builder& b, const graph::Node& node);
absl::Status LowerPlainConv(Builder& b, const FusedNode& fused);
absl::Status LowerPlainMatmul(Builder& b, const FusedNode& fused);
absl::StatusOr<Location> WithComputedBias(Builder& b, const FusedNode& fused, const Location& product);
absl::Status LowerGemmWithComputedBias(Builder& b, const FusedNode& fused, LowerFn product);
absl::Status LowerBatchNormalization(Builder& b, const FusedNode& fused);

// lower_nbits.cc: products with weights that stay packed in less than 8 bits, or in 8 bits with blocks along K.
bool IsNBitsProduct(const Builder& b, const graph::Node& node);
absl::Status LowerNBitsProduct(Builder& b, const FusedNode& fused);

// An element function of f64 or integers, by the plain kernel.
absl::Status LowerPlainActivation(Builder& b, const FusedNode& fused, const kernels::Activation& activation);

// ReduceMean over exactly the spatial axes, as a pooling.
absl::Status LowerSpatialMean(Builder& b, const FusedNode& fused);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_LOWER_H_
