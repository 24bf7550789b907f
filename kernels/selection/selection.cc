// NonZero, Compress and Unique.
#include "kernels/selection/selection.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::kernels {
namespace {

absl::Status CheckBytes(const Tensor& x) {
  if (BitsOf(x.dtype()) >= 8) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("elements of type ", NameOf(x.dtype())));
}

absl::StatusOr<int64_t> CheckAxis(int64_t axis, size_t rank) {
  const auto r = static_cast<int64_t>(rank);
  if (axis < -r || axis >= r) {
    return absl::InvalidArgumentError(absl::StrCat("axis ", axis, " of rank ", rank));
  }
  return axis < 0 ? axis + r : axis;
}

// x seen as [outer, length, inner bytes] around an axis.
struct AxisView {
  int64_t outer = 1, length = 1, inner_bytes = 1;
};

AxisView ViewOf(const Tensor& x, int64_t axis) {
  AxisView v;
  for (int64_t i = 0; i < axis; ++i) v.outer *= x.shape()[static_cast<size_t>(i)];
  v.length = x.shape()[static_cast<size_t>(axis)];
  v.inner_bytes = BytesOf(x.dtype());
  for (size_t i = static_cast<size_t>(axis) + 1; i < x.shape().size(); ++i) v.inner_bytes *= x.shape()[i];
  return v;
}

// The slices `keep` of x along `axis`, in that order.
absl::StatusOr<Tensor> Take(const Tensor& x, int64_t axis, const std::vector<int64_t>& keep) {
  const AxisView v = ViewOf(x, axis);
  Shape shape = x.shape();
  shape[static_cast<size_t>(axis)] = static_cast<int64_t>(keep.size());
  OCTET_ASSIGN_OR_RETURN(Buffer out, Buffer::Allocate(ByteSize(x.dtype(), shape)));
  std::byte* to = out.data();
  for (int64_t o = 0; o < v.outer; ++o) {
    for (int64_t i : keep) {
      if (v.inner_bytes > 0) {
        std::memcpy(to, x.data() + (o * v.length + i) * v.inner_bytes, static_cast<size_t>(v.inner_bytes));
      }
      to += v.inner_bytes;
    }
  }
  return Tensor::FromBuffer(x.dtype(), std::move(shape), std::move(out));
}

Tensor Indices(const std::vector<int64_t>& values) {
  return Tensor::FromS64({static_cast<int64_t>(values.size())}, values);
}

// Orders values with NaN last, all NaN equal.
template <typename T>
int Compare(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a) || std::isnan(b)) return static_cast<int>(std::isnan(a)) - static_cast<int>(std::isnan(b));
  }
  return a < b ? -1 : a > b ? 1 : 0;
}

// Groups equal slices: elements of slice s are values[element(s, k)], k < inner.
template <typename T>
Distinct Group(const std::vector<T>& values, int64_t outer, int64_t length, int64_t inner, bool sorted,
               std::vector<int64_t>* keep) {
  const auto less = [&](int64_t a, int64_t b) {
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t k = 0; k < inner; ++k) {
        const int c = Compare(values[static_cast<size_t>((o * length + a) * inner + k)],
                              values[static_cast<size_t>((o * length + b) * inner + k)]);
        if (c != 0) return c < 0;
      }
    }
    return false;
  };
  std::vector<int64_t> order(static_cast<size_t>(length));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), less);
  struct Run {
    int64_t first;
    std::vector<int64_t> members;
  };
  std::vector<Run> runs;
  for (int64_t i : order) {
    if (runs.empty() || less(runs.back().first, i)) runs.push_back({i, {}});
    runs.back().members.push_back(i);
  }
  if (!sorted) {
    std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.first < b.first; });
  }
  std::vector<int64_t> inverse(static_cast<size_t>(length)), counts;
  for (size_t r = 0; r < runs.size(); ++r) {
    keep->push_back(runs[r].first);
    counts.push_back(static_cast<int64_t>(runs[r].members.size()));
    for (int64_t i : runs[r].members) inverse[static_cast<size_t>(i)] = static_cast<int64_t>(r);
  }
  return {Tensor(), Indices(*keep), Indices(inverse), Indices(counts)};
}

}  // namespace

absl::StatusOr<Tensor> NonZero(const Tensor& x) {
  const std::vector<double> values = x.ToF64();
  const size_t rank = std::max<size_t>(x.shape().size(), 1);
  Shape shape = x.shape();
  if (shape.empty()) shape = {1};
  std::vector<int64_t> found;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] != 0) found.push_back(static_cast<int64_t>(i));  // NaN is not zero
  }
  std::vector<int64_t> out(rank * found.size());
  for (size_t j = 0; j < found.size(); ++j) {
    int64_t rest = found[j];
    for (size_t d = rank; d-- > 0;) {
      out[d * found.size() + j] = rest % shape[d];
      rest /= shape[d];
    }
  }
  return Tensor::FromS64({static_cast<int64_t>(rank), static_cast<int64_t>(found.size())}, out);
}

absl::StatusOr<Tensor> Compress(const Tensor& x, const Tensor& condition, std::optional<int64_t> axis) {
  OCTET_RETURN_IF_ERROR(CheckBytes(x));
  if (condition.dtype() != DType::kBool || condition.shape().size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat("the condition is ", NameOf(condition.dtype()),
                                                   ShapeString(condition.shape()), ", expected bool of rank 1"));
  }
  const Tensor flat = axis.has_value() ? x : x.Reshaped({x.num_elements()});
  OCTET_ASSIGN_OR_RETURN(const int64_t along, CheckAxis(axis.value_or(0), flat.shape().size()));
  const std::vector<int64_t> wanted = condition.ToS64();
  const int64_t length = flat.shape()[static_cast<size_t>(along)];
  std::vector<int64_t> keep;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] == 0) continue;
    if (static_cast<int64_t>(i) >= length) {
      return absl::InvalidArgumentError(absl::StrCat("the condition selects ", i, " of ", length));
    }
    keep.push_back(static_cast<int64_t>(i));
  }
  return Take(flat, along, keep);
}

absl::StatusOr<Distinct> Unique(const Tensor& x, std::optional<int64_t> axis, bool sorted) {
  OCTET_RETURN_IF_ERROR(CheckBytes(x));
  const Tensor flat = axis.has_value() ? x : x.Reshaped({x.num_elements()});
  OCTET_ASSIGN_OR_RETURN(const int64_t along, CheckAxis(axis.value_or(0), flat.shape().size()));
  const AxisView v = ViewOf(flat, along);
  const int64_t inner = v.inner_bytes / BytesOf(x.dtype());
  std::vector<int64_t> keep;
  Distinct out = IsFloat(x.dtype()) ? Group(flat.ToF64(), v.outer, v.length, inner, sorted, &keep)
                                    : Group(flat.ToS64(), v.outer, v.length, inner, sorted, &keep);
  OCTET_ASSIGN_OR_RETURN(out.values, Take(flat, along, keep));
  return out;
}

}  // namespace octet::kernels
