// The `octet` program: picks the subcommand. Flags are Abseil's; "--model-repository" and "--model_repository" are one.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/log/initialize.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cli/commands.h"

namespace octet::cli {
namespace {

struct Command {
  const char* name;
  absl::Status (*run)(const Words&);
  const char* usage;
};

constexpr Command kCommands[] = {
    {"serve", Serve, "serve --model-repository DIR            serve every model of a repository over gRPC and HTTP"},
    {"compress", Compress, "compress MODEL.onnx --calibration DATA --out FILE   compress a float model (--list: how)"},
    {"compare", Compare, "compare MODEL --variants f32,int8 --data DATA   what each variant costs and gains, side by side"},
    {"bench", Bench, "bench MODEL [--rates 1000,2000|--concurrency 1,8]   load a server, or a file's model in process"},
    {"inspect", Inspect, "inspect MODEL.onnx                      operators, types, implementations and memory"},
    {"infer", Infer, "infer MODEL --data DATA                 send samples to a server and print the best classes"},
    {"demo", Demo, "demo [--once] [--json FILE]             compress, serve and compare the embedded model"},
    {"variants", Variants,
     "variants [HOST:PORT]                    what a server's variants save and cost, and who answers"},
    {"replay", Replay,
     "replay MODEL [VARIANT,...]              a server compares its variants over the model's calibration folder"},
    {"set", Set, "set primary|weights|guard|windows MODEL ...   who answers, and what the guard judges by"},
    {"probe", Probe, "probe [--address HOST:PORT]             exit 0 when a server is ready (health check)"},
};

std::string Usage() {
  std::string text = "Octet serves neural networks and their compressed twins on CPUs.\n\n";
  for (const Command& c : kCommands) absl::StrAppend(&text, "  octet ", c.usage, "\n");
  return absl::StrCat(text, "\nFlags of all commands: octet --helpfull");
}

// Abseil's flag names have underscores; users type dashes.
void DashesToUnderscores(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--", 2) != 0) continue;
    if (argv[i][2] == '\0') return;
    for (char* c = argv[i] + 2; *c != '\0' && *c != '='; ++c) {
      if (*c == '-') *c = '_';
    }
  }
}

int Run(int argc, char** argv) {
  DashesToUnderscores(argc, argv);
  absl::SetProgramUsageMessage(Usage());
  const std::vector<char*> positional = absl::ParseCommandLine(argc, argv);
  absl::InitializeLog();
  if (positional.size() < 2) {
    std::fprintf(stderr, "%s\n", Usage().c_str());
    return 2;
  }
  const std::string name = positional[1];
  for (const Command& command : kCommands) {
    if (name != command.name) continue;
    const absl::Status status = command.run(Words(positional.begin() + 2, positional.end()));
    if (status.ok()) return 0;
    std::fprintf(stderr, "octet %s: %s (%s)\n", command.name, std::string(status.message()).c_str(),
                 std::string(ReasonOf(status)).c_str());
    return 1;
  }
  std::fprintf(stderr, "octet: unknown command '%s'\n\n%s\n", name.c_str(), Usage().c_str());
  return 2;
}

}  // namespace
}  // namespace octet::cli

int main(int argc, char** argv) { return octet::cli::Run(argc, argv); }
