// What this process may use of the machine: instruction set, CPUs (affinity and cgroup quota), memory, and its own
// resident size.
#ifndef OCTET_BASE_CPU_H_
#define OCTET_BASE_CPU_H_

#include <cstdint>
#include <string>
#include <vector>

namespace octet {

struct CpuFeatures {
  std::string model_name;  // as /proc/cpuinfo has it
  std::string isa;         // best of "amx_int8", "avx512_vnni", "avx512", "avx2", "sse2"
  bool vnni = false;       // u8 x s8 dot products without s16 saturation (AVX512-VNNI, AVX-VNNI or AMX)
};
CpuFeatures DetectCpuFeatures();

// CPUs that this process can keep busy: affinity mask, further limited by cgroup v1 or v2 quota, at least 1.
struct CpuBudget {
  int threads = 1;
  std::vector<int> cpus;  // the affinity mask
  std::string reason;     // "2 CPUs in the affinity mask" or "cgroup quota 1.5 of 2 CPUs"
};
CpuBudget DetectCpuBudget();

// The same decision as a pure function. quota_cpus <= 0 means no quota.
CpuBudget BudgetFrom(std::vector<int> affinity, double quota_cpus);

// Quota in CPUs from the cgroup files below `root` (normally "/sys/fs/cgroup"; `self` is /proc/self/cgroup's content);
// 0 when there is none.
double CgroupCpuQuota(const std::string& root, const std::string& self);

// Memory limit of the cgroup in bytes, or of the machine when there is none.
int64_t MemoryLimitBytes();

// Resident size of this process (VmRSS), in bytes; 0 when /proc cannot be read.
int64_t ResidentBytes();

// Largest resident size so far (VmHWM), in bytes; 0 when /proc cannot be read. ResetPeak makes it start again from now;
// false where the system does not allow that (proc(5), clear_refs).
int64_t PeakResidentBytes();
bool ResetPeakResident();

// The part of ResidentBytes() that is mapped from files: code and constants of the program and its libraries. It grows
// with the code that has run, not with what is loaded, and the system can take it back.
int64_t ResidentFileBytes();

}  // namespace octet

#endif  // OCTET_BASE_CPU_H_
