// Models that are part of the program: `octet demo` needs no file.
#ifndef OCTET_MODELS_EMBEDDED_H_
#define OCTET_MODELS_EMBEDDED_H_

#include "absl/strings/string_view.h"

namespace octet::models {

// The ONNX file of the Fashion-MNIST classifier (models/fashion-mnist/README.md): input "image" f32 [N, 1, 28, 28] in
// [0, 1], output "logits" f32 [N, 10]. Lives as long as the program.
absl::string_view FashionMnist();

// The same of a wider network for the same task, weights stored as f16 (models/fashion-mnist-wide/README.md).
absl::string_view FashionMnistWide();

}  // namespace octet::models

#endif  // OCTET_MODELS_EMBEDDED_H_
