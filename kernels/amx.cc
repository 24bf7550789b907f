// Asking CPU and system for AMX.
#include "kernels/amx.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/onednn.h"
#endif

namespace octet::kernels {
namespace {

bool AskSystemForTiles() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // arch_prctl(2), Linux 5.16
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;                          // edx
  constexpr unsigned kAvx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;               // ebx: F, DQ, BW, VL
  if ((edx & kAmxTile) == 0 || (edx & kAmxInt8) == 0 || (ebx & kAvx512) != kAvx512) return false;
  if (dnnl::get_effective_cpu_isa() < dnnl::cpu_isa::avx512_core_amx) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

bool AmxInt8Available() {
  static const bool available = AskSystemForTiles();
  return available;
}

int64_t AmxStep(int64_t depth) {
  for (const int64_t step : {64, 32, 16}) {
    if (depth % step == 0) return step;
  }
  return 0;
}

AmxTileConfig::AmxTileConfig(int64_t source_rows, int64_t step) {
  for (int t = 0; t < 8; ++t) {
    bytes_per_row[t] = t == 4 || t == 5 ? static_cast<uint16_t>(step) : uint16_t{64};
    rows[t] = t >= 6 ? static_cast<uint8_t>(step / 4) : static_cast<uint8_t>(source_rows);
  }
}

}  // namespace octet::kernels
