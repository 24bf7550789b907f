// Ends the threads of the calling thread's OpenMP team; a later parallel region starts them again.
//
// For threads that compute now and then: as soon as all teams of the process have more threads than there are CPUs, libgomp
// lets every team's threads sleep between two regions instead of waiting awake, and each region then costs a wake-up.
#ifndef OCTET_BASE_RELEASE_TEAM_H_
#define OCTET_BASE_RELEASE_TEAM_H_

namespace octet {

// Requires: no parallel region is open on the calling thread.
void ReleaseTeam();

}  // namespace octet

#endif  // OCTET_BASE_RELEASE_TEAM_H_
