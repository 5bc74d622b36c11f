#include "proxy/admin.h"

#include "base/log.h"
#include "net/socket.h"
#include "proxy/server.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <array>
#include <fstream>
#include <malloc.h>

#include <unistd.h>

namespace postern::proxy {

namespace {

using json = nlohmann::json;

enum class Method : unsigned char { kRead, kChange };

struct Page {
  const char* path;
  Method method;
  const char* help;
};

constexpr std::array kPages = {
    Page{"/certs", Method::kRead, "print certs on machine"},
    Page{"/clusters", Method::kRead, "upstream cluster status"},
    Page{"/config_dump", Method::kRead, "dump current configs"},
    Page{"/drain_listeners", Method::kChange, "drain listeners"},
    Page{"/healthcheck/fail", Method::kChange, "cause the server to fail health checks"},
    Page{"/healthcheck/ok", Method::kChange, "cause the server to pass health checks"},
    Page{"/help", Method::kRead, "print out list of admin commands"},
    Page{"/hot_restart_version", Method::kRead, "print the hot restart compatibility version"},
    Page{"/listeners", Method::kRead, "print listener info"},
    Page{"/logging", Method::kChange, "query/change logging levels"},
    Page{"/memory", Method::kRead, "print current allocation/heap usage"},
    Page{"/quitquitquit", Method::kChange, "exit the server"},
    Page{"/ready", Method::kRead, "print server state, return 200 if LIVE, otherwise 503"},
    Page{"/server_info", Method::kRead, "print server version/status information"},
    Page{"/stats", Method::kRead, "print server stats"},
    Page{"/stats/prometheus", Method::kRead, "print server stats in prometheus format"},
};

std::string helpText() {
  std::string out = "admin commands are:\n";
  for (const Page& each : kPages) {
    out += fmt::format("  {}{}: {}\n", each.path, each.method == Method::kChange ? " (POST)" : "",
                       each.help);
  }
  return out;
}

std::string indexPage() {
  std::string out =
      "<!DOCTYPE html><html><head><title>postern-proxy admin</title></head><body><table>\n";
  for (const Page& each : kPages) {
    out += each.method == Method::kChange
               ? fmt::format(
                     "<tr><td><form action='{0}' method='post'><button>{0}</button></form>"
                     "</td><td>{1}</td></tr>\n",
                     each.path + 1, each.help)
               : fmt::format("<tr><td><a href='{0}'>{0}</a></td><td>{1}</td></tr>\n", each.path + 1,
                             each.help);
  }
  return out + "</table></body></html>\n";
}

void answerMemory(http::Responder& responder) {
  const MemoryUse use = memoryUse();
  respondJson(responder, {{"allocated", std::to_string(use.allocated)},
                          {"heap_size", std::to_string(use.heap)},
                          {"pageheap_unmapped", "0"},
                          {"pageheap_free", "0"},
                          {"total_thread_cache", "0"},
                          {"total_physical_bytes", std::to_string(use.physical)}});
}

void answerDrain(Server& server, const http::Request& request, http::Responder& responder) {
  const auto has = [&](std::string_view name) {
    const std::string query = "&" + request.query + "&";
    return query.find(fmt::format("&{}&", name)) != std::string::npos ||
           query.find(fmt::format("&{}=", name)) != std::string::npos;
  };
  if (has("skip_exit") && !has("graceful")) {
    return respondText(responder, 400, "skip_exit requires graceful\n");
  }
  const auto only =
      has("inboundonly") ? TrafficDirection::kInbound : TrafficDirection::kUnspecified;
  if (has("graceful")) {
    server.drainConnections(only, has("skip_exit"));
  } else {
    server.drainListeners(Worker::Drain::kNo, only);
  }
  respondText(responder, 200, "OK\n");
}

}  // namespace

MemoryUse memoryUse() {
  MemoryUse out;
  const struct mallinfo2 info = ::mallinfo2();
  out.allocated = info.uordblks + info.hblkhd;
  out.heap = info.arena + info.hblkhd;
  std::ifstream statm("/proc/self/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  if (statm >> total >> resident)
    out.physical = resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return out;
}

void respondText(http::Responder& responder, int status, std::string body) {
  responder.respond(status,
                    {{"content-type", "text/plain; charset=UTF-8"},
                     {"cache-control", "no-cache, max-age=0"},
                     {"x-content-type-options", "nosniff"}},
                    std::move(body));
}

void respondJson(http::Responder& responder, const json& body) {
  responder.respond(200,
                    {{"content-type", "application/json"},
                     {"cache-control", "no-cache, max-age=0"},
                     {"x-content-type-options", "nosniff"}},
                    postern::json::dumpPretty(body, 1) + "\n");
}

json addressJson(const net::Address& address) {
  if (address.isUnix()) return {{"pipe", {{"path", address.ip()}}}};
  return {{"socket_address", {{"address", address.ip()}, {"port_value", address.port()}}}};
}

base::ConfigResult<std::unique_ptr<Admin>> Admin::start(Server& server,
                                                        const net::Address& address) {
  std::unique_ptr<Admin> out(new Admin(server));
  auto socket = net::listenSocket(address);
  if (!socket) {
    return base::failConfig("admin.address",
                            "cannot bind " + address.toString() + ": " + socket.error().message());
  }
  out->address_ = address.isIp() ? net::localAddress(socket->get()) : address;
  out->http_ = http::Server::make(
      server.loop(), {},
      [admin = out.get()](http::Request request, std::unique_ptr<http::Responder> responder) {
        admin->handle(std::move(request), std::move(responder));
      });
  out->http_->listen(std::move(*socket));
  return out;
}

Admin::~Admin() = default;

void Admin::handle(http::Request request, std::unique_ptr<http::Responder> responder) {
  const std::string& path = request.path;
  if (path == "/") {
    return responder->respond(200, {{"content-type", "text/html; charset=UTF-8"}}, indexPage());
  }
  const Page* page = nullptr;
  for (const Page& each : kPages) {
    if (path == each.path) page = &each;
  }
  if (page == nullptr) {
    return respondText(*responder, 404, "invalid path. " + helpText());
  }
  if (page->method == Method::kChange && request.method != "POST") {
    return respondText(*responder, 405,
                       fmt::format("Method Not Allowed: {} must be a POST\n", path));
  }
  if (path == "/ready") {
    const ServerState state = server_.state();
    return respondText(*responder, state == ServerState::kLive ? 200 : 503,
                       std::string(toString(state)) + "\n");
  }
  if (path == "/stats" || path == "/stats/prometheus")
    return answerStats(server_, request, path != "/stats", *responder);
  if (path == "/config_dump") return answerConfigDump(server_, request, *responder);
  if (path == "/clusters") return answerClusters(server_, request, std::move(responder));
  if (path == "/listeners") return answerListeners(server_, request, std::move(responder));
  if (path == "/server_info") return answerServerInfo(server_, *responder);
  if (path == "/logging") return answerLogging(request, *responder);
  if (path == "/certs") return respondJson(*responder, {{"certificates", json::array()}});
  if (path == "/memory") return answerMemory(*responder);
  if (path == "/help") return respondText(*responder, 200, helpText());
  if (path == "/hot_restart_version") return respondText(*responder, 200, "disabled\n");
  if (path == "/drain_listeners") return answerDrain(server_, request, *responder);
  if (path == "/healthcheck/fail" || path == "/healthcheck/ok") {
    server_.failHealth(path == "/healthcheck/fail");
    return respondText(*responder, 200, "OK\n");
  }
  // Only /quitquitquit is left: answer first, then end.
  respondText(*responder, 200, "OK\n");
  server_.stopSoon();
}

}  // namespace postern::proxy
