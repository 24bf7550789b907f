// Counters of microjoules that wrap around.
#include "base/energy.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace octet {
namespace {

// -1 when the file cannot be read.
int64_t ReadCounter(const std::string& file) {
  std::ifstream in(file);
  int64_t value = -1;
  return in >> value ? value : -1;
}

// "intel-rapl:0" is a package; "intel-rapl:0:0" is a part of it and counted there.
bool IsPackage(const std::string& name) {
  return name.rfind("intel-rapl:", 0) == 0 && std::count(name.begin(), name.end(), ':') == 1;
}

}  // namespace

EnergyMeter::EnergyMeter(const std::string& root) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
    if (!IsPackage(entry.path().filename().string())) continue;
    Domain domain;
    domain.file = (entry.path() / "energy_uj").string();
    domain.last_uj = ReadCounter(domain.file);
    domain.range_uj = ReadCounter((entry.path() / "max_energy_range_uj").string());
    if (domain.last_uj >= 0) domains_.push_back(std::move(domain));
  }
}

std::optional<double> EnergyMeter::Joules() {
  if (domains_.empty()) return std::nullopt;
  for (Domain& domain : domains_) {
    const int64_t now = ReadCounter(domain.file);
    if (now < 0) return std::nullopt;
    int64_t used = now - domain.last_uj;
    if (used < 0) used += std::max<int64_t>(domain.range_uj, 0);
    joules_ += static_cast<double>(std::max<int64_t>(used, 0)) / 1e6;
    domain.last_uj = now;
  }
  return joules_;
}

}  // namespace octet
