// By OpenMP 5.0. GCC's libgomp, which we build with, ends the threads of the caller's pool; other runtimes may keep them.
#include "base/release_team.h"

#include <omp.h>

namespace octet {

// It fails inside a parallel region only.
void ReleaseTeam() { (void)omp_pause_resource(omp_pause_soft, omp_get_initial_device()); }

}  // namespace octet
