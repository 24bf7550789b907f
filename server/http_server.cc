// civetweb behind one class.
#include "server/http_server.h"

#include <arpa/inet.h>
#include <civetweb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>
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

// Connects and closes. On an address that loopback does not reach this does nothing, and stopping
// takes its 2 s.
void Knock(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  (void)connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  close(fd);
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
                                 "\r\nCache-Control: no-store\r\nConnection: close\r\n");
  for (const auto& [name, value] : response.headers) absl::StrAppend(&out, name, ": ", value, "\r\n");
  out += "\r\n";
  if (method != "HEAD") out += response.body;
  mg_write(connection, out.data(), out.size());
  return 1;
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address, int port,
                                                              HttpHandler handler) {
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(handler)));
  mg_init_library(0);
  const std::string listen = absl::StrCat(address, ":", port);
  const char* options[] = {
      "listening_ports",   listen.c_str(), "num_threads", "2", "request_timeout_ms", "5000",
      "enable_keep_alive", "no",           nullptr};
  mg_callbacks callbacks{};
  callbacks.begin_request = &HttpServer::OnRequest;
  callbacks.log_message = &Silent;
  server->context_ = mg_start(&callbacks, server.get(), options);
  if (server->context_ == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen for HTTP on ", listen, ": is the port taken?"));
  }
  mg_server_port bound{};
  if (mg_get_server_ports(server->context_, 1, &bound) == 1) server->port_ = bound.port;
  return server;
}

HttpServer::~HttpServer() {
  if (context_ != nullptr) {
    // civetweb looks at its stop flag every 2 s unless a connection wakes it.
    std::atomic<bool> stopped{false};
    std::thread stopper([&] {
      mg_stop(context_);
      stopped = true;
    });
    while (!stopped) {
      Knock(port_);
      poll(nullptr, 0, 5);
    }
    stopper.join();
  }
  mg_exit_library();
}

}  // namespace octet::server
