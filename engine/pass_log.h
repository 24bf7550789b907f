// What the passes did to a network and why they left the rest: the text of `octet inspect --passes`.
#ifndef OCTET_ENGINE_PASS_LOG_H_
#define OCTET_ENGINE_PASS_LOG_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace octet::engine {

struct PassNote {
  enum class Kind : uint8_t {
    kFired,    // `node` was rewritten or fused
    kRefused,  // nearly: `text` is the reason
  };
  Kind kind = Kind::kFired;
  std::string pass;  // "gelu", "fold-affine", "fuse-residual", ...
  std::string node;  // "Mul 'Mul_12'"
  std::string text;  // "became Gelu", "the constant is 1.702, expected 1.41421"
};

// Bounded: of a pass that says the same of thousands of nodes the first kMaxNotes are kept, and all are counted.
// Thread-compatible. A null PassLog* is allowed wherever passes take one.
class PassLog {
 public:
  static constexpr size_t kMaxNotes = 10000;

  void Fired(absl::string_view pass, std::string node, std::string text) {
    Add({PassNote::Kind::kFired, std::string(pass), std::move(node), std::move(text)});
  }
  void Refused(absl::string_view pass, std::string node, std::string text) {
    Add({PassNote::Kind::kRefused, std::string(pass), std::move(node), std::move(text)});
  }

  const std::vector<PassNote>& notes() const { return notes_; }
  // Of all that was noted, kept or not.
  int64_t CountFired(absl::string_view pass) const {
    const auto it = fired_.find(std::string(pass));
    return it == fired_.end() ? 0 : it->second;
  }

 private:
  void Add(PassNote note) {
    if (note.kind == PassNote::Kind::kFired) ++fired_[note.pass];
    if (notes_.size() < kMaxNotes) notes_.push_back(std::move(note));
  }

  std::vector<PassNote> notes_;
  std::map<std::string, int64_t> fired_;
};

}  // namespace octet::engine

#endif  // OCTET_ENGINE_PASS_LOG_H_
