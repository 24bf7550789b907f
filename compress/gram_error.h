// What second moments say of quantized weights: expected errors of the output, the importance of inputs.
#ifndef OCTET_COMPRESS_GRAM_ERROR_H_
#define OCTET_COMPRESS_GRAM_ERROR_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "compress/collect_moments.h"
#include "compress/moments.h"
#include "compress/weight_matrix.h"

namespace octet::compress {

// Per row r of `matrix`'s shape, with d = values[r] and G the Gram matrix of the row's conv group: d^T G d, in f64. Where
// moments have no Gram matrix, as if inputs were uncorrelated: G = diag(E[x^2] - E[x]^2) + E[x] E[x]^T.
// Requires: CheckMoments(matrix, moments) is OK; values is [rows, columns].
std::vector<double> GramEnergies(const WeightMatrix& matrix, absl::Span<const float> values, const Moments& moments);

// (w - w')^T G (w - w') per row.
std::vector<double> GramErrors(const WeightMatrix& weights, const QuantizedMatrix& quantized, const Moments& moments);

// Sums over rows of (w - w')^T G (w - w') and w^T G w: the mean squared error and signal of all output channels. The
// output's SQNR is 10 log10(signal / error).
double GramError(const WeightMatrix& weights, const QuantizedMatrix& quantized, const Moments& moments);
double GramSignal(const WeightMatrix& weights, const Moments& moments);

// The weights w* that, on the inputs x' of the changed graph, come closest to w on the reference's x:
//   w* = argmin E[(w^T x - w*^T x')^2] + lambda |w* - w|^2 = w + (G' + lambda I)^-1 (C^T w - G' w)
// with G' = E[x' x'^T], C = E[x x'^T], lambda = damping * mean(diag G'). Rounding w* by the moments of x' corrects what
// quantized layers before this one did (asymmetric reconstruction of arXiv:2004.10568). kCentred: beside a bias that makes the
// layer right on average, so with x - E[x] and x' - E[x'] everywhere.
// Errors: as CheckMoments; kFailedPrecondition without Gram matrix.
enum class Means : uint8_t { kPlain, kCentred };
absl::StatusOr<WeightMatrix> CorrectedTarget(const WeightMatrix& weights, const PairedMoments& moments, double damping,
                                             Means means = Means::kPlain);

// The moments of x - E[x]. Where a bias makes a layer right on average, they say what is left of an error: E[(e^T x)^2] less
// (e^T E[x])^2. Rounding by the plain ones spends freedom on a mean that the bias gives back anyway.
Moments Centred(Moments moments);

// E[x_c^2], [conv_groups, columns]: weights of the squared error in fitting grids.
std::vector<float> Importance(const Moments& moments);

// Whether moments are those of this matrix's inputs and finite. Errors: kInvalidArgument naming both shapes.
absl::Status CheckMoments(const WeightMatrix& weights, const Moments& moments);

// The same, and that `quantized` has the shape of `weights` and a fitted grid; what rounding methods require besides a
// Gram matrix. Errors: kInvalidArgument; kFailedPrecondition when there are only diagonals.
absl::Status CheckRounding(const WeightMatrix& weights, const Moments& moments, const QuantizedMatrix& quantized);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_GRAM_ERROR_H_
