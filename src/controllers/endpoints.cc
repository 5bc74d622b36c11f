// Endpoints and EndpointSlices of Services with a selector, from the pods that match it.
#include "controllers/context.h"

#include <algorithm>

namespace postern::controllers {
namespace {

using kube::Outcome;
using kube::types::kEndpoints;
using kube::types::kEndpointSlice;
using kube::types::kPod;
using kube::types::kService;

/// The pod's port a Service port leads to; 0 when the pod has no port of that name.
long long targetPort(const Json& port, const Json& pod) {
  const Json* target = json::find(port, "targetPort");
  if (target == nullptr) return json::integerAt(port, "port");
  if (target->is_number_integer()) return target->get<long long>();
  std::string protocol = json::stringAt(port, "protocol", "TCP");
  for (const Json& container : arrayAt(pod, "spec.containers")) {
    for (const Json& own : arrayAt(container, "ports")) {
      if (*target == json::stringAt(own, "name") &&
          json::stringAt(own, "protocol", "TCP") == protocol) {
        return json::integerAt(own, "containerPort");
      }
    }
  }
  return 0;
}

Json portsFor(const Json& service, const Json& pod) {
  Json out = Json::array();
  for (const Json& port : arrayAt(service, "spec.ports")) {
    long long number = targetPort(port, pod);
    if (number == 0) continue;
    Json entry{{"port", number}, {"protocol", json::stringAt(port, "protocol", "TCP")}};
    std::string name = json::stringAt(port, "name");
    if (!name.empty()) entry["name"] = name;
    std::string app = json::stringAt(port, "appProtocol");
    if (!app.empty()) entry["appProtocol"] = app;
    out.push_back(std::move(entry));
  }
  return out;
}

Json targetOf(const Json& pod) {
  return {{"kind", "Pod"},
          {"name", json::stringAt(pod, "metadata.name")},
          {"namespace", json::stringAt(pod, "metadata.namespace")},
          {"uid", json::stringAt(pod, "metadata.uid")}};
}

struct Member {
  kube::ObjectPtr pod;
  Json ports;
  bool ready;
};

std::vector<Member> membersOf(Context& context, const Json& service) {
  std::vector<Member> out;
  bool publish = json::boolAt(service, "spec.publishNotReadyAddresses");
  const Json& selector = objectAt(service, "spec.selector");
  for (auto& pod : context.informer(kPod).list(json::stringAt(service, "metadata.namespace"))) {
    if (!mapMatches(selector, objectAt(*pod, "metadata.labels"))) continue;
    if (json::stringAt(*pod, "status.podIP").empty() || podFinished(*pod)) continue;
    if (deleting(*pod) && !publish) continue;
    Json ports = portsFor(service, *pod);
    bool ready = publish || podReady(*pod);
    out.push_back({std::move(pod), std::move(ports), ready});
  }
  return out;
}

Json subsetsOf(const std::vector<Member>& members) {
  Json out = Json::array();
  for (const Member& member : members) {
    if (member.ports.empty()) continue;
    auto same = std::find_if(out.begin(), out.end(),
                             [&](const Json& s) { return s["ports"] == member.ports; });
    if (same == out.end()) same = out.insert(out.end(), Json{{"ports", member.ports}});
    Json address{{"ip", json::stringAt(*member.pod, "status.podIP")},
                 {"targetRef", targetOf(*member.pod)}};
    std::string node = json::stringAt(*member.pod, "spec.nodeName");
    if (!node.empty()) address["nodeName"] = node;
    (*same)[member.ready ? "addresses" : "notReadyAddresses"].push_back(std::move(address));
  }
  return out;
}

Json sliceOf(const Json& service, const std::vector<Member>& members) {
  std::string name = json::stringAt(service, "metadata.name");
  Json endpoints = Json::array();
  Json ports = Json::array();
  for (const Member& member : members) {
    if (ports.empty()) ports = member.ports;
    if (member.ports != ports) continue;
    Json endpoint{{"addresses", Json::array({json::stringAt(*member.pod, "status.podIP")})},
                  {"conditions",
                   {{"ready", member.ready},
                    {"serving", podReady(*member.pod)},
                    {"terminating", deleting(*member.pod)}}},
                  {"targetRef", targetOf(*member.pod)}};
    std::string node = json::stringAt(*member.pod, "spec.nodeName");
    if (!node.empty()) endpoint["nodeName"] = node;
    endpoints.push_back(std::move(endpoint));
  }
  for (Json& port : ports) {
    if (!port.contains("name")) port["name"] = "";
  }
  bool six = json::stringAt(service, "spec.clusterIP").find(':') != std::string::npos;
  Json labels{{"kubernetes.io/service-name", name},
              {"endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"}};
  return {{"apiVersion", kEndpointSlice.apiVersion()},
          {"kind", kEndpointSlice.kind},
          {"metadata",
           {{"name", name},
            {"namespace", json::stringAt(service, "metadata.namespace")},
            {"labels", std::move(labels)},
            {"ownerReferences", Json::array({ownerReference(service, kService)})}}},
          {"addressType", six ? "IPv6" : "IPv4"},
          {"endpoints", std::move(endpoints)},
          {"ports", std::move(ports)}};
}

/// Creates the object, or patches these fields of it when they differ.
kube::ApiResult<void> put(Context& context, const kube::ResourceType& type, Json object,
                          const std::vector<std::string>& fields) {
  std::string ns = json::stringAt(object, "metadata.namespace");
  std::string name = json::stringAt(object, "metadata.name");
  static constexpr const char* kTrigger = "endpoints.kubernetes.io/last-change-trigger-time";
  object["metadata"]["annotations"][kTrigger] = nowText();
  auto have = context.client.get(type, ns, name);
  if (!have && !have.error().notFound()) return std::unexpected(have.error());
  if (!have) {
    auto made = context.client.create(type, ns, object);
    if (!made) return std::unexpected(made.error());
    return {};
  }
  Json patch = Json::object();
  for (const std::string& field : fields) {
    if (arrayAt(*have, field) != object[field]) patch[field] = object[field];
  }
  if (patch.empty()) return {};
  patch["metadata"]["annotations"] = object["metadata"]["annotations"];
  auto done = context.client.patch(type, ns, name, kube::PatchType::kMerge, patch);
  if (!done) return std::unexpected(done.error());
  return {};
}

kube::ApiResult<void> removeBoth(Context& context, const std::string& ns, const std::string& name) {
  for (const auto* type : {&kEndpoints, &kEndpointSlice}) {
    auto gone = context.client.remove(*type, ns, name);
    if (!gone && !gone.error().notFound()) return std::unexpected(gone.error());
  }
  return {};
}

Outcome reconcileEndpoints(Context& context, const std::string& key) {
  auto [ns, name] = kube::splitKey(key);
  auto service = context.informer(kService).get(ns, name);
  if (!service || deleting(*service)) {
    auto gone = removeBoth(context, ns, name);
    return gone ? Outcome::done() : retryAfter("endpoints", key, gone.error());
  }
  if (objectAt(*service, "spec.selector").empty() ||
      json::stringAt(*service, "spec.type") == "ExternalName") {
    return Outcome::done();
  }
  if (!context.informer(kPod).synced()) return Outcome::retry();
  auto members = membersOf(context, *service);
  Json endpoints{{"apiVersion", "v1"},
                 {"kind", "Endpoints"},
                 {"metadata", {{"name", name}, {"namespace", ns}}},
                 {"subsets", subsetsOf(members)}};
  if (const Json& labels = objectAt(*service, "metadata.labels"); !labels.empty()) {
    endpoints["metadata"]["labels"] = labels;
  }
  auto done = put(context, kEndpoints, std::move(endpoints), {"subsets"});
  if (done) {
    done = put(context, kEndpointSlice, sliceOf(*service, members), {"endpoints", "ports"});
  }
  return done ? Outcome::done() : retryAfter("endpoints", key, done.error());
}

}  // namespace

void startEndpoints(Context& context, std::vector<ControllerPtr>& out) {
  auto controller = kube::Controller::start(
      "endpoints", [&](const std::string& key) { return reconcileEndpoints(context, key); }, 2);
  controller->watch(context.informer(kService));
  auto of_pod = [&](const Json& pod) {
    std::vector<std::string> keys;
    const Json& labels = objectAt(pod, "metadata.labels");
    for (const auto& s :
         context.informer(kService).list(json::stringAt(pod, "metadata.namespace"))) {
      if (mapMatches(objectAt(*s, "spec.selector"), labels)) keys.push_back(kube::keyOf(*s));
    }
    return keys;
  };
  controller->watchMapped(context.informer(kPod), of_pod);
  out.push_back(std::move(controller));
}

}  // namespace postern::controllers
