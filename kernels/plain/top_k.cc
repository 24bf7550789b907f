// TopK: a heap of the best so far where k is small against the axis, else selection and sorting.
#include "kernels/plain/top_k.h"

#include <algorithm>
#include <vector>

#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/typed.h"

namespace octet::kernels {
namespace {

template <typename T>
struct Candidate {
  T value;
  int64_t at;
};

// A total order, so that no input can make the standard algorithms misbehave.
template <typename T>
bool Less(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return a < b || (b != b && a == a);
  } else {
    return a < b;
  }
}

template <typename T>
struct Better {
  bool largest;
  bool operator()(const Candidate<T>& a, const Candidate<T>& b) const {
    if (largest ? Less(b.value, a.value) : Less(a.value, b.value)) return true;
    if (largest ? Less(a.value, b.value) : Less(b.value, a.value)) return false;
    return a.at < b.at;
  }
};

struct Plan {
  int64_t size = 0, k = 0, inner = 1;  // src is [outer, size, inner], dst [outer, k, inner]
  bool largest = true, sorted = true;

  // The k best of one lane into the front of `best`.
  template <typename C, typename T>
  void Select(const T* lane, std::vector<Candidate<C>>* best) const {
    const Better<C> better{largest};
    best->clear();
    const bool heap = k < size / 8;
    if (!heap) {
      for (int64_t j = 0; j < size; ++j) best->push_back({static_cast<C>(lane[j * inner]), j});
      if (k < size) std::nth_element(best->begin(), best->begin() + k, best->end(), better);
      best->resize(static_cast<size_t>(k));
    } else {
      for (int64_t j = 0; j < k; ++j) best->push_back({static_cast<C>(lane[j * inner]), j});
      std::make_heap(best->begin(), best->end(), better);  // the worst of the best at the front
      for (int64_t j = k; j < size; ++j) {
        const C value = static_cast<C>(lane[j * inner]), worst = best->front().value;
        // Most elements end here: later equal ones lose. A NaN compares false and is looked at.
        if (largest ? value <= worst : value >= worst) continue;
        const Candidate<C> next{value, j};
        if (!better(next, best->front())) continue;
        std::pop_heap(best->begin(), best->end(), better);
        best->back() = next;
        std::push_heap(best->begin(), best->end(), better);
      }
    }
    if (sorted) std::sort(best->begin(), best->end(), better);
  }

  template <typename T>
  void Run(const BindArgs& args, int64_t begin, int64_t end) const {
    using C = ComputeType<T>;
    T* values = static_cast<T*>(args.dst[0]);
    auto* positions = static_cast<int64_t*>(args.dst[1]);
    std::vector<Candidate<C>> best;
    for (int64_t lane = begin; lane < end; ++lane) {
      const int64_t outer = lane / inner, in = lane % inner;
      Select<C>(static_cast<const T*>(args.src[0]) + outer * size * inner + in, &best);
      for (int64_t j = 0; j < k; ++j) {
        const int64_t to = (outer * k + j) * inner + in;
        const Candidate<C>& c = best[static_cast<size_t>(j)];
        if (values != nullptr) values[to] = static_cast<T>(c.value);
        if (positions != nullptr) positions[to] = c.at;
      }
    }
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateTopK(const TopKParams& p, const KernelEnv&) {
  const auto rank = static_cast<int>(p.src.shape.size());
  if (p.axis < 0 || p.axis >= rank) {
    return absl::InvalidArgumentError(
        absl::StrCat("top k: axis ", p.axis, " of ", ShapeString(p.src.shape)));
  }
  const auto axis = static_cast<size_t>(p.axis);
  Shape want = p.src.shape;
  if (p.dst_shape.size() == want.size()) want[axis] = p.dst_shape[axis];
  if (want != p.dst_shape || want[axis] > p.src.shape[axis]) {
    return absl::InvalidArgumentError(absl::StrCat("top k: ", ShapeString(p.dst_shape), " of ",
                                                   ShapeString(p.src.shape), " along ", axis));
  }
  const absl::Span<const int64_t> src = p.src.shape;
  const Plan plan{src[axis], p.dst_shape[axis], NumElements(src.subspan(axis + 1)),
                  p.largest == TopKParams::Largest::kYes, p.order == TopKParams::Order::kSorted};
  const int64_t lanes = plan.k == 0 ? 0 : NumElements(src.first(axis)) * plan.inner;
  OCTET_RETURN_IF_ERROR(WithType("top k", p.src.dtype, [](auto) { return absl::OkStatus(); }));
  return MakeCheckedKernel(
      plan.k < plan.size / 8 ? "heap" : "select", 0, [=](const BindArgs& args) -> absl::Status {
        return WithType("top k", p.src.dtype, [&](auto t) {
          RunParallel(args.parallel, lanes, 4096 / std::max<int64_t>(plan.size, 1) + 1,
                      [&](int64_t begin, int64_t end) { plan.Run<decltype(t)>(args, begin, end); });
          return absl::OkStatus();
        });
      });
}

}  // namespace octet::kernels
