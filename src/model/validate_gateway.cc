// What a Gateway may not say.
#include "base/strings.h"
#include "model/check.h"
#include "model/parse.h"

#include <map>
#include <set>

namespace postern::model {

using fields::at;
using fields::indexed;
using fields::items;
using fields::Json;
using fields::text;

namespace {

/// Ports the proxy itself listens on in a pod.
bool reservedPort(std::uint32_t port) {
  for (std::uint32_t used :
       {15000U, 15001U, 15002U, 15004U, 15006U, 15008U, 15020U, 15021U, 15053U, 15090U}) {
    if (port == used) return true;
  }
  return false;
}

void checkCertificates(Check& check, const Json& tls, const std::string& path) {
  const std::string mode = text(tls, "mode");
  const bool files = !text(tls, "serverCertificate").empty() || !text(tls, "privateKey").empty();
  const bool credential = !text(tls, "credentialName").empty();
  const int sources = (files ? 1 : 0) + (credential ? 1 : 0) +
                      (items(at(tls, "credentialNames")).empty() ? 0 : 1) +
                      (items(at(tls, "tlsCertificates")).empty() ? 0 : 1);
  if (sources > 1) {
    check.add(path,
              "only one of serverCertificate, credentialName, credentialNames and "
              "tlsCertificates may be set");
  }
  if (mode == "ISTIO_MUTUAL" && sources > 0) {
    check.add(path, "ISTIO_MUTUAL cannot have certificates of its own");
  }
  const bool serves = mode == "SIMPLE" || mode == "MUTUAL" || mode == "OPTIONAL_MUTUAL";
  if (serves && sources == 0) {
    check.add(path + ".credentialName",
              mode + " TLS requires a credentialName or certificate files");
  }
  if (serves && files && text(tls, "serverCertificate").empty()) {
    check.add(path + ".serverCertificate", mode + " TLS requires a server certificate");
  }
  if (serves && files && text(tls, "privateKey").empty()) {
    check.add(path + ".privateKey", mode + " TLS requires a private key");
  }
  if (files && mode.ends_with("MUTUAL") && mode != "ISTIO_MUTUAL" &&
      text(tls, "caCertificates").empty()) {
    check.add(path + ".caCertificates", mode + " TLS requires CA certificates");
  }
}

void checkTls(Check& check, const Json& server, Protocol protocol, const std::string& path) {
  const Json& tls = at(server, "tls");
  if (!tls.is_object()) {
    if (isTls(protocol)) {
      check.add(path + ".tls", "server must have TLS settings for HTTPS/TLS protocols");
    }
    return;
  }
  if (isTls(protocol)) return checkCertificates(check, tls, path + ".tls");
  if (isHttp(protocol)) {
    const bool pure = tls.size() == 1 && fields::truth(at(tls, "httpsRedirect"));
    if (!pure && !tls.empty()) {
      check.add(path + ".tls",
                "server cannot have TLS settings for plain text protocols (only "
                "httpsRedirect: true)");
    }
  } else if (protocol != Protocol::kUnknown) {
    check.add(path + ".tls", "server cannot have TLS settings for plain text protocols");
  }
}

void checkBind(Check& check, const Json& server, const std::string& path) {
  const std::string bind = text(server, "bind");
  const Json& number = at(at(server, "port"), "number");
  if (bind.starts_with("unix://")) {
    if (fields::number(number) != 0) {
      check.add(path + ".port.number", "must be 0 where bind is a unix domain socket");
    }
    return;
  }
  if (!bind.empty() && !isIpAddress(bind)) {
    check.add(path + ".bind", "\"" + bind + "\" is neither an IP address nor unix://");
  }
  check.port(number, path + ".port.number");
}

void checkServer(Check& check, const Json& server, const std::string& path) {
  const Json& port = at(server, "port");
  if (port.is_null()) {
    check.add(path + ".port", "port is required");
    return;
  }
  checkBind(check, server, path);
  const std::uint32_t number = fields::unsignedOf(at(port, "number"));
  if (reservedPort(number)) {
    check.add(path + ".port.number",
              "port " + std::to_string(number) + " is reserved by the proxy");
  }
  if (text(port, "name").empty()) check.add(path + ".port.name", "port name must be set");
  if (const std::string name = text(server, "name"); !name.empty()) {
    check.dnsLabel(name, path + ".name");
  }
  const std::string written = text(port, "protocol");
  const Protocol protocol = parseProtocol(written);
  if (protocol == Protocol::kUnknown || protocol == Protocol::kUdp) {
    check.add(
        path + ".port.protocol",
        "invalid protocol \"" + written +
            "\", supported protocols are HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS");
  }
  if (!at(port, "targetPort").is_null()) {
    check.add(path + ".port.targetPort", "targetPort is not supported in a Gateway");
  }
  if (items(at(server, "hosts")).empty()) {
    check.add(path + ".hosts", "server config must contain at least one host");
  }
  std::size_t index = 0;
  for (const std::string& host : fields::texts(at(server, "hosts"))) {
    check.scopedHost(host, indexed(path + ".hosts", index++));
  }
  checkTls(check, server, protocol, path);
}

}  // namespace

void checkGateway(Check& check, const Json& spec) {
  const auto& servers = items(at(spec, "servers"));
  if (servers.empty()) check.add("spec.servers", "gateway must have at least one server");
  std::set<std::string> names;
  std::map<std::string, std::pair<Family, std::string>> families;  // bind_port → family, written
  for (std::size_t i = 0; i < servers.size(); ++i) {
    const std::string path = indexed("spec.servers", i);
    checkServer(check, servers[i], path);
    const Json& port = at(servers[i], "port");
    const std::string name = text(port, "name");
    if (!name.empty() && !names.insert(name).second) {
      check.add(path + ".port.name",
                "port names in servers must be unique: duplicate name " + name);
    }
    const std::string written = text(port, "protocol");
    const Protocol protocol = parseProtocol(written);
    if (protocol == Protocol::kUnknown) continue;
    const std::string number = std::to_string(fields::unsignedOf(at(port, "number")));
    auto [slot, fresh] =
        families.try_emplace(text(servers[i], "bind") + "_" + number, familyOf(protocol), written);
    if (!fresh && slot->second.first != familyOf(protocol)) {
      check.add(path + ".port.protocol", "conflicting protocols on port " + number + ": " +
                                             written + " and " + slot->second.second);
    }
  }
}

}  // namespace postern::model
