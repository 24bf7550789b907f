// Scale migration: an input channel of a matrix product that is large in the activations is divided by s where it is made and
// multiplied by s in the weights that read it, so that one range fits the activations (SmoothQuant) or the important
// weights round finely (AWQ). In reals nothing changes.
//
//   s[j] = max|X[:, j]|^alpha / max|W[:, j]|^(1 - alpha),   X' = X / s,  W'[:, j] = s[j] W[:, j]
//
// W: the weights of all products that read X, which share s. alpha is given, or the one of a grid for which the expected
// squared error of the results is smallest:
//   error = sum_r sum_j E[X'_j^2] (W'[r, j] - Q(W')[r, j])^2  +  (step of X')^2 / 12 * sum_r sum_j W'[r, j]^2
// Sources: Xiao et al., arXiv:2211.10438; Lin et al., arXiv:2306.00978 (whose s is the case of a fixed W).
#ifndef OCTET_COMPRESS_MIGRATE_SCALES_H_
#define OCTET_COMPRESS_MIGRATE_SCALES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "compress/calibrate.h"
#include "graph/graph.h"

namespace octet::compress {

struct MigrateOptions {
  std::optional<double> alpha;  // in [0, 1]; absent: searched
  int alpha_steps = 20;         // the grid is 0, 1/steps, .., 1, and no migration
  // The weights' grid: integers up to +/- max_level, one scale per output channel and `group` input channels (0: all).
  int max_level = 127;
  int64_t group = 0;
  // u8 (one range for all channels), or left real: then only the weights' error counts.
  enum class Activations : uint8_t { kU8, kReal } activations = Activations::kU8;
  // What happens where no producer can take 1 / s: nothing, or a Mul in front of the products.
  enum class Insert : uint8_t { kNever, kMul } insert = Insert::kNever;
};

struct MigratedSite {
  std::string value;      // X
  std::string folded_in;  // the node that took 1 / s
  std::vector<std::string> products;
  double alpha = 0;
  double error_before = 0, error_after = 0;  // of the formula above
  std::vector<double> divided_by;
};

struct MigrateReport {
  std::vector<MigratedSite> sites;
  std::vector<std::string> skipped;  // "'value': reason"
};

// Sites: values whose readers are all MatMul or Gemm with constant f32 matrices, made by a LayerNormalization (scale and
// bias), or by such a product, possibly with Relu or LeakyRelu behind it; others with Insert::kMul, and only for the
// products among their readers. A site stays as it is when no alpha of the grid lowers the error; a given alpha is taken
// as it is. `statistics` are Calibrate's; values without are skipped. Statistics of migrated values no longer hold.
// Errors: kInvalidArgument for an alpha outside [0, 1].
absl::StatusOr<MigrateReport> MigrateScales(graph::Graph* graph,
                                            const absl::flat_hash_map<graph::ValueId, ValueStatistics>& statistics,
                                            const MigrateOptions& options);

// The values whose statistics MigrateScales may use.
std::vector<graph::ValueId> MigrationCandidates(const graph::Graph& graph, const MigrateOptions& options);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_MIGRATE_SCALES_H_
