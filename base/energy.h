// Energy that the machine's CPU packages have used, where it tells (RAPL through /sys/class/powercap).
#ifndef OCTET_BASE_ENERGY_H_
#define OCTET_BASE_ENERGY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace octet {

// A meter that counts from its creation. Packages count everything that runs on them, idle included. Thread-compatible;
// a counter that wraps around more than once between two calls of Joules() is counted short (about an hour at full
// load).
class EnergyMeter {
 public:
  // Reads the package domains ("intel-rapl:N") below `root`; none where the kernel has no powercap, or the files are
  // readable by root only.
  explicit EnergyMeter(const std::string& root = "/sys/class/powercap");

  // Joules since the creation, summed over packages; nullopt where the machine does not tell.
  std::optional<double> Joules();

 private:
  struct Domain {
    std::string file;
    int64_t last_uj = 0, range_uj = 0;
  };
  std::vector<Domain> domains_;
  double joules_ = 0;
};

}  // namespace octet

#endif  // OCTET_BASE_ENERGY_H_
