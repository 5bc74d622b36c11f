// Services, ServiceEntries, pods, slices and mesh settings.
#include "base/strings.h"
#include "model/fields.h"
#include "model/host.h"
#include "model/parse.h"

#include <algorithm>

namespace postern::model {

using fields::at;
using fields::items;
using fields::Json;
using fields::text;
using fields::unsignedOf;

Meta parseMeta(const Json& object, std::string_view kind) {
  const Json& metadata = at(object, "metadata");
  Meta meta;
  meta.origin = {std::string(kind), text(metadata, "namespace"), text(metadata, "name"), ""};
  meta.created = text(metadata, "creationTimestamp");
  meta.labels = fields::labels(at(metadata, "labels"));
  return meta;
}

Protocol parseProtocol(std::string_view written) {
  const std::string name = base::toLower(written);
  if (name == "http" || name == "grpc-web" || name == "http_proxy") return Protocol::kHttp;
  if (name == "http2") return Protocol::kHttp2;
  if (name == "grpc") return Protocol::kGrpc;
  if (name == "https") return Protocol::kHttps;
  if (name == "tls") return Protocol::kTls;
  if (name == "tcp" || name == "mongo" || name == "redis" || name == "mysql") return Protocol::kTcp;
  if (name == "udp") return Protocol::kUdp;
  return Protocol::kUnknown;
}

Protocol protocolOf(std::string_view app_protocol, std::string_view port_name,
                    std::uint32_t number) {
  if (!app_protocol.empty()) {
    if (app_protocol == "kubernetes.io/h2c") return Protocol::kHttp2;
    if (app_protocol == "kubernetes.io/ws") return Protocol::kHttp;
    if (app_protocol == "kubernetes.io/wss") return Protocol::kHttps;
    return parseProtocol(app_protocol);
  }
  const std::string name = base::toLower(port_name);
  if (name == "grpc-web" || name.starts_with("grpc-web-")) return Protocol::kHttp;
  const Protocol by_name = parseProtocol(std::string_view(name).substr(0, name.find('-')));
  if (by_name != Protocol::kUnknown) return by_name;
  if (number == 25 || number == 53 || number == 3306 || number == 27017) return Protocol::kTcp;
  return Protocol::kUnknown;
}

Service parseService(const Json& object, std::string_view domain) {
  Service service;
  service.meta = parseMeta(object, "Service");
  const Origin& origin = service.meta.origin;
  service.kubernetes = true;
  service.short_name = origin.name;
  service.host = origin.name + "." + origin.ns + ".svc." + std::string(domain);
  const Json& spec = at(object, "spec");
  service.selector = fields::labels(at(spec, "selector"));
  const Json& annotations = at(at(object, "metadata"), "annotations");
  for (std::string_view to : base::split(text(annotations, "networking.istio.io/exportTo"), ',')) {
    if (!base::trim(to).empty()) service.export_to.emplace_back(base::trim(to));
  }
  if (text(spec, "type") == "ExternalName") {
    service.external_name = text(spec, "externalName");
    service.resolution = Resolution::kDns;
  }
  const std::string cluster_ip = text(spec, "clusterIP");
  service.headless = cluster_ip == "None";
  if (service.headless) service.resolution = Resolution::kPassthrough;
  service.addresses = fields::texts(at(spec, "clusterIPs"));
  if (service.addresses.empty() && !cluster_ip.empty()) service.addresses.push_back(cluster_ip);
  std::erase(service.addresses, "None");
  for (const Json& item : items(at(spec, "ports"))) {
    Port port;
    port.number = unsignedOf(at(item, "port"));
    port.name = text(item, "name");
    port.protocol = text(item, "protocol") == "UDP"
                        ? Protocol::kUdp
                        : protocolOf(text(item, "appProtocol"), port.name, port.number);
    const Json& target = at(item, "targetPort");
    port.target = target.is_null() ? port.number : unsignedOf(target);
    port.target_name = text(target);
    service.ports.push_back(std::move(port));
  }
  return service;
}

namespace {

/// The endpoints of a ServiceEntry, one per written endpoint and port.
std::vector<Endpoint> entryEndpoints(const Json& spec, const std::vector<Port>& ports,
                                     const std::string& ns) {
  std::vector<Endpoint> out;
  for (const Json& item : items(at(spec, "endpoints"))) {
    for (const Port& port : ports) {
      Endpoint endpoint;
      endpoint.address = text(item, "address");
      endpoint.port = unsignedOf(at(at(item, "ports"), port.name.c_str()),
                                 port.target != 0 ? port.target : port.number);
      endpoint.port_name = port.name;
      endpoint.labels = fields::labels(at(item, "labels"));
      endpoint.weight = std::max(1U, unsignedOf(at(item, "weight"), 1));
      endpoint.ns = ns;
      if (!endpoint.address.empty()) out.push_back(std::move(endpoint));
    }
  }
  return out;
}

}  // namespace

std::vector<Service> parseServiceEntry(const Json& object) {
  Service common;
  common.meta = parseMeta(object, "ServiceEntry");
  const Json& spec = at(object, "spec");
  common.external = text(spec, "location") != "MESH_INTERNAL";
  common.export_to = fields::texts(at(spec, "exportTo"));
  const std::string resolution = text(spec, "resolution");
  common.resolution = resolution == "STATIC"            ? Resolution::kEds
                      : resolution == "DNS"             ? Resolution::kDns
                      : resolution == "DNS_ROUND_ROBIN" ? Resolution::kDnsRoundRobin
                                                        : Resolution::kPassthrough;
  for (const Json& item : items(at(spec, "ports"))) {
    Port port;
    port.number = unsignedOf(at(item, "number"));
    port.name = text(item, "name");
    const std::string written = text(item, "protocol");
    port.protocol =
        written.empty() ? protocolOf("", port.name, port.number) : parseProtocol(written);
    port.target = unsignedOf(at(item, "targetPort"), port.number);
    common.ports.push_back(std::move(port));
  }
  common.addresses = fields::texts(at(spec, "addresses"));
  common.selector = fields::labels(at(at(spec, "workloadSelector"), "labels"));
  common.endpoints = entryEndpoints(spec, common.ports, common.meta.origin.ns);
  std::vector<Service> out;
  const std::vector<std::string> hosts = fields::texts(at(spec, "hosts"));
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    Service service = common;
    service.host = hosts[i];
    service.meta.origin.path = fields::indexed("spec.hosts", i);
    out.push_back(std::move(service));
  }
  return out;
}

