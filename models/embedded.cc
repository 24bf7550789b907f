// Views of the linked-in files.
#include "models/embedded.h"

extern "C" const char octet_fashion_mnist_begin[];
extern "C" const char octet_fashion_mnist_end[];
extern "C" const char octet_fashion_mnist_wide_begin[];
extern "C" const char octet_fashion_mnist_wide_end[];

namespace octet::models {

absl::string_view FashionMnist() {
  return {octet_fashion_mnist_begin, static_cast<size_t>(octet_fashion_mnist_end - octet_fashion_mnist_begin)};
}

absl::string_view FashionMnistWide() {
  return {octet_fashion_mnist_wide_begin,
          static_cast<size_t>(octet_fashion_mnist_wide_end - octet_fashion_mnist_wide_begin)};
}

}  // namespace octet::models
