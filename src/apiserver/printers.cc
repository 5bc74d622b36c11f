#include "apiserver/printers.h"

#include "base/strings.h"

#include <map>

namespace postern::apiserver {
namespace {

using Cells = std::vector<Json>;

const Json& arrayAt(const Json& object, std::string_view path) {
  static const Json empty = Json::array();
  const Json* at = json::find(object, path);
  return at != nullptr && at->is_array() ? *at : empty;
}
std::size_t sizeAt(const Json& object, std::string_view path) {
  const Json* at = json::find(object, path);
  return at == nullptr ? 0 : at->size();
}
std::string orNone(std::string text) { return text.empty() ? "<none>" : text; }
std::string joined(const Json& list, std::string_view field) {
  std::string out;
  for (const Json& item : list) {
    out += (out.empty() ? "" : ",") + json::stringAt(item, field);
  }
  return out;
}
std::string labelsText(const Json* labels) {
  std::string out;
  if (labels == nullptr || !labels->is_object()) return "<none>";
  for (auto it = labels->begin(); it != labels->end(); ++it) {
    out +=
        (out.empty() ? "" : ",") + it.key() + "=" + (it->is_string() ? it->get<std::string>() : "");
  }
  return orNone(out);
}

Cells namespaceCells(const Json& o, const std::string& age, WallTime) {
  return {json::stringAt(o, "status.phase"), age};
}

Cells podCells(const Json& o, const std::string& age, WallTime now) {
  long long restarts = 0;
  std::size_t ready = 0;
  std::string last;
  for (const Json& c : arrayAt(o, "status.containerStatuses")) {
    restarts += json::integerAt(c, "restartCount");
    ready += json::boolAt(c, "ready") ? 1 : 0;
    std::string finished = json::stringAt(c, "lastState.terminated.finishedAt");
    if (finished > last) last = finished;
  }
  std::string restarts_text = std::to_string(restarts);
  if (restarts > 0 && !last.empty()) restarts_text += " (" + ageOf(last, now) + " ago)";
  return {std::to_string(ready) + "/" + std::to_string(sizeAt(o, "spec.containers")),
          podStatus(o),
          restarts_text,
          age,
          orNone(json::stringAt(o, "status.podIP")),
          orNone(json::stringAt(o, "spec.nodeName")),
          orNone(json::stringAt(o, "status.nominatedNodeName")),
          "<none>"};
}

std::string externalIp(const Json& o) {
  std::string type = json::stringAt(o, "spec.type");
  std::string extra;
  for (const Json& ip : arrayAt(o, "spec.externalIPs")) {
    extra += (extra.empty() ? "" : ",") + (ip.is_string() ? ip.get<std::string>() : "");
  }
  if (type == "ExternalName") return json::stringAt(o, "spec.externalName");
  if (type != "LoadBalancer") return orNone(extra);
  std::string out;
  for (const Json& i : arrayAt(o, "status.loadBalancer.ingress")) {
    std::string ip = json::stringAt(i, "ip", json::stringAt(i, "hostname"));
    out += (out.empty() ? "" : ",") + ip;
  }
  if (!extra.empty()) out += (out.empty() ? "" : ",") + extra;
  return out.empty() ? "<pending>" : out;
}

Cells serviceCells(const Json& o, const std::string& age, WallTime) {
  std::string ports;
  for (const Json& p : arrayAt(o, "spec.ports")) {
    ports += (ports.empty() ? "" : ",") + std::to_string(json::integerAt(p, "port"));
    if (long long node = json::integerAt(p, "nodePort"); node > 0) {
      ports += ":" + std::to_string(node);
    }
    ports += "/" + json::stringAt(p, "protocol", "TCP");
  }
  return {json::stringAt(o, "spec.type", "ClusterIP"),
          orNone(json::stringAt(o, "spec.clusterIP")),
          externalIp(o),
          orNone(ports),
          age,
          labelsText(json::find(o, "spec.selector"))};
}

Cells endpointsCells(const Json& o, const std::string& age, WallTime) {
  std::vector<std::string> all;
  for (const Json& subset : arrayAt(o, "subsets")) {
    for (const Json& address : arrayAt(subset, "addresses")) {
      for (const Json& port : arrayAt(subset, "ports")) {
        all.push_back(json::stringAt(address, "ip") + ":" +
                      std::to_string(json::integerAt(port, "port")));
      }
    }
  }
  std::string text;
  for (std::size_t i = 0; i < all.size() && i < 3; ++i) text += (i == 0 ? "" : ",") + all[i];
  if (all.size() > 3) text += " + " + std::to_string(all.size() - 3) + " more...";
  return {orNone(text), age};
}

Cells sliceCells(const Json& o, const std::string& age, WallTime) {
  std::string ports;
  std::string endpoints;
  for (const Json& p : arrayAt(o, "ports")) {
    ports += (ports.empty() ? "" : ",") + std::to_string(json::integerAt(p, "port"));
  }
  std::size_t count = 0;
  for (const Json& e : arrayAt(o, "endpoints")) {
    for (const Json& a : arrayAt(e, "addresses")) {
      if (++count <= 3 && a.is_string()) {
        endpoints += (endpoints.empty() ? "" : ",") + a.get<std::string>();
      }
    }
  }
  if (count > 3) endpoints += " + " + std::to_string(count - 3) + " more...";
  return {json::stringAt(o, "addressType"), ports.empty() ? "<unset>" : ports,
          endpoints.empty() ? "<unset>" : endpoints, age};
}

Cells configMapCells(const Json& o, const std::string& age, WallTime) {
  return {sizeAt(o, "data") + sizeAt(o, "binaryData"), age};
}
Cells secretCells(const Json& o, const std::string& age, WallTime) {
  return {json::stringAt(o, "type"), sizeAt(o, "data"), age};
}
Cells accountCells(const Json& o, const std::string& age, WallTime) {
  return {sizeAt(o, "secrets"), age};
}

Cells nodeCells(const Json& o, const std::string& age, WallTime) {
  std::string status = "Unknown";
  for (const Json& c : arrayAt(o, "status.conditions")) {
    if (json::stringAt(c, "type") == "Ready") {
      status = json::stringAt(c, "status") == "True" ? "Ready" : "NotReady";
    }
  }
  if (json::boolAt(o, "spec.unschedulable")) status += ",SchedulingDisabled";
  std::string roles;
  const Json* labels = json::find(o, "metadata.labels");
  const std::string prefix = "node-role.kubernetes.io/";
  for (auto it = labels ? labels->begin() : Json::const_iterator(); labels && it != labels->end();
       ++it) {
    if (it.key().starts_with(prefix)) {
      roles += (roles.empty() ? "" : ",") + it.key().substr(prefix.size());
    }
  }
  std::string internal;
  std::string external;
  for (const Json& a : arrayAt(o, "status.addresses")) {
    if (json::stringAt(a, "type") == "InternalIP") internal = json::stringAt(a, "address");
    if (json::stringAt(a, "type") == "ExternalIP") external = json::stringAt(a, "address");
  }
  return {status,
          orNone(roles),
          age,
          json::stringAt(o, "status.nodeInfo.kubeletVersion"),
          orNone(internal),
          orNone(external),
          json::stringAt(o, "status.nodeInfo.osImage", "<unknown>"),
          json::stringAt(o, "status.nodeInfo.kernelVersion", "<unknown>"),
          json::stringAt(o, "status.nodeInfo.containerRuntimeVersion", "<unknown>")};
}

Cells eventCells(const Json& o, const std::string& age, WallTime now) {
  auto time = [&](std::string_view first, std::string_view second) {
    std::string t = json::stringAt(o, first, json::stringAt(o, second));
    return t.empty() ? age : ageOf(t, now);
  };
  std::string about = base::toLower(json::stringAt(o, "involvedObject.kind")) + "/" +
                      json::stringAt(o, "involvedObject.name");
  return {time("lastTimestamp", "eventTime"),
          json::stringAt(o, "type"),
          json::stringAt(o, "reason"),
          about,
          json::stringAt(o, "involvedObject.fieldPath"),
          json::stringAt(o, "source.component", json::stringAt(o, "reportingComponent")),
          std::string(base::trim(json::stringAt(o, "message"))),
          time("firstTimestamp", "eventTime"),
          json::integerAt(o, "count", 1),
          json::stringAt(o, "metadata.name")};
}

Cells withTemplate(const Json& o, Cells cells, const Json* selector) {
  const Json& containers = arrayAt(o, "spec.template.spec.containers");
  cells.emplace_back(joined(containers, "name"));
  cells.emplace_back(joined(containers, "image"));
  cells.emplace_back(labelsText(selector));
  return cells;
}
Cells deploymentCells(const Json& o, const std::string& age, WallTime) {
  return withTemplate(o,
                      {std::to_string(json::integerAt(o, "status.readyReplicas")) + "/" +
                           std::to_string(json::integerAt(o, "spec.replicas")),
                       json::integerAt(o, "status.updatedReplicas"),
                       json::integerAt(o, "status.availableReplicas"), age},
                      json::find(o, "spec.selector.matchLabels"));
}
Cells replicaSetCells(const Json& o, const std::string& age, WallTime) {
  return withTemplate(o,
                      {json::integerAt(o, "spec.replicas"), json::integerAt(o, "status.replicas"),
                       json::integerAt(o, "status.readyReplicas"), age},
                      json::find(o, "spec.selector.matchLabels"));
}
Cells statefulSetCells(const Json& o, const std::string& age, WallTime) {
  const Json& containers = arrayAt(o, "spec.template.spec.containers");
  return {std::to_string(json::integerAt(o, "status.readyReplicas")) + "/" +
              std::to_string(json::integerAt(o, "spec.replicas")),
          age, joined(containers, "name"), joined(containers, "image")};
}
Cells jobCells(const Json& o, const std::string& age, WallTime now) {
  std::string start = json::stringAt(o, "status.startTime");
  std::string end = json::stringAt(o, "status.completionTime");
  WallTime finished = now;
  if (!end.empty()) parseTime(end, finished);
  std::string status = "Running";
  for (const Json& c : arrayAt(o, "status.conditions")) {
    if (json::stringAt(c, "status") == "True") status = json::stringAt(c, "type");
  }
  return {status,
          std::to_string(json::integerAt(o, "status.succeeded")) + "/" +
              std::to_string(json::integerAt(o, "spec.completions", 1)),
          start.empty() ? "" : ageOf(start, finished), age};
}

Cells hpaCells(const Json& o, const std::string& age, WallTime) {
  std::string targets;
  const Json& current = arrayAt(o, "status.currentMetrics");
  for (const Json& m : arrayAt(o, "spec.metrics")) {
    std::string name = json::stringAt(m, "resource.name");
    std::string now_text = "<unknown>";
    for (const Json& c : current) {
      const Json* used = json::find(c, "resource.current.averageUtilization");
      if (json::stringAt(c, "resource.name") == name && used != nullptr) {
        now_text = json::dump(*used) + "%";
      }
    }
    std::string wanted =
        std::to_string(json::integerAt(m, "resource.target.averageUtilization")) + "%";
    targets += (targets.empty() ? "" : ", ") + name + ": " + now_text + "/" + wanted;
  }
  return {json::stringAt(o, "spec.scaleTargetRef.kind") + "/" +
              json::stringAt(o, "spec.scaleTargetRef.name"),
          targets.empty() ? "<none>" : targets,
          json::integerAt(o, "spec.minReplicas", 1),
          json::integerAt(o, "spec.maxReplicas"),
          json::integerAt(o, "status.currentReplicas"),
          age};
}

Cells pdbCells(const Json& o, const std::string& age, WallTime) {
  auto bound = [&](std::string_view path) -> Json {
    const Json* at = json::find(o, path);
    if (at == nullptr) return "N/A";
    return at->is_string() ? *at : Json(json::dump(*at));
  };
  return {bound("spec.minAvailable"), bound("spec.maxUnavailable"),
          json::integerAt(o, "status.disruptionsAllowed"), age};
}
Cells leaseCells(const Json& o, const std::string& age, WallTime) {
  return {json::stringAt(o, "spec.holderIdentity"), age};
}
Cells createdCells(const Json& o, const std::string&, WallTime) {
  return {json::stringAt(o, "metadata.creationTimestamp")};
}
Cells bindingCells(const Json& o, const std::string& age, WallTime) {
  std::map<std::string, std::string> subjects;
  for (const Json& s : arrayAt(o, "subjects")) {
    std::string kind = json::stringAt(s, "kind");
    std::string name = json::stringAt(s, "name");
    if (kind == "ServiceAccount") name = json::stringAt(s, "namespace") + "/" + name;
    subjects[kind] += (subjects[kind].empty() ? "" : ", ") + name;
  }
  return {json::stringAt(o, "roleRef.kind") + "/" + json::stringAt(o, "roleRef.name"), age,
          subjects["User"], subjects["Group"], subjects["ServiceAccount"]};
}
Cells webhookCells(const Json& o, const std::string& age, WallTime) {
  return {sizeAt(o, "webhooks"), age};
}
Cells ageCells(const Json&, const std::string& age, WallTime) { return {age}; }

const std::map<std::string, Printer, std::less<>>& printers() {
  const std::vector<PrinterColumn> created{{"Created At", "date"}};
  const std::vector<PrinterColumn> binding{{"Role"},
                                           {"Age"},
                                           {"Users", "string", 1},
                                           {"Groups", "string", 1},
                                           {"ServiceAccounts", "string", 1}};
  const std::vector<PrinterColumn> webhook{{"Webhooks", "integer"}, {"Age"}};
  const std::string rbac = "rbac.authorization.k8s.io/";
  static const std::map<std::string, Printer, std::less<>> table{
      {"/namespaces", {{{"Status"}, {"Age"}}, namespaceCells}},
      {"/pods",
       {{{"Ready"},
         {"Status"},
         {"Restarts"},
         {"Age"},
         {"IP", "string", 1},
         {"Node", "string", 1},
         {"Nominated Node", "string", 1},
         {"Readiness Gates", "string", 1}},
        podCells}},
      {"/services",
       {{{"Type"},
         {"Cluster-IP"},
         {"External-IP"},
         {"Port(s)"},
         {"Age"},
         {"Selector", "string", 1}},
        serviceCells}},
      {"/endpoints", {{{"Endpoints"}, {"Age"}}, endpointsCells}},
      {"discovery.k8s.io/endpointslices",
       {{{"AddressType"}, {"Ports"}, {"Endpoints"}, {"Age"}}, sliceCells}},
      {"/configmaps", {{{"Data", "integer"}, {"Age"}}, configMapCells}},
      {"/secrets", {{{"Type"}, {"Data", "integer"}, {"Age"}}, secretCells}},
      {"/serviceaccounts", {{{"Secrets", "integer"}, {"Age"}}, accountCells}},
      {"/nodes",
       {{{"Status"},
         {"Roles"},
         {"Age"},
         {"Version"},
         {"Internal-IP", "string", 1},
         {"External-IP", "string", 1},
         {"OS-Image", "string", 1},
         {"Kernel-Version", "string", 1},
         {"Container-Runtime", "string", 1}},
        nodeCells}},
      {"/events",
       {{{"Last Seen"},
         {"Type"},
         {"Reason"},
         {"Object"},
         {"Subobject", "string", 1},
         {"Source", "string", 1},
         {"Message"},
         {"First Seen", "string", 1},
         {"Count", "integer", 1},
         {"Name", "string", 1}},
        eventCells}},
      {"apps/deployments",
       {{{"Ready"},
         {"Up-to-date", "integer"},
         {"Available", "integer"},
         {"Age"},
         {"Containers", "string", 1},
         {"Images", "string", 1},
         {"Selector", "string", 1}},
        deploymentCells}},
      {"apps/replicasets",
       {{{"Desired", "integer"},
         {"Current", "integer"},
         {"Ready", "integer"},
         {"Age"},
         {"Containers", "string", 1},
         {"Images", "string", 1},
         {"Selector", "string", 1}},
        replicaSetCells}},
      {"apps/statefulsets",
       {{{"Ready"}, {"Age"}, {"Containers", "string", 1}, {"Images", "string", 1}},
        statefulSetCells}},
      {"batch/jobs", {{{"Status"}, {"Completions"}, {"Duration"}, {"Age"}}, jobCells}},
      {"autoscaling/horizontalpodautoscalers",
       {{{"Reference"},
         {"Targets"},
         {"MinPods"},
         {"MaxPods", "integer"},
         {"Replicas", "integer"},
         {"Age"}},
        hpaCells}},
      {"policy/poddisruptionbudgets",
       {{{"Min Available"}, {"Max Unavailable"}, {"Allowed Disruptions", "integer"}, {"Age"}},
        pdbCells}},
      {"coordination.k8s.io/leases", {{{"Holder"}, {"Age"}}, leaseCells}},
      {"apiextensions.k8s.io/customresourcedefinitions", {created, createdCells}},
      {rbac + "roles", {created, createdCells}},
      {rbac + "clusterroles", {created, createdCells}},
      {rbac + "rolebindings", {binding, bindingCells}},
      {rbac + "clusterrolebindings", {binding, bindingCells}},
      {"admissionregistration.k8s.io/mutatingwebhookconfigurations", {webhook, webhookCells}},
      {"admissionregistration.k8s.io/validatingwebhookconfigurations", {webhook, webhookCells}}};
  return table;
}

}  // namespace

const Printer& printerOf(const schema::Kind& kind) {
  static const Printer fallback{{{"Age"}}, ageCells};
  auto it = printers().find(kind.storage);
  return it == printers().end() ? fallback : it->second;
}

std::string podStatus(const Json& pod) {
  std::string status = json::stringAt(pod, "status.reason", json::stringAt(pod, "status.phase"));
  const Json& init = arrayAt(pod, "status.initContainerStatuses");
  bool initializing = false;
  for (std::size_t i = 0; i < init.size() && !initializing; ++i) {
    const Json& c = init[i];
    const Json* terminated = json::find(c, "state.terminated");
    if (terminated != nullptr && json::integerAt(*terminated, "exitCode") == 0) continue;
    if (json::boolAt(c, "started") && json::find(c, "state.running") != nullptr &&
        json::boolAt(c, "ready")) {
      continue;  // a sidecar init container that runs
    }
    initializing = true;
    std::string waiting = json::stringAt(c, "state.waiting.reason");
    if (terminated != nullptr) {
      std::string reason = json::stringAt(*terminated, "reason");
      status = reason.empty()
                   ? "Init:ExitCode:" + std::to_string(json::integerAt(*terminated, "exitCode"))
                   : "Init:" + reason;
    } else if (!waiting.empty() && waiting != "PodInitializing") {
      status = "Init:" + waiting;
    } else {
      status =
          "Init:" + std::to_string(i) + "/" + std::to_string(sizeAt(pod, "spec.initContainers"));
    }
  }
  if (!initializing) {
    bool running = false;
    const Json& containers = arrayAt(pod, "status.containerStatuses");
    for (std::size_t i = containers.size(); i-- > 0;) {
      const Json& c = containers[i];
      std::string waiting = json::stringAt(c, "state.waiting.reason");
      const Json* terminated = json::find(c, "state.terminated");
      if (!waiting.empty()) {
        status = waiting;
      } else if (terminated != nullptr) {
        status = json::stringAt(*terminated, "reason");
        long long signal = json::integerAt(*terminated, "signal");
        if (status.empty()) {
          status = signal != 0
                       ? "Signal:" + std::to_string(signal)
                       : "ExitCode:" + std::to_string(json::integerAt(*terminated, "exitCode"));
        }
      } else if (json::boolAt(c, "ready") && json::find(c, "state.running") != nullptr) {
        running = true;
      }
    }
    if (status == "Completed" && running) {
      bool ready = false;
      for (const Json& c : arrayAt(pod, "status.conditions")) {
        ready = ready ||
                (json::stringAt(c, "type") == "Ready" && json::stringAt(c, "status") == "True");
      }
      status = ready ? "Running" : "NotReady";
    }
  }
  if (!json::stringAt(pod, "metadata.deletionTimestamp").empty()) status = "Terminating";
  return status.empty() ? "Unknown" : status;
}

}  // namespace postern::apiserver