Workload parsePod(const Json& object) {
  Workload pod;
  pod.meta = parseMeta(object, "Pod");
  pod.ip = text(at(object, "status"), "podIP");
  const Json& spec = at(object, "spec");
  pod.node = text(spec, "nodeName");
  pod.service_account = text(spec, "serviceAccountName");
  if (pod.service_account.empty()) pod.service_account = "default";
  for (const Json& owner : items(at(at(object, "metadata"), "ownerReferences"))) {
    if (!fields::truth(at(owner, "controller"))) continue;
    pod.owner = text(owner, "name");
    if (text(owner, "kind") == "ReplicaSet" && pod.meta.labels.contains("pod-template-hash")) {
      pod.owner = pod.owner.substr(0, pod.owner.rfind('-'));
    }
  }
  for (const Json& container : items(at(spec, "containers"))) {
    for (const Json& port : items(at(container, "ports"))) {
      const std::string name = text(port, "name");
      if (!name.empty())
        pod.port_names[name] = std::to_string(unsignedOf(at(port, "containerPort")));
    }
  }
  return pod;
}

Slice parseSlice(const Json& object) {
  Slice slice;
  slice.meta = parseMeta(object, "EndpointSlice");
  auto owner = slice.meta.labels.find("kubernetes.io/service-name");
  if (owner != slice.meta.labels.end()) slice.service = owner->second;
  for (const Json& item : items(at(object, "endpoints"))) {
    const Json& conditions = at(item, "conditions");
    const Json& ready = at(conditions, "ready");
    if (ready.is_boolean() && !ready.get<bool>()) continue;
    if (fields::truth(at(conditions, "terminating"))) continue;
    const Json& target = at(item, "targetRef");
    for (const Json& port : items(at(object, "ports"))) {
      for (const Json& address : items(at(item, "addresses"))) {
        Endpoint endpoint;
        endpoint.address = text(address);
        endpoint.port = unsignedOf(at(port, "port"));
        endpoint.port_name = text(port, "name");
        endpoint.ns = slice.meta.origin.ns;
        if (text(target, "kind") == "Pod") endpoint.pod = endpoint.ns + "/" + text(target, "name");
        slice.endpoints.push_back(std::move(endpoint));
      }
    }
  }
  return slice;
}

namespace {

void readMesh(const Json& mesh, MeshSettings& settings) {
  const Json& policy = at(mesh, "outboundTrafficPolicy");
  if (policy.is_object()) settings.allow_any = text(policy, "mode") != "REGISTRY_ONLY";
  const Json& file = at(mesh, "accessLogFile");
  if (file.is_string()) settings.access_log_file = text(file);
  const Json& format = at(mesh, "accessLogFormat");
  if (format.is_string()) settings.access_log_format = text(format);
  const std::string timeout = parseDuration(text(mesh, "connectTimeout"));
  if (!timeout.empty()) settings.connect_timeout = timeout;
  const std::string root = text(mesh, "rootNamespace");
  if (!root.empty()) settings.root_namespace = root;
}

}  // namespace

MeshSettings parseMesh(const Json* config_map, const Json* istio) {
  MeshSettings settings;
  settings.origin = {"Istio", "istio-system", "mesh", "spec"};
  if (config_map != nullptr) {
    const std::string yaml = text(at(*config_map, "data"), "mesh");
    if (auto parsed = json::parseYaml(yaml)) {
      settings.origin = {"ConfigMap", "istio-system", "istio", "data.mesh"};
      readMesh(*parsed, settings);
    }
  }
  if (istio != nullptr) {
    settings.origin = parseMeta(*istio, "Istio").origin.at("spec.outboundTrafficPolicy");
    readMesh(at(*istio, "spec"), settings);
    readMesh(at(at(*istio, "spec"), "proxy"), settings);
  }
  return settings;
}

}  // namespace postern::model
