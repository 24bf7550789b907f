// The frame of our HTML reports: one self-contained page, light or dark as the reader's system is.
#ifndef OCTET_CLI_HTML_H_
#define OCTET_CLI_HTML_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace octet::cli {

// Everything up to and with <main>; end with kHtmlEnd. Text is escaped.
std::string HtmlHead(absl::string_view title);
inline constexpr char kHtmlEnd[] = "</main></body></html>\n";

// A table whose first column names its rows.
std::string HtmlTable(const std::string& caption, const std::vector<std::string>& head,
                      const std::vector<std::vector<std::string>>& rows);

}  // namespace octet::cli

#endif  // OCTET_CLI_HTML_H_
