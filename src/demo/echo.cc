#include "demo/echo.h"

#include <fmt/format.h>

#include <cstdlib>
#include <iterator>
#include <map>
#include <utility>

#include <unistd.h>

namespace postern::demo {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

EchoIdentity echoIdentityFromEnvironment() {
  EchoIdentity out;
  out.hostname = environment("HOSTNAME");
  if (out.hostname.empty()) {
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) == 0) out.hostname = name;
  }
  out.node_name = environment("NODE_NAME");
  out.pod_name = environment("POD_NAME");
  out.pod_namespace = environment("POD_NAMESPACE");
  out.pod_ip = environment("POD_IP");
  return out;
}

std::string echoText(const EchoIdentity& identity, const http::Request& request) {
  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to, "Hostname: {}\n\nPod Information:\n", identity.hostname);
  if (identity.pod_name.empty()) {
    out += "\t-no pod information available-\n";
  } else {
    fmt::format_to(to, "\tnode name:\t{}\n\tpod name:\t{}\n\tpod namespace:\t{}\n\tpod IP:\t{}\n",
                   identity.node_name, identity.pod_name, identity.pod_namespace, identity.pod_ip);
  }
  out += "\nServer values:\n\tserver_version=postern-demo\n\nRequest Information:\n";
  const std::string_view target = request.headers.path();
  fmt::format_to(to,
                 "\tclient_address={}\n\tmethod={}\n\treal path={}\n\tquery={}\n"
                 "\trequest_version=1.1\n\trequest_scheme={}\n\trequest_uri={}://{}{}\n",
                 request.remote.ip(), request.method, target, request.query,
                 request.peer.tls ? "https" : "http", request.peer.tls ? "https" : "http",
                 request.headers.authority(), target);
  out += "\nRequest Headers:\n";
  // Sorted, repeated fields side by side: the order on the wire is not part of the answer.
  std::multimap<std::string_view, std::string_view> sorted;
  request.headers.each([&](std::string_view name, std::string_view value) {
    if (name == ":authority") name = "host";
    if (!name.starts_with(':')) sorted.emplace(name, value);
  });
  for (const auto& [name, value] : sorted) fmt::format_to(to, "\t{}={}\n", name, value);
  out += "\nRequest Body:\n";
  out += request.body.empty() ? "\t-no body in request-" : request.body;
  out += "\n\n";
  return out;
}

http::Handler makeEcho(EchoIdentity identity) {
  return [identity = std::move(identity)](http::Request request,
                                          std::unique_ptr<http::Responder> responder) {
    responder->respond(200, {{"content-type", "text/plain"}}, echoText(identity, request));
  };
}

}  // namespace postern::demo
