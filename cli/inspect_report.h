// Parts of `octet inspect` that explain: what the passes did, and where the time goes.
#ifndef OCTET_CLI_INSPECT_REPORT_H_
#define OCTET_CLI_INSPECT_REPORT_H_

#include "absl/status/status.h"
#include "engine/program.h"

namespace octet::cli {

// One line per node that a pass changed or nearly changed, then how often each pass fired.
void PrintPasses(const engine::Program& program, const engine::Specialisation& specialisation);

// Runs the context on made-up inputs (reals in [-1, 1), integers 0) for about a second and prints the median time of
// every step, the slowest first. Sets the calling thread's team size.
absl::Status PrintProfile(const engine::Program& program, engine::Context& context);

}  // namespace octet::cli

#endif  // OCTET_CLI_INSPECT_REPORT_H_
