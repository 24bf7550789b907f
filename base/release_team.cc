// OpenMP's own way.
#include "base/release_team.h"

#include <omp.h>

namespace octet {

void ReleaseTeam() { (void)omp_pause_resource(omp_pause_soft, omp_get_initial_device()); }

}  // namespace octet
