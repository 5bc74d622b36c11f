#include "control/monitoring.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace postern::control {
namespace {

using json::Json;

constexpr const char* kPlain = "text/plain; charset=utf-8";
constexpr const char* kJson = "application/json";

std::string metrics(const discovery::XdsSource& source) {
  const discovery::Snapshot& snapshot = *source.distributor().snapshot();
  std::string out;
  const auto gauge = [&](const char* name, const char* help, std::size_t value) {
    out += fmt::format("# HELP {0} {1}\n# TYPE {0} gauge\n{0} {2}\n", name, help, value);
  };
  gauge("pilot_xds", "Proxies connected to this control plane over xDS.", source.proxies());
  gauge("pilot_services", "Services known to the control plane.", snapshot.services.size());
  gauge("pilot_virt_services", "VirtualServices known to the control plane.",
        snapshot.virtual_services.size());
  gauge("postern_snapshot_version", "Number of the configuration snapshot in force.",
        static_cast<std::size_t>(snapshot.version));
  out += "# HELP pilot_xds_pushes Responses sent to proxies.\n# TYPE pilot_xds_pushes counter\n";
  for (const auto& [type, counters] : source.counters()) {
    out += fmt::format("pilot_xds_pushes{{type=\"{}\"}} {}\n", type, counters.pushes);
  }
  out += "# HELP pilot_total_xds_rejects Responses that proxies refused.\n";
  out += "# TYPE pilot_total_xds_rejects counter\n";
  for (const auto& [type, counters] : source.counters()) {
    out += fmt::format("pilot_total_xds_rejects{{type=\"{}\"}} {}\n", type, counters.rejects);
  }
  out += "# HELP postern_xds_refused_connections_total Proxies that were not let in.\n";
  out += "# TYPE postern_xds_refused_connections_total counter\n";
  out += fmt::format("postern_xds_refused_connections_total {}\n", source.refusedConnections());
  return out;
}

Json registry(const discovery::Snapshot& snapshot) {
  Json out = Json::array();
  for (const auto& service : snapshot.services) {
    Json ports = Json::array();
    for (const auto& port : service->ports) {
      ports.push_back({{"name", port.name}, {"port", port.number}, {"target", port.target}});
    }
    const auto found = snapshot.endpoints.find(discovery::endpointsKey(*service));
    out.push_back({{"hostname", service->host},
                   {"namespace", service->meta.origin.ns},
                   {"origin", service->meta.origin.key()},
                   {"addresses", service->addresses},
                   {"external", service->external},
                   {"ports", std::move(ports)},
                   {"endpoints", found == snapshot.endpoints.end() ? 0 : found->second.size()}});
  }
  return out;
}

MonitoringAnswer debug(const http::Request& request, const discovery::XdsSource& source) {
  if (request.path == "/debug/syncz") {
    return {200, kJson, json::dumpPretty(source.syncState()) + "\n"};
  }
  if (request.path == "/debug/registryz") {
    return {200, kJson, json::dumpPretty(registry(*source.distributor().snapshot())) + "\n"};
  }
  if (request.path == "/debug/config_dump") {
    const std::string proxy = request.parameter("proxyID");
    if (proxy.empty()) return {400, kPlain, "config_dump needs ?proxyID=POD.NAMESPACE\n"};
    const Json dump = source.configDump(proxy);
    if (dump.is_null()) return {404, kPlain, "proxy " + proxy + " is not connected\n"};
    return {200, kJson, json::dumpPretty(dump) + "\n"};
  }
  return {404, kPlain, "known: /debug/syncz /debug/config_dump?proxyID= /debug/registryz\n"};
}

class MonitoringImpl final : public Monitoring {
 public:
  MonitoringImpl(event::Loop& loop, base::Fd listener, const discovery::XdsSource& source,
                 std::function<bool()> ready)
      : source_(source), ready_(std::move(ready)) {
    server_ = http::Server::make(
        loop, {}, [this](http::Request request, std::unique_ptr<http::Responder> responder) {
          MonitoringAnswer answer = answerMonitoring(request, source_, ready_());
          responder->respond(answer.status, {{"content-type", answer.content_type}},
                             std::move(answer.body));
        });
    server_->listen(std::move(listener));
  }

 private:
  const discovery::XdsSource& source_;
  std::function<bool()> ready_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace

MonitoringAnswer answerMonitoring(const http::Request& request, const discovery::XdsSource& source,
                                  bool ready) {
  if (request.method != "GET" && request.method != "HEAD") {
    return {405, kPlain, "only GET\n"};
  }
  if (request.path == "/ready") {
    return ready ? MonitoringAnswer{200, kPlain, "ready\n"}
                 : MonitoringAnswer{503, kPlain, "the configuration is not read yet\n"};
  }
  if (request.path == "/metrics") return {200, "text/plain; version=0.0.4", metrics(source)};
  if (request.path.starts_with("/debug/")) {
    if (!request.remote.isLoopback()) {
      return {403, kPlain, "only from the own host: kubectl port-forward\n"};
    }
    return debug(request, source);
  }
  return {404, kPlain, "known: /ready /metrics /debug/\n"};
}

std::unique_ptr<Monitoring> Monitoring::start(event::Loop& loop, base::Fd listener,
                                              const discovery::XdsSource& source,
                                              std::function<bool()> ready) {
  return std::make_unique<MonitoringImpl>(loop, std::move(listener), source, std::move(ready));
}

}  // namespace postern::control
