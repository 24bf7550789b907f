// The table of lowering rules.
#include "engine/lower.h"

namespace octet::engine {
namespace {

const LowerTable& Table() {
  static const LowerTable* const table = [] {
    auto* made = new LowerTable;
    AddProductRules(made);
    AddElementwiseRules(made);
    AddMovementRules(made);
    AddTransformerRules(made);
    AddIndexingRules(made);
    AddEinsumRule(made);
    AddSamplingRules(made);
    AddSignalRules(made);
    AddPlainRules(made);
    AddNormalizeRules(made);
    AddDeconvRule(made);
    AddRecurrentRules(made);
    return made;
  }();
  return *table;
}

}  // namespace

LowerFn FindLowering(absl::string_view domain, absl::string_view op) {
  if (!domain.empty()) return nullptr;
  const auto& rules = Table().rules();
  const auto it = rules.find(std::string(op));
  return it == rules.end() ? nullptr : it->second;
}

std::vector<std::string> OperatorsWithLowering() {
  std::vector<std::string> ops;
  for (const auto& [op, rule] : Table().rules()) ops.push_back(op);
  return ops;
}

}  // namespace octet::engine
