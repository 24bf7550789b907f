// Head and tables of HTML reports.
#include "cli/html.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/plot.h"

namespace octet::cli {
namespace {

constexpr char kHead[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>%s</title>\n"
    "<style>body{font:15px/1.45 sans-serif;margin:0 auto;max-width:1100px;padding:16px;background:#fff;color:#222}"
    "table{border-collapse:collapse;margin:12px 0;display:block;overflow-x:auto}th,td{padding:4px 8px;text-align:right;"
    "border-bottom:1px solid #ddd;white-space:nowrap}th:first-child,td:first-child{text-align:left}thead th{border-bottom:"
    "2px solid #888;vertical-align:bottom;white-space:normal}caption{text-align:left;font-weight:bold;padding:4px 0}.pick{border-left:5px solid "
    "#0072b2;padding:6px 14px;background:#eef5fa}.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));"
    "gap:8px}svg{width:100%%;height:auto}.note{color:#555}@media(prefers-color-scheme:dark){body{background:#181a1d;"
    "color:#ddd}th,td{border-color:#3a3d42}.pick{background:#1d2b36;border-color:#56b4e9}.note{color:#aaa}}</style></head>"
    "<body><main>\n";

}  // namespace

std::string HtmlHead(absl::string_view title) { return absl::StrFormat(kHead, EscapeMarkup(title)); }

std::string HtmlTable(const std::string& caption, const std::vector<std::string>& head,
                      const std::vector<std::vector<std::string>>& rows) {
  std::string html = absl::StrCat("<table><caption>", EscapeMarkup(caption), "</caption><thead><tr>");
  for (const std::string& cell : head) absl::StrAppend(&html, "<th scope=\"col\">", EscapeMarkup(cell), "</th>");
  html += "</tr></thead><tbody>\n";
  for (const auto& row : rows) {
    html += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&html, i == 0 ? "<th scope=\"row\">" : "<td>", EscapeMarkup(row[i]), i == 0 ? "</th>" : "</td>");
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table>\n";
}

}  // namespace octet::cli
