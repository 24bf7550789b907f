// The web page: files that are linked into the program.
#ifndef OCTET_SERVER_WEB_WEB_PAGE_H_
#define OCTET_SERVER_WEB_WEB_PAGE_H_

#include <optional>

#include "absl/strings/string_view.h"
#include "server/http_server.h"

namespace octet::server {

// The answer for "/" and for what the page loads (page.css, view.js, page.js, chart.js); nullopt for any other path.
// The page reads its figures from /api/v1/variants and nothing from elsewhere, which its Content-Security-Policy
// enforces.
std::optional<HttpResponse> WebPage(absl::string_view path);

}  // namespace octet::server

#endif  // OCTET_SERVER_WEB_WEB_PAGE_H_
