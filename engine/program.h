// A network made ready to run: program -> specialisation -> context (ARCHITECTURE.md, glossary).
//
//   Program         graph after the shape-independent passes, packed weights; immutable but for its caches
//   Specialisation  program x concrete input shapes x team size: kernels and memory plan; immutable, cached
//   Context         one specialisation bound to an arena of its own; runs one inference at a time
#ifndef OCTET_ENGINE_PROGRAM_H_
#define OCTET_ENGINE_PROGRAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "base/shape.h"
#include "engine/pass_log.h"
#include "graph/batching.h"
#include "graph/graph.h"

namespace octet::engine {

// One input or output of a program as callers see it.
struct Signature {
  std::string name;
  DType dtype = DType::kInvalid;
  Shape shape;  // kUnknownDim where free; axis 0 is free when the program is batchable
};

struct CompileOptions {
  int max_specialisations = 32;                          // least recently used goes first
  int64_t max_specialisation_bytes = int64_t{2} << 30;   // arenas and code estimates of cached specialisations
};

// Bytes by kind, as design and metrics name them.
struct MemoryReport {
  int64_t weights = 0;      // packed, with bias, scales, compensation
  int64_t activations = 0;  // arenas of all living contexts
  int64_t scratchpad = 0;
  int64_t code = 0;         // estimate of JIT code
  int64_t metadata = 0;     // graph, plans
};

// The cache of specialisations: how full it is, its bounds, and what it has cost since Compile.
struct CacheReport {
  int64_t specialisations = 0;  // kept
  int64_t max_specialisations = 0;
  int64_t bytes = 0;            // of their arenas and code
  int64_t max_bytes = 0;
  int64_t made = 0, evicted = 0;
};

// One step of a specialisation, for `octet inspect` and tests.
struct StepInfo {
  std::string node;                   // names of the nodes fused into this step, first to last, joined by "+"
  std::string op;                     // "Conv+Relu+Add"
  std::string src_types, dst_types;   // "u8[1,16,28,28]nhwc, ..." per operand
  std::string implementation;         // "onednn:brgconv:avx512_core_vnni"; "staged": runs between two plans
  std::vector<std::string> refusals;
  int64_t multiply_adds = 0;
  int64_t weights_bytes = 0;
};

class Specialisation;

// Thread-safe.
class Program {
 public:
  // Runs the shape-independent passes. Errors: kUnimplemented naming the node; kInvalidArgument.
  static absl::StatusOr<std::shared_ptr<Program>> Compile(graph::Graph graph,
                                                          const CompileOptions& options = {});
  virtual ~Program() = default;

  virtual const std::vector<Signature>& inputs() const = 0;
  virtual const std::vector<Signature>& outputs() const = 0;
  virtual const graph::BatchProof& batch_proof() const = 0;

  // The specialisation for these input shapes (one per input, concrete) and team size; made when not cached, by the
  // calling thread (whose team size is set to `threads`). Two callers asking for the same shapes make it once.
  // Errors: kInvalidArgument (shapes contradict the signature, naming the input), kUnimplemented, kResourceExhausted.
  virtual absl::StatusOr<std::shared_ptr<const Specialisation>> Specialise(
      absl::Span<const Shape> input_shapes, int threads) = 0;

  // Releases the raw initializers: everything that later specialisations need has been packed. Called after the first
  // (canonical) specialisation; later ones reuse its layouts.
  virtual void ReleaseInitializers() = 0;

  virtual MemoryReport Memory() const = 0;
  virtual CacheReport Cache() const = 0;

  // What the shape-independent passes did, and why they left the rest.
  virtual std::vector<PassNote> PassNotes() const { return {}; }

  // "<constant name> <layout> <bytes>" of every packed copy.
  virtual std::vector<std::string> PackedCopies() const = 0;
};

// Thread-safe: immutable. Keeps its program alive.
class Specialisation {
 public:
  virtual ~Specialisation() = default;
  virtual const std::vector<Shape>& input_shapes() const = 0;
  // kUnknownDim where data decides; of unknown rank one such dimension, or as many as the file declares.
  virtual const std::vector<Shape>& output_shapes() const = 0;
  virtual int threads() const = 0;
  virtual std::vector<StepInfo> Steps() const = 0;
  // What was fused for these shapes, and why other nodes were not.
  virtual std::vector<PassNote> FusionNotes() const { return {}; }
  virtual int64_t arena_bytes() const = 0;
  virtual int64_t arena_lower_bound_bytes() const = 0;  // largest sum of live values at any step
  virtual int64_t scratch_bytes() const = 0;
};

// Memory and bound kernels of one run. Thread-compatible: one user at a time; must be run on a thread whose team size
// (base/parallel_for.h) equals threads() of its specialisation; Run checks it.
class Context {
 public:
  static absl::StatusOr<std::unique_ptr<Context>> Create(
      std::shared_ptr<const Specialisation> specialisation);
  virtual ~Context() = default;

  // Where input i is to be written before Run (row-major, input_shapes()[i]): fixed for the life of the context; and
  // where output i is to be read after Run, with its concrete shape: fixed until the next Run (for the life of the
  // context when the specialisation's output shape is concrete). Reading an output is allowed until the next write to
  // an input or Run.
  virtual absl::Span<std::byte> input(int i) = 0;
  virtual absl::Span<const std::byte> output(int i) const = 0;
  virtual const Shape& output_shape(int i) const = 0;

  virtual absl::Status Run() = 0;

  // The same for work that gives way to other work: `go_on` is asked before each step and may wait. When it returns an
  // error the run ends with it, and outputs hold nothing. (Where steps are not known beforehand it is asked before each stage.)
  virtual absl::Status RunGivingWay(absl::FunctionRef<absl::Status()> go_on) = 0;

  // The same, adding the time of step i to seconds[i]. Requires: one entry per step.
  virtual absl::Status RunTimed(absl::Span<double> seconds) {
    return absl::UnimplementedError(absl::StrCat("steps are not timed here (", seconds.size(), " asked for)"));
  }

  virtual const Specialisation& specialisation() const = 0;
};

}  // namespace octet::engine

#endif  // OCTET_ENGINE_PROGRAM_H_
