// Greedy arena placement.
#include "engine/memory_plan.h"

#include <algorithm>
#include <numeric>

#include "base/buffer.h"

namespace octet::engine {
namespace {

int64_t Aligned(int64_t bytes) {
  return (bytes + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
}

bool Overlap(const BufferLife& a, const BufferLife& b) {
  return a.first <= b.last && b.first <= a.last;
}

int64_t LowerBound(absl::Span<const BufferLife> buffers) {
  // The sum changes only where a buffer begins.
  int64_t best = 0;
  for (const BufferLife& at : buffers) {
    int64_t sum = 0;
    for (const BufferLife& b : buffers) {
      if (b.first <= at.first && at.first <= b.last) sum += Aligned(b.bytes);
    }
    best = std::max(best, sum);
  }
  return best;
}

}  // namespace

MemoryPlan PlanMemory(absl::Span<const BufferLife> buffers) {
  MemoryPlan plan;
  plan.offsets.assign(buffers.size(), 0);
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  std::vector<size_t> placed;  // sorted by offset
  for (size_t index : order) {
    const int64_t size = Aligned(buffers[index].bytes);
    int64_t offset = 0;
    for (size_t other : placed) {
      if (!Overlap(buffers[index], buffers[other])) continue;
      if (plan.offsets[other] - offset >= size) break;
      offset = std::max(offset, plan.offsets[other] + Aligned(buffers[other].bytes));
    }
    plan.offsets[index] = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + size);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), index,
                                   [&](size_t a, size_t b) {
                                     return plan.offsets[a] < plan.offsets[b];
                                   }),
                  index);
  }
  plan.lower_bound_bytes = LowerBound(buffers);
  return plan;
}

}  // namespace octet::engine
