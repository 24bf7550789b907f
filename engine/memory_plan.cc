// Greedy arena placement, improved by reordering.
#include "engine/memory_plan.h"

#include <algorithm>
#include <numeric>

#include "base/buffer.h"
#include "base/rng.h"

namespace octet::engine {
namespace {

// Reordering stops here: pairs of buffers compared in all rounds together. About 20 ms.
constexpr int64_t kMaxComparisons = 10'000'000;
// Nothing is gained by a search for the last two percent.
constexpr double kCloseEnough = 1.02;

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

// Puts the buffers into the arena in this order, each into the smallest gap that fits.
MemoryPlan Place(absl::Span<const BufferLife> buffers, absl::Span<const size_t> order) {
  MemoryPlan plan;
  plan.offsets.assign(buffers.size(), 0);
  std::vector<size_t> placed;  // sorted by offset
  for (size_t index : order) {
    const int64_t size = Aligned(buffers[index].bytes);
    int64_t end = 0;  // of the neighbours so far
    int64_t best = -1, best_gap = 0;
    for (size_t other : placed) {
      if (!Overlap(buffers[index], buffers[other])) continue;
      const int64_t gap = plan.offsets[other] - end;
      if (gap >= size && (best < 0 || gap < best_gap)) {
        best = end;
        best_gap = gap;
      }
      end = std::max(end, plan.offsets[other] + Aligned(buffers[other].bytes));
    }
    const int64_t offset = best >= 0 ? best : end;
    plan.offsets[index] = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + size);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), index,
                                   [&](size_t a, size_t b) {
                                     return plan.offsets[a] < plan.offsets[b];
                                   }),
                  index);
  }
  return plan;
}

// Moves the buffer that ends highest to an earlier place in the order, again and again; keeps the best placement.
void Improve(absl::Span<const BufferLife> buffers, std::vector<size_t> order, int64_t bound, MemoryPlan* best) {
  const CounterRng rng(1);
  uint64_t round = 0;
  const auto n = static_cast<int64_t>(buffers.size());
  MemoryPlan current = *best;
  const auto limit = static_cast<int64_t>(kCloseEnough * static_cast<double>(bound));
  for (int64_t left = kMaxComparisons; best->arena_bytes > limit && left > 0; left -= n * n) {
    size_t top = 0;  // position in the order
    for (size_t i = 0; i < order.size(); ++i) {
      const size_t b = order[i];
      if (current.offsets[b] + Aligned(buffers[b].bytes) == current.arena_bytes) top = i;
    }
    const size_t to = top == 0 ? order.size() - 1 : static_cast<size_t>(rng.Bits(round++) % top);
    const size_t moved = order[top];
    order.erase(order.begin() + static_cast<std::ptrdiff_t>(top));
    order.insert(order.begin() + static_cast<std::ptrdiff_t>(to), moved);
    current = Place(buffers, order);
    if (current.arena_bytes < best->arena_bytes) *best = current;
  }
}

}  // namespace

MemoryPlan PlanMemory(absl::Span<const BufferLife> buffers) {
  std::vector<size_t> by_size(buffers.size());
  std::iota(by_size.begin(), by_size.end(), 0);
  std::vector<size_t> by_area = by_size;
  std::stable_sort(by_size.begin(), by_size.end(),
                   [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  auto area = [&](size_t i) { return buffers[i].bytes * (buffers[i].last - buffers[i].first + 1); };
  std::stable_sort(by_area.begin(), by_area.end(), [&](size_t a, size_t b) { return area(a) > area(b); });
  const int64_t bound = LowerBound(buffers);
  MemoryPlan plan = Place(buffers, by_size);
  if (MemoryPlan other = Place(buffers, by_area); other.arena_bytes < plan.arena_bytes) plan = std::move(other);
  Improve(buffers, by_size, bound, &plan);
  plan.lower_bound_bytes = bound;
  return plan;
}

}  // namespace octet::engine
