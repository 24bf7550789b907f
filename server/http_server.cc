// civetweb behind one class.
#include "server/http_server.h"

#include <civetweb.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace octet::server {
namespace {

absl::string_view ReasonPhrase(int code) {
  switch (code) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

int Silent(const mg_connection*, const char*) { return 1; }

}  // namespace

int HttpServer::OnRequest(mg_connection* connection) {
  const mg_request_info* info = mg_get_request_info(connection);
  const auto* self = static_cast<const HttpServer*>(info->user_data);
  const absl::string_view method = info->request_method == nullptr ? "" : info->request_method;
  const absl::string_view path = info->local_uri == nullptr ? "" : info->local_uri;
  HttpResponse response;
  if (method == "GET" || method == "HEAD") {
    response = self->handler_(path);
  } else {
    response = {405, "text/plain; charset=utf-8", "only GET and HEAD are served here\n"};
  }
  std::string out = absl::StrCat("HTTP/1.1 ", response.code, " ", ReasonPhrase(response.code),
                                 "\r\nContent-Type: ", response.content_type,
                                 "\r\nContent-Length: ", response.body.size(),
                                 "\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
  if (method != "HEAD") out += response.body;
  mg_write(connection, out.data(), out.size());
  return 1;
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address, int port,
                                                              HttpHandler handler) {
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(handler)));
  mg_init_library(0);
  const std::string listen = absl::StrCat(address, ":", port);
  const char* options[] = {"listening_ports",     listen.c_str(), "num_threads", "2", "request_timeout_ms", "5000",
                           "enable_keep_alive", "no",           nullptr};
  mg_callbacks callbacks{};
  callbacks.begin_request = &HttpServer::OnRequest;
  callbacks.log_message = &Silent;
  server->context_ = mg_start(&callbacks, server.get(), options);
  if (server->context_ == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot listen for HTTP on ", listen, ": is the port taken?"));
  }
  mg_server_port bound{};
  if (mg_get_server_ports(server->context_, 1, &bound) == 1) server->port_ = bound.port;
  return server;
}

HttpServer::~HttpServer() {
  if (context_ != nullptr) mg_stop(context_);
  mg_exit_library();
}

}  // namespace octet::server
