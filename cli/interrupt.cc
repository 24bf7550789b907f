// Signal handlers with one flag: the only mutable global of the program, because a handler is given no context.
#include "cli/interrupt.h"

#include <signal.h>

#include <csignal>

namespace octet::cli {
namespace {

volatile std::sig_atomic_t flag = 0;

extern "C" void OnSignal(int signal_number) {
  if (flag != 0) {
    signal(signal_number, SIG_DFL);
    raise(signal_number);
  }
  flag = 1;
}

void Install(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  flag = 0;
  Install(OnSignal);
}

InterruptGuard::~InterruptGuard() { Install(SIG_DFL); }

bool InterruptGuard::interrupted() { return flag != 0; }

}  // namespace octet::cli
