// The child process and its answers.
#include "bench/quality/peer.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "data/sample_reader.h"

namespace octet::bench {
namespace {

// Runs the words to their end, standard output and errors into the log; returns the exit code.
absl::StatusOr<int> RunChild(std::vector<std::string> words, const std::string& log) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  absl::Cleanup destroy = [&] { posix_spawn_file_actions_destroy(&actions); };
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  if (const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot start ", words[0]));
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return absl::ErrnoToStatus(errno, "waitpid");
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string LastLine(const std::string& path) {
  std::ifstream in(path);
  std::string line, last;
  while (std::getline(in, line)) {
    if (!line.empty()) last = line;
  }
  return last;
}

absl::StatusOr<Predictions> ReadPredictions(const std::string& stem, int64_t outputs) {
  Predictions p;
  for (int64_t o = 0; o < outputs; ++o) {
    OCTET_ASSIGN_OR_RETURN(const Tensor tensor, data::ReadNpy(absl::StrCat(stem, ".output_", o, ".npy")));
    p.samples = tensor.shape()[0];
    p.outputs.push_back({Shape(tensor.shape().begin() + 1, tensor.shape().end()), tensor.ToF32()});
  }
  return p;
}

// A line of results.txt: setting, then bytes and number of outputs, or "error" and a message; separated by tabs.
absl::StatusOr<PeerResult> ParseResult(const std::string& line, const std::string& folder) {
  const std::vector<std::string> words = absl::StrSplit(line, '\t');
  PeerResult result;
  int64_t outputs = 0;
  result.setting = words[0];
  if (words.size() == 3 && words[1] == "error") {
    result.error = words[2];
    return result;
  }
  if (words.size() != 3 || !absl::SimpleAtoi(words[1], &result.bytes) || !absl::SimpleAtoi(words[2], &outputs)) {
    return absl::InternalError(absl::StrCat("the script wrote '", line, "', expected setting, bytes, outputs"));
  }
  OCTET_ASSIGN_OR_RETURN(result.predictions, ReadPredictions(absl::StrCat(folder, "/", result.setting), outputs));
  return result;
}

}  // namespace

absl::StatusOr<std::vector<PeerResult>> RunOrtStatic(const std::string& script, const std::string& model,
                                                     const std::string& folder) {
  constexpr int kCannotRun = 77;  // the script's word for "no quantizer here"
  const std::string log = folder + "/log.txt";
  OCTET_ASSIGN_OR_RETURN(const int code, RunChild({"/usr/bin/python3", "-B", script, model, folder}, log));
  if (code == kCannotRun) return absl::UnavailableError(LastLine(log));
  if (code != 0) return absl::InternalError(absl::StrCat(script, " ended with ", code, ": ", LastLine(log)));
  std::vector<PeerResult> results;
  std::ifstream in(folder + "/results.txt");
  std::string line;
  while (std::getline(in, line)) {
    OCTET_ASSIGN_OR_RETURN(PeerResult result, ParseResult(line, folder));
    results.push_back(std::move(result));
  }
  if (results.empty()) return absl::InternalError(absl::StrCat(script, " wrote no results"));
  return results;
}

}  // namespace octet::bench
