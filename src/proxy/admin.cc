#include "proxy/admin.h"

#include "base/log.h"
#include "net/socket.h"
#include "proxy/memory_use.h"
#include "proxy/server.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

#include <fcntl.h>

namespace postern::proxy {

namespace {

using json = nlohmann::json;

enum class Method : unsigned char { kRead, kChange };

using Responder = std::unique_ptr<http::Responder>;

struct Page {
  const char* path;
  Method method;
  const char* help;
  void (*answer)(Server& server, const http::Request& request, Responder responder);
};

void answerOk(http::Responder& responder) { respondText(responder, 200, "OK\n"); }

void answerMemory(Server&, const http::Request&, Responder responder) {
  const MemoryUse use = memoryUse();
  respondJson(*responder, {{"allocated", std::to_string(use.allocated)},
                           {"heap_size", std::to_string(use.heap)},
                           {"pageheap_unmapped", "0"},
                           {"pageheap_free", "0"},
                           {"total_thread_cache", "0"},
                           {"total_physical_bytes", std::to_string(use.physical)}});
}

void answerReady(Server& server, const http::Request&, Responder responder) {
  const ServerState state = server.state();
  respondText(*responder, state == ServerState::kLive ? 200 : 503,
              std::string(toString(state)) + "\n");
}

/// skip_exit drains connections and never stops the listeners, with or without graceful.
void answerDrain(Server& server, const http::Request& request, Responder responder) {
  const auto has = [&](std::string_view name) {
    const std::string query = "&" + request.query + "&";
    return query.find(fmt::format("&{}&", name)) != std::string::npos ||
           query.find(fmt::format("&{}=", name)) != std::string::npos;
  };
  const auto only =
      has("inboundonly") ? TrafficDirection::kInbound : TrafficDirection::kUnspecified;
  if (has("graceful") || has("skip_exit")) {
    server.drainConnections(only, has("skip_exit"));
  } else {
    server.stopListeners(only);
  }
  answerOk(*responder);
}

void answerHotRestartVersion(Server& server, const http::Request&, Responder responder) {
  respondText(*responder, 200, server.hotRestarts() ? std::string(kHotRestartVersion) : "disabled");
}

void answerHelp(Server&, const http::Request&, Responder responder);

constexpr std::array kPages = {
    Page{"/certs", Method::kRead, "print certs on machine",
         [](Server& server, const http::Request&, Responder to) { answerCerts(server, *to); }},
    Page{"/clusters", Method::kRead, "upstream cluster status", answerClusters},
    Page{"/config_dump", Method::kRead, "dump current configs",
         [](Server& server, const http::Request& request, Responder to) {
           answerConfigDump(server, request, *to);
         }},
    Page{"/drain_listeners", Method::kChange, "drain listeners", answerDrain},
    Page{"/healthcheck/fail", Method::kChange, "cause the server to fail health checks",
         [](Server& server, const http::Request&, Responder to) {
           server.failHealth(true);
           answerOk(*to);
         }},
    Page{"/healthcheck/ok", Method::kChange, "cause the server to pass health checks",
         [](Server& server, const http::Request&, Responder to) {
           server.failHealth(false);
           answerOk(*to);
         }},
    Page{"/help", Method::kRead, "print out list of admin commands", answerHelp},
    Page{"/hot_restart_version", Method::kRead, "print the hot restart compatibility version",
         answerHotRestartVersion},
    Page{"/listeners", Method::kRead, "print listener info", answerListeners},
    Page{"/logging", Method::kChange, "query/change logging levels",
         [](Server&, const http::Request& request, Responder to) { answerLogging(request, *to); }},
    Page{"/memory", Method::kRead, "print current allocation/heap usage", answerMemory},
    Page{"/quitquitquit", Method::kChange, "exit the server",
         [](Server& server, const http::Request&, Responder to) {
           answerOk(*to);
           server.stopSoon();
         }},
    Page{"/ready", Method::kRead, "print server state, return 200 if LIVE, otherwise return 503",
         answerReady},
    Page{"/reopen_logs", Method::kChange, "reopen access logs",
         [](Server& server, const http::Request&, Responder to) {
           server.reopenLogs();
           answerOk(*to);
         }},
    Page{"/reset_counters", Method::kChange, "reset all counters to zero",
         [](Server& server, const http::Request&, Responder to) {
           server.resetCounters();
           answerOk(*to);
         }},
    Page{"/runtime", Method::kRead, "print runtime values",
         [](Server& server, const http::Request&, Responder to) { answerRuntime(server, *to); }},
    Page{"/server_info", Method::kRead, "print server version/status information",
         [](Server& server, const http::Request&, Responder to) { answerServerInfo(server, *to); }},
    Page{"/stats", Method::kRead, "print server stats",
         [](Server& server, const http::Request& request, Responder to) {
           answerStats(server, request, false, *to);
         }},
    Page{"/stats/prometheus", Method::kRead, "print server stats in prometheus format",
         [](Server& server, const http::Request& request, Responder to) {
           answerStats(server, request, true, *to);
         }},
};

std::string wholePath(const http::Request& request) {
  return request.query.empty() ? request.path : request.path + "?" + request.query;
}

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

void answerHelp(Server&, const http::Request&, Responder responder) {
  respondText(*responder, 200, helpText());
}

}  // namespace

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

base::ConfigResult<std::unique_ptr<Admin>> Admin::start(Server& server, const net::Address& address,
                                                        base::Fd inherited) {
  std::unique_ptr<Admin> out(new Admin(server));
  out->socket_ = std::move(inherited);
  if (!out->socket_) {
    auto socket = net::listenSocket(address);
    if (!socket) {
      return base::failConfig(
          "admin.address", "cannot bind " + address.toString() + ": " + socket.error().message());
    }
    out->socket_ = std::move(*socket);
  }
  out->address_ = address.isIp() ? net::localAddress(out->socket_.get()) : address;
  out->resume();
  return out;
}

base::Fd Admin::share() const { return base::Fd(::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0)); }

