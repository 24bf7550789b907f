// Ctrl-C as a question: long commands ask whether to stop, finish what they can and write what they have.
#ifndef OCTET_CLI_INTERRUPT_H_
#define OCTET_CLI_INTERRUPT_H_

namespace octet::cli {

// From construction to destruction SIGINT and SIGTERM set a flag instead of ending the process; a second one ends it.
// At most one at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  static bool interrupted();
};

}  // namespace octet::cli

#endif  // OCTET_CLI_INTERRUPT_H_
