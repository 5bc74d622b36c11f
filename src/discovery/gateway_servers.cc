#include "discovery/gateway_servers.h"

#include <algorithm>

namespace postern::discovery {

namespace {

/// The target port of the Service in front of this pod, or the port itself.
std::uint32_t resolvePort(View& view, std::uint32_t port) {
  for (const model::Service* service : view.ownServices()) {
    const model::Port* found = service->port(port);
    if (found == nullptr) continue;
    if (found->target != 0) return found->target;
    if (std::uint32_t number = view.containerPort(found->target_name); number != 0) return number;
  }
  return port;
}

/// Terminating TLS is not served yet; the Gateway's status says so.
bool served(const model::Server& server) {
  return server.port != 0 && server.port <= 65535 && (!server.has_tls || server.https_redirect);
}

}  // namespace

std::vector<GatewayListener> gatewayListeners(View& view) {
  std::vector<GatewayListener> out;
  for (const model::Gateway* gateway : view.gateways()) {
    for (const model::Server& server : gateway->servers) {
      if (!served(server)) continue;
      const std::string bind = server.bind.empty() ? "0.0.0.0" : server.bind;
      const std::uint32_t port = resolvePort(view, server.port);
      if (view.proxy().unprivileged && port < 1024) continue;
      auto found = std::find_if(out.begin(), out.end(), [&](const GatewayListener& l) {
        return l.bind == bind && l.port == port;
      });
      if (found == out.end()) {
        GatewayListener listener{bind, port, "", {}};
        if (model::familyOf(server.protocol) == model::Family::kHttp) {
          listener.route_name = "http." + std::to_string(port);
          if (!server.bind.empty()) listener.route_name += "." + server.bind;
        }
        out.push_back(std::move(listener));
        found = out.end() - 1;
      } else if (model::familyOf(found->servers[0].server->protocol) !=
                 model::familyOf(server.protocol)) {
        continue;
      }
      found->servers.push_back({gateway, &server});
    }
  }
  return out;
}

std::vector<std::string> admissibleHosts(const GatewayServer& entry, const std::string& ns) {
  std::vector<std::string> out;
  for (const std::string& written : entry.server->hosts) {
    const auto slash = written.find('/');
    if (slash == std::string::npos) {
      out.push_back(written);
      continue;
    }
    std::string of = written.substr(0, slash);
    if (of == ".") of = entry.gateway->meta.origin.ns;
    if (of == "*" || of == ns) out.push_back(written.substr(slash + 1));
  }
  return out;
}

}  // namespace postern::discovery
