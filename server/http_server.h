// A small HTTP server for health, metrics and the web page: GET and HEAD, one handler, on its own threads.
#ifndef OCTET_SERVER_HTTP_SERVER_H_
#define OCTET_SERVER_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct mg_connection;
struct mg_context;

namespace octet::server {

struct HttpResponse {
  int code = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers = {};  // further ones
};
using HttpHandler = std::function<HttpResponse(absl::string_view path)>;

// Thread-safe; the handler is called concurrently.
class HttpServer {
 public:
  // Port 0: the system chooses. Errors: kUnavailable when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address, int port,
                                                           HttpHandler handler);
  ~HttpServer();  // waits for requests under way

  int port() const { return port_; }

 private:
  explicit HttpServer(HttpHandler handler) : handler_(std::move(handler)) {}
  static int OnRequest(mg_connection* connection);

  const HttpHandler handler_;
  mg_context* context_ = nullptr;  // owned
  int port_ = 0;
};

}  // namespace octet::server

#endif  // OCTET_SERVER_HTTP_SERVER_H_
