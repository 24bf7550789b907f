// The pattern groups of the engine, in the order in which they are applied.
#ifndef OCTET_ENGINE_PASSES_PATTERNS_H_
#define OCTET_ENGINE_PASSES_PATTERNS_H_

#include <vector>

#include "engine/passes/pattern.h"

namespace octet::engine {

// LayerNormalization and RMSNormalization from ReduceMean chains in their exporters' variants (patterns_normalization.cc).
PatternGroup LayerNormalizationPatterns();
PatternGroup RmsNormalizationPatterns();

// Gelu (by Erf, by Tanh), Swish, Mish, HardSigmoid, HardSwish, LeakyRelu from their parts (patterns_activation.cc).
PatternGroup GeluPatterns();
PatternGroup GeluTanhPatterns();
PatternGroup SwishPatterns();
PatternGroup MishPatterns();
PatternGroup HardSigmoidPatterns();
PatternGroup HardSwishPatterns();
PatternGroup LeakyReluPatterns();

// softmax(scale * Q K^T + mask) V with the Transposes around it -> FusedAttention (patterns_attention.cc).
PatternGroup AttentionPatterns();

// All of the above.
absl::Span<const PatternGroup> AllPatterns();

// The groups whose results run inside the product in front of them: what compress/ must not cut by integers.
absl::Span<const PatternGroup> ActivationPatterns();

}  // namespace octet::engine

#endif  // OCTET_ENGINE_PASSES_PATTERNS_H_
