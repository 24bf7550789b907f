// Paths, types and bytes of the page's files.
#include "server/web/web_page.h"

#include <string>

extern "C" {
extern const char octet_web_index_begin[], octet_web_index_end[];
extern const char octet_web_style_begin[], octet_web_style_end[];
extern const char octet_web_view_begin[], octet_web_view_end[];
extern const char octet_web_page_begin[], octet_web_page_end[];
extern const char octet_web_chart_begin[], octet_web_chart_end[];
}

namespace octet::server {
namespace {

struct File {
  const char *path, *content_type, *begin, *end;
};

// Data images: the empty icon, which spares a request.
constexpr char kPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri "
    "'none'; "
    "form-action 'none'; frame-ancestors 'none'";

}  // namespace

std::optional<HttpResponse> WebPage(absl::string_view path) {
  static const File files[] = {
      {"/", "text/html; charset=utf-8", octet_web_index_begin, octet_web_index_end},
      {"/page.css", "text/css; charset=utf-8", octet_web_style_begin, octet_web_style_end},
      {"/view.js", "text/javascript; charset=utf-8", octet_web_view_begin, octet_web_view_end},
      {"/page.js", "text/javascript; charset=utf-8", octet_web_page_begin, octet_web_page_end},
      {"/chart.js", "text/javascript; charset=utf-8", octet_web_chart_begin, octet_web_chart_end},
  };
  for (const File& file : files) {
    if (path != file.path) continue;
    HttpResponse response{200, file.content_type, std::string(file.begin, file.end)};
    response.headers = {{"Content-Security-Policy", kPolicy}, {"X-Content-Type-Options", "nosniff"}};
    return response;
  }
  return std::nullopt;
}

}  // namespace octet::server
