// Views of the linked-in files.
#include "models/embedded.h"

extern "C" const char octet_fashion_mnist_begin[];
extern "C" const char octet_fashion_mnist_end[];
extern "C" const char octet_fashion_mnist_wide_begin[];
extern "C" const char octet_fashion_mnist_wide_end[];

namespace octet::models {
namespace {

absl::string_view Between(const char* begin, const char* end) { return {begin, static_cast<size_t>(end - begin)}; }

}  // namespace

absl::string_view FashionMnist() { return Between(octet_fashion_mnist_begin, octet_fashion_mnist_end); }
absl::string_view FashionMnistWide() {
  return Between(octet_fashion_mnist_wide_begin, octet_fashion_mnist_wide_end);
}

}  // namespace octet::models
