// Places buffers in one arena so that those alive at the same time do not overlap.
//
// Greedy by size, smallest gap that fits (Pisarchyk and Lee, arXiv:2001.03288, "greedy by size"), then a bounded search
// over orders while the arena is more than 2 % above the lower bound; deterministic; 64-byte aligned.
#ifndef OCTET_ENGINE_MEMORY_PLAN_H_
#define OCTET_ENGINE_MEMORY_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace octet::engine {

// A buffer is alive in the closed interval of steps [first, last]; -1 stands for "before the first step".
struct BufferLife {
  int64_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct MemoryPlan {
  std::vector<int64_t> offsets;   // one per buffer, multiples of 64
  int64_t arena_bytes = 0;
  int64_t lower_bound_bytes = 0;  // largest sum of (aligned) live buffers at any step
};

MemoryPlan PlanMemory(absl::Span<const BufferLife> buffers);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_MEMORY_PLAN_H_
