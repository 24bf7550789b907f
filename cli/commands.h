// The subcommands of the `octet` program: each takes the words after its own flags and returns an exit status.
#ifndef OCTET_CLI_COMMANDS_H_
#define OCTET_CLI_COMMANDS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace octet::cli {

using Words = std::vector<std::string>;

absl::Status Serve(const Words& words);     // serve.cc
absl::Status Compress(const Words& words);  // compress.cc
absl::Status Bench(const Words& words);     // bench.cc
absl::Status Compare(const Words& words);   // compare.cc
absl::Status Inspect(const Words& words);   // inspect.cc
absl::Status Infer(const Words& words);     // infer.cc
absl::Status Demo(const Words& words);      // demo.cc
absl::Status Probe(const Words& words);     // probe.cc
absl::Status Replay(const Words& words);    // replay.cc
absl::Status Variants(const Words& words);  // variants.cc
absl::Status Set(const Words& words);       // variants.cc

}  // namespace octet::cli

#endif  // OCTET_CLI_COMMANDS_H_