void Admin::pause() {
  if (http_ == nullptr) return;
  http_->drain();
  paused_ = std::move(http_);
}

void Admin::resume() {
  if (http_ != nullptr) return;
  http_ =
      http::Server::make(server_.loop(), {},
                         [this](http::Request request, std::unique_ptr<http::Responder> responder) {
                           handle(std::move(request), std::move(responder));
                         });
  http_->listen(share());
}

Admin::~Admin() = default;

/// Paths that may be asked for are matched with their query, as in Envoy.
bool Admin::allows(const http::Request& request) const {
  const auto& allowed = server_.values().admin_paths;
  if (allowed.empty()) return true;
  const std::string whole = wholePath(request);
  return std::any_of(allowed.begin(), allowed.end(),
                     [&](const StringMatcher& each) { return each.matches(whole); });
}

void Admin::handle(http::Request request, std::unique_ptr<http::Responder> responder) {
  const std::string& path = request.path;
  if (!allows(request)) {
    return respondText(*responder, 403,
                       fmt::format("request to path {} not allowed\n", wholePath(request)));
  }
  if (path == "/") {
    return responder->respond(200,
                              {{"content-type", "text/html; charset=UTF-8"},
                               {"cache-control", "no-cache, max-age=0"},
                               {"x-content-type-options", "nosniff"}},
                              indexPage());
  }
  const auto* page = std::find_if(kPages.begin(), kPages.end(),
                                  [&](const Page& each) { return path == each.path; });
  if (page == kPages.end()) return respondText(*responder, 404, "invalid path. " + helpText());
  if (page->method == Method::kChange && request.method != "POST") {
    return respondText(*responder, 405,
                       fmt::format("Method {} not allowed, POST required.", request.method));
  }
  page->answer(server_, request, std::move(responder));
}

}  // namespace postern::proxy
