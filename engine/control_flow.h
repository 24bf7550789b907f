// If, Loop and Scan at run time: their subgraphs are programs, run once per decision or iteration.
#ifndef OCTET_ENGINE_CONTROL_FLOW_H_
#define OCTET_ENGINE_CONTROL_FLOW_H_

#include <list>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "base/tensor.h"
#include "engine/specialise.h"

namespace octet::engine {

// Bytes that one run may take beside its first arena. Thread-compatible.
class RunPool {
 public:
  explicit RunPool(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  // Errors: kResourceExhausted naming `what`, both sizes and the limit; nothing is taken then.
  absl::Status Take(int64_t bytes, absl::string_view what);
  void Give(int64_t bytes) { used_bytes_ -= bytes; }
  // Of what is taken, what contexts of bodies hold.
  void AddBodyBytes(int64_t bytes) { body_bytes_ += bytes; }
  int64_t body_bytes() const { return body_bytes_; }
  int64_t used_bytes() const { return used_bytes_; }
  int64_t left_bytes() const { return limit_bytes_ - used_bytes_; }

 private:
  const int64_t limit_bytes_;
  int64_t used_bytes_ = 0, body_bytes_ = 0;
};

// The programs of a program's subgraphs, one per subgraph, made when a stage first needs them. Thread-safe.
class BodyCache {
 public:
  explicit BodyCache(const CompileOptions& options) : options_(options) {}

  // Constants of `outer` that the subgraph captures become constants of its program, other captured values inputs.
  absl::StatusOr<std::shared_ptr<const Body>> GetOrMake(const std::shared_ptr<const graph::Graph>& subgraph,
                                                        const graph::Graph& outer);
  // True when the programs of all subgraphs of `node` are made.
  bool HasAllOf(const graph::Node& node) const;
  // Also for programs that are made later.
  void ReleaseInitializers();
  void AddMemory(MemoryReport* report) const;

 private:
  struct Entry {
    std::shared_ptr<const graph::Graph> subgraph;  // keeps the key alive
    std::shared_ptr<const Body> body;
  };
  std::vector<std::shared_ptr<const Body>> All() const;  // no lock is held while a body's program is called

  const CompileOptions options_;
  mutable absl::Mutex mutex_;
  std::map<const graph::Graph*, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
};

// Runs one body on varying shapes; keeps the contexts of the last few. Thread-compatible.
class BodyRunner {
 public:
  BodyRunner(const DynamicStep::Use& use, int threads, RunPool* pool) : use_(use), threads_(threads), pool_(pool) {}
  ~BodyRunner();
  BodyRunner(BodyRunner&&) = default;

  // `formal`: the body's own inputs; `captured` as Use::captured.
  absl::StatusOr<std::vector<Tensor>> Run(absl::Span<const Tensor> formal, absl::Span<const Tensor> captured);
  const Body& body() const { return *use_.body; }

 private:
  struct Entry {
    std::vector<Shape> shapes;
    int64_t bytes = 0;
    std::unique_ptr<Context> context;
  };
  void DropLast();
  absl::StatusOr<Context*> ContextFor(absl::Span<const Tensor> formal, absl::Span<const Tensor> captured);

  const DynamicStep::Use& use_;
  int threads_;
  RunPool* pool_;
  std::list<Entry> contexts_;  // most recently used first
};

// Results of an If, Loop or Scan. `operands` per input (not valid() where omitted), `captured` and `runners` per body
// of the step. Errors: kInvalidArgument, kResourceExhausted, and those of the bodies.
absl::StatusOr<std::vector<Tensor>> RunControlFlow(const graph::Node& node, absl::Span<const Tensor> operands,
                                                   absl::Span<const std::vector<Tensor>> captured,
                                                   absl::Span<BodyRunner> runners, RunPool* pool);

}  // namespace octet::engine

#endif  // OCTET_ENGINE_CONTROL_FLOW_H_
