// Starting and stopping a server process.
#include "cli/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace octet::cli {
namespace {

std::string Tail(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  const std::string all = text.str();
  return all.size() > 2000 ? all.substr(all.size() - 2000) : all;
}

// "listening grpc=127.0.0.1:1 http=... metrics=..." -> the word behind `key`.
std::string Field(const std::string& line, absl::string_view key) {
  for (absl::string_view word : absl::StrSplit(line, ' ', absl::SkipWhitespace())) {
    if (absl::StartsWith(word, absl::StrCat(key, "="))) return std::string(word.substr(key.size() + 1));
  }
  return "";
}

[[noreturn]] void Exec(const std::string& repository, const std::string& log_file, int write_end) {
  const int log = open(log_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  dup2(write_end, STDOUT_FILENO);
  if (log >= 0) dup2(log, STDERR_FILENO);
  execl("/proc/self/exe", "octet", "serve", "--model-repository", repository.c_str(), "--host", "127.0.0.1",
        "--grpc-port", "0", "--http-port", "0", "--metrics-port", "0", static_cast<char*>(nullptr));
  _exit(127);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Start(const std::string& repository,
                                                                    const std::string& log_file) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
  auto server = std::unique_ptr<ServerProcess>(new ServerProcess);
  server->pid_ = fork();
  if (server->pid_ < 0) return absl::ErrnoToStatus(errno, "cannot start a process");
  if (server->pid_ == 0) Exec(repository, log_file, ends[1]);
  close(ends[1]);
  FILE* out = fdopen(ends[0], "r");
  char buffer[4096];
  std::string line;
  while (out != nullptr && std::fgets(buffer, sizeof(buffer), out) != nullptr) {
    line = buffer;
    if (absl::StartsWith(line, "listening ")) break;
    line.clear();
  }
  if (out != nullptr) std::fclose(out);
  if (line.empty()) {
    return absl::InternalError(absl::StrCat("the server ended before it listened; its log ends with:\n", Tail(log_file)));
  }
  server->grpc_ = Field(line, "grpc");
  server->http_ = Field(line, "http");
  server->metrics_ = Field(line, "metrics");
  return server;
}

ServerProcess::~ServerProcess() {
  if (pid_ <= 0) return;
  kill(pid_, SIGTERM);
  int status = 0;
  waitpid(pid_, &status, 0);
}

bool ServerProcess::running() const {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

}  // namespace octet::cli
