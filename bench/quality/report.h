// Results of bench_quality as JSON, as a table for people, and as Markdown.
#ifndef OCTET_BENCH_QUALITY_REPORT_H_
#define OCTET_BENCH_QUALITY_REPORT_H_

#include <string>
#include <vector>

namespace octet::bench {

// One network, scheme and metric; or, with `error`, one network and scheme that failed.
struct Row {
  std::string network, scheme, metric;
  double reference = 0;   // of the float network
  double compressed = 0;
  double file_ratio = 0;  // bytes of the compressed file / bytes of the float file
  std::string note;       // "entropy-all": which of several settings this is
  std::string error;
};

// {"rows": [{"network", "scheme", "metric", "float", "compressed", "file_ratio", "note"} or
//           {"network", "scheme", "error"}]}
std::string RowsJson(const std::vector<Row>& rows);

// One line per network and metric, one column per scheme in the order of first appearance, and per network a line of
// file ratios. A scheme that failed shows as "failed", one that was not run as "-".
std::string RowsMarkdown(const std::vector<Row>& rows);

// One line, as a measurement comes in.
std::string RowLine(const Row& row);

}  // namespace octet::bench

#endif  // OCTET_BENCH_QUALITY_REPORT_H_
