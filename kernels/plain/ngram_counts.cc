// N-gram counts by a trie over the pool.
#include "kernels/plain/ngram_counts.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/status.h"
#include "kernels/elements.h"
#include "kernels/plain/index_checks.h"

namespace octet::kernels {
namespace {

struct Trie {
  struct Node {
    absl::flat_hash_map<int64_t, int> next;
    std::vector<int64_t> columns;  // of the n-grams that end here
  };
  std::vector<Node> nodes = std::vector<Node>(1);

  void Add(absl::Span<const int64_t> gram, int64_t column) {
    int at = 0;
    for (int64_t item : gram) {
      const auto [it, fresh] =
          nodes[static_cast<size_t>(at)].next.emplace(item, static_cast<int>(nodes.size()));
      at = it->second;
      if (fresh) nodes.emplace_back();
    }
    nodes[static_cast<size_t>(at)].columns.push_back(column);
  }
};

absl::Status FillTrie(const NgramParams& p, Trie* trie) {
  const auto total = static_cast<int64_t>(p.pool.size());
  int64_t gram = 0;
  for (size_t i = 0; i < p.starts.size(); ++i) {
    const auto n = static_cast<int64_t>(i) + 1;
    const int64_t begin = p.starts[i], end = i + 1 < p.starts.size() ? p.starts[i + 1] : total;
    if (begin < 0 || begin > end || end > total || (end - begin) % n != 0) {
      return absl::InvalidArgumentError(absl::StrCat("n-grams of length ", n, " from ", begin,
                                                     " to ", end, " of a pool of ", total));
    }
    for (int64_t at = begin; at < end; at += n, ++gram) {
      if (gram >= static_cast<int64_t>(p.columns.size())) {
        return absl::InvalidArgumentError(
            absl::StrCat("more n-grams than columns (", p.columns.size(), ")"));
      }
      if (n < p.min_length || n > p.max_length) continue;
      trie->Add(
          absl::MakeConstSpan(p.pool).subspan(static_cast<size_t>(at), static_cast<size_t>(n)),
          p.columns[static_cast<size_t>(gram)]);
    }
  }
  return absl::OkStatus();
}

// Occurrences that start anywhere in `row` and step by `distance`; of at least `shortest` elements.
template <typename I>
void CountRow(const Trie& trie, const NgramParams& p, const I* row, int64_t length,
              int64_t distance, int64_t shortest, float* dst) {
  for (int64_t start = 0; start < length; ++start) {
    int node = 0;
    int64_t n = 1;
    for (int64_t at = start; at < length && n <= p.max_length; at += distance, ++n) {
      const auto& next = trie.nodes[static_cast<size_t>(node)].next;
      const auto it = next.find(row[at]);
      if (it == next.end()) break;
      node = it->second;
      if (n < shortest) continue;
      for (int64_t column : trie.nodes[static_cast<size_t>(node)].columns) dst[column] += 1;
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernel>> CreateNgramCounts(const NgramParams& p, const KernelEnv&) {
  OCTET_RETURN_IF_ERROR(CheckIndexType("n-grams", p.src.dtype));
  if (p.dst.shape.empty() || p.src.shape.size() > 2 || p.dst.dtype != DType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat("n-grams: ", ShapeString(p.src.shape), " to ", ShapeString(p.dst.shape)));
  }
  const int64_t width = p.dst.shape.back();
  const int64_t length = p.src.shape.empty() ? 1 : p.src.shape.back();
  const int64_t rows = p.src.shape.size() == 2 ? p.src.shape[0] : 1;
  const bool outside = std::any_of(p.columns.begin(), p.columns.end(),
                                   [&](int64_t c) { return c < 0 || c >= width; });
  if (outside || p.min_length < 1 || p.max_length < p.min_length || p.max_skip < 0 ||
      NumElements(p.dst.shape) != rows * width ||
      (!p.weights.empty() && static_cast<int64_t>(p.weights.size()) < width)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "n-grams: lengths ", p.min_length, " to ", p.max_length, ", skips up to ", p.max_skip, ", ",
        p.weights.size(), " weights, ", p.columns.size(), " columns below ", width));
  }
  auto trie = std::make_shared<Trie>();
  OCTET_RETURN_IF_ERROR(FillTrie(p, trie.get()));
  std::vector<float> weights = p.weights;
  weights.resize(static_cast<size_t>(width), 1.0f);
  return MakeFunctionKernel("trie", 0, [=](const BindArgs& args) {
    WithIndex(p.src.dtype, [&](auto i) {
      using I = decltype(i);
      RunParallel(args.parallel, rows, 16, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          float* dst = static_cast<float*>(args.dst[0]) + row * width;
          std::fill_n(dst, width, 0.0f);
          // A step past the row leaves single elements only: more skips find nothing new.
          const int64_t last = std::min(p.max_skip, length);
          for (int64_t skip = 0; skip <= last; ++skip) {
            const int64_t shortest = skip == 0 ? p.min_length : std::max<int64_t>(p.min_length, 2);
            CountRow(*trie, p, static_cast<const I*>(args.src[0]) + row * length, length, skip + 1,
                     shortest, dst);
          }
          for (int64_t c = 0; c < width; ++c) {
            const float weight = weights[static_cast<size_t>(c)];
            if (p.mode == NgramParams::Mode::kIdf) dst[c] = dst[c] > 0 ? weight : 0;
            if (p.mode == NgramParams::Mode::kTfIdf) dst[c] *= weight;
          }
        }
      });
    });
  });
}

}  // namespace octet::kernels
