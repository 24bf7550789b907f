// A picture of what a search tried: size against fidelity, as SVG.
#ifndef OCTET_CLI_PARETO_H_
#define OCTET_CLI_PARETO_H_

#include <string>

#include "compress/search.h"

namespace octet::cli {

// Points at (bytes, SQNR of output 0), labelled with name and latency; those that no other beats in both are joined by a
// line, the chosen one is marked. Colours follow the reader's light or dark scheme.
std::string ParetoSvg(const compress::SearchResult& result, const std::string& title);

}  // namespace octet::cli

#endif  // OCTET_CLI_PARETO_H_
