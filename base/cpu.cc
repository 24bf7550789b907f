// CPU features, CPU budget and memory limits, read from the kernel.
#include "base/cpu.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace octet {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream in(path);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

bool ReadNumber(const std::string& path, int64_t* value) {
  return absl::SimpleAtoi(absl::StripAsciiWhitespace(ReadText(path)), value);
}

// The path of this process in a cgroup hierarchy: v2 when `controller` is empty. "" when not listed.
std::string CgroupPath(const std::string& self, absl::string_view controller) {
  for (absl::string_view line : absl::StrSplit(self, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    if (controller.empty() ? (fields[0] == "0" && fields[1].empty())
                           : absl::c_linear_search(
                                 std::vector<absl::string_view>(absl::StrSplit(fields[1], ',')),
                                 controller)) {
      return std::string(fields[2]);
    }
  }
  return "";
}

// A limit can be set on any ancestor, and inside a container only the root of the hierarchy may be visible: visits
// the group itself, its parents and the root.
template <typename F>
void VisitGroups(const std::string& root, std::string path, F visit) {
  while (true) {
    visit(path == "/" ? root : root + path);
    if (path.empty() || path == "/") return;
    const size_t slash = path.rfind('/');
    path = slash == std::string::npos || slash == 0 ? "/" : path.substr(0, slash);
  }
}

double SmallestQuotaV2(const std::string& root, const std::string& path) {
  double best = 0;
  VisitGroups(root, path, [&](const std::string& group) {
    const std::string text = ReadText(group + "/cpu.max");
    const std::vector<absl::string_view> fields =
        absl::StrSplit(absl::StripAsciiWhitespace(text), ' ');
    double quota = 0, period = 0;
    if (fields.size() == 2 && absl::SimpleAtod(fields[0], &quota) &&
        absl::SimpleAtod(fields[1], &period) && quota > 0 && period > 0) {
      best = best == 0 ? quota / period : std::min(best, quota / period);
    }
  });
  return best;
}

double SmallestQuotaV1(const std::string& root, const std::string& path) {
  double best = 0;
  VisitGroups(root, path, [&](const std::string& group) {
    int64_t quota = 0, period = 0;
    if (ReadNumber(group + "/cpu.cfs_quota_us", &quota) &&
        ReadNumber(group + "/cpu.cfs_period_us", &period) && quota > 0 && period > 0) {
      const double cpus = static_cast<double>(quota) / static_cast<double>(period);
      best = best == 0 ? cpus : std::min(best, cpus);
    }
  });
  return best;
}

bool HasFlag(const std::string& flags, absl::string_view flag) {
  return absl::StrContains(absl::StrCat(" ", flags, " "), absl::StrCat(" ", flag, " "));
}

}  // namespace

CpuFeatures DetectCpuFeatures() {
  CpuFeatures features;
  std::string flags;
  for (absl::string_view line : absl::StrSplit(ReadText("/proc/cpuinfo"), '\n')) {
    const std::pair<absl::string_view, absl::string_view> kv =
        absl::StrSplit(line, absl::MaxSplits(':', 1));
    const absl::string_view key = absl::StripAsciiWhitespace(kv.first);
    const absl::string_view value = absl::StripAsciiWhitespace(kv.second);
    if (key == "model name" && features.model_name.empty()) features.model_name = std::string(value);
    if (key == "flags" && flags.empty()) flags = std::string(value);
  }
  const bool avx512 = HasFlag(flags, "avx512f") && HasFlag(flags, "avx512bw") &&
                      HasFlag(flags, "avx512vl") && HasFlag(flags, "avx512dq");
  const bool avx512_vnni = avx512 && HasFlag(flags, "avx512_vnni");
  features.vnni = avx512_vnni || HasFlag(flags, "avx_vnni");
  features.isa = avx512_vnni && HasFlag(flags, "amx_int8") ? "amx_int8"
                 : avx512_vnni                             ? "avx512_vnni"
                 : avx512                                  ? "avx512"
                 : HasFlag(flags, "avx2")                  ? "avx2"
                                                           : "sse2";
  return features;
}

CpuBudget BudgetFrom(std::vector<int> affinity, double quota_cpus) {
  CpuBudget budget;
  const int available = std::max<int>(1, static_cast<int>(affinity.size()));
  budget.cpus = std::move(affinity);
  // A quota of 1.5 keeps one thread always busy; a second one would be stopped half of the time and stall its team.
  const int by_quota =
      quota_cpus > 0 ? std::max(1, static_cast<int>(std::floor(quota_cpus + 1e-9))) : available;
  budget.threads = std::min(available, by_quota);
  budget.reason = quota_cpus > 0 && by_quota < available
                      ? absl::StrCat("cgroup quota ", quota_cpus, " of ", available, " CPUs")
                      : absl::StrCat(available, " CPUs in the affinity mask");
  return budget;
}

double CgroupCpuQuota(const std::string& root, const std::string& self) {
  const double v2 = SmallestQuotaV2(root, CgroupPath(self, ""));
  const double v2_hybrid = SmallestQuotaV2(root + "/unified", CgroupPath(self, ""));
  double best = v2;
  for (const std::string& mount : {root + "/cpu", root + "/cpu,cpuacct"}) {
    const double v1 = SmallestQuotaV1(mount, CgroupPath(self, "cpu"));
    if (v1 > 0) best = best == 0 ? v1 : std::min(best, v1);
  }
  if (v2_hybrid > 0) best = best == 0 ? v2_hybrid : std::min(best, v2_hybrid);
  return best;
}

CpuBudget DetectCpuBudget() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &set)) cpus.push_back(i);
    }
  }
  return BudgetFrom(std::move(cpus), CgroupCpuQuota("/sys/fs/cgroup", ReadText("/proc/self/cgroup")));
}

int64_t MemoryLimitBytes() {
  int64_t limit = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  const std::string self = ReadText("/proc/self/cgroup");
  auto lower = [&](const std::string& file) {
    int64_t value = 0;
    if (ReadNumber(file, &value) && value > 0) limit = std::min(limit, value);
  };
  VisitGroups("/sys/fs/cgroup", CgroupPath(self, ""),
              [&](const std::string& group) { lower(group + "/memory.max"); });
  VisitGroups("/sys/fs/cgroup/memory", CgroupPath(self, "memory"),
              [&](const std::string& group) { lower(group + "/memory.limit_in_bytes"); });
  return limit;
}

int64_t ResidentBytes() {
  int64_t total = 0, resident = 0;
  const std::string text = ReadText("/proc/self/statm");
  std::istringstream(text) >> total >> resident;
  return resident * sysconf(_SC_PAGE_SIZE);
}

int64_t PeakResidentBytes() {
  const std::string text = ReadText("/proc/self/status");
  const size_t at = text.find("VmHWM:");
  int64_t kilobytes = 0;
  if (at != std::string::npos) std::istringstream(text.substr(at + 6)) >> kilobytes;
  return kilobytes << 10;
}

bool ResetPeakResident() {
  constexpr int64_t kSlack = 4 << 20;  // pages that this call itself touches
  std::ofstream out("/proc/self/clear_refs");
  out << "5" << std::flush;
  return out.good() && PeakResidentBytes() - ResidentBytes() < kSlack;
}

int64_t ResidentFileBytes() {
  int64_t total = 0, resident = 0, shared = 0;
  const std::string text = ReadText("/proc/self/statm");
  std::istringstream(text) >> total >> resident >> shared;
  return shared * sysconf(_SC_PAGE_SIZE);
}

}  // namespace octet
