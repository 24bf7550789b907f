// What a loaded variant takes and gives, and the check of a request against it.
#ifndef OCTET_SERVER_SIGNATURE_H_
#define OCTET_SERVER_SIGNATURE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/shape.h"
#include "engine/program.h"
#include "server/request.h"

namespace octet::server {

struct ModelSignature {
  std::vector<engine::Signature> inputs;
  std::vector<engine::Signature> outputs;
  bool batchable = false;  // axis 0 of every input and output counts rows that do not mix
  int64_t max_batch = 1;   // most rows of one request and of one merged batch; 1 when not batchable
  // The last `extra_outputs` of outputs are no outputs of the model but an ensemble's words on them (graph/ensemble.h): they
  // are returned only when named.
  size_t extra_outputs = 0;

  size_t own_outputs() const { return outputs.size() - extra_outputs; }
};

// A request that fits its model. Move-only.
struct BoundRequest {
  InferRequest request;
  std::vector<int> inputs;    // per model input: index into request.inputs
  std::vector<int> outputs;   // indices of the model's outputs to return, in the order requested
  std::vector<Shape> shapes;  // per model input; axis 0 is kUnknownDim when batchable: equal shapes
                              // may share a batch
  int64_t rows = 1;
};

// Errors: kInvalidArgument naming the input or output, what the model expects and what the request
// has.
absl::StatusOr<BoundRequest> Bind(InferRequest request, const ModelSignature& signature);

// The shapes of a batch of `rows` rows.
std::vector<Shape> ShapesOfBatch(const std::vector<Shape>& shapes, bool batchable, int64_t rows);

// The smallest batch size that programs are specialised for and that holds `rows`: a power of two,
// at most max_batch.
int64_t BucketFor(int64_t rows, int64_t max_batch);

}  // namespace octet::server

#endif  // OCTET_SERVER_SIGNATURE_H_
