// What the variants answer on the same samples: agreement with the reference, and with labels.
#ifndef OCTET_CLI_COMPARE_OUTPUTS_H_
#define OCTET_CLI_COMPARE_OUTPUTS_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "cli/compare_subject.h"
#include "cli/comparison.h"
#include "data/sample_reader.h"

namespace octet::cli {

// Runs samples 0 to count - 1 one at a time through every subject and fills outputs and accuracy of `figures`. Labels
// (one per sample; may be empty) are compared with output 0. Outputs are matched by name. Classes are the last axis of
// an output [1, C] or [1, C, 1, ...] with C > 1. `step` is called after each sample; its error ends the comparison.
// Errors: kInvalidArgument naming the variant whose output the reference lacks, or whose shape differs in rank.
absl::Status CompareOutputs(absl::Span<Subject* const> subjects, size_t reference, data::SampleReader& samples,
                            int64_t count, absl::Span<const int64_t> labels, const std::function<absl::Status()>& step,
                            std::vector<VariantFigures>* figures);

}  // namespace octet::cli

#endif  // OCTET_CLI_COMPARE_OUTPUTS_H_
