#include "operator/operator.h"

#include "base/log.h"
#include "kube/controller.h"
#include "operator/gateway_objects.h"
#include "operator/mesh_config.h"
#include "operator/mesh_defaults.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <vector>

namespace postern::op {
namespace {

using json::Json;
using kube::ApiError;
using kube::Outcome;

base::LogComponent kLog("operator");

constexpr const char* kFieldManager = "postern-operator";
constexpr std::chrono::seconds kPendingRetry{30};

const kube::ResourceType* typeOf(const Json& object) {
  using namespace kube::types;
  const std::string kind = object.value("kind", "");
  for (const kube::ResourceType* type : {&kServiceAccount, &kRole, &kRoleBinding, &kDeployment,
                                         &kService, &kHpa, &kPdb, &kMeshGateway, &kConfigMap}) {
    if (type->kind == kind) return type;
  }
  return nullptr;
}

std::string describe(const Json& object) {
  return object.value("kind", "") + " " + json::stringAt(object, "metadata.namespace") + "/" +
         json::stringAt(object, "metadata.name");
}

struct Address {
  std::vector<std::string> ips;
  std::string pending;  // reason there is none yet
};

Address addressOf(const Json& service) {
  Address out;
  const std::string type = json::stringAt(service, "spec.type");
  if (type == "NodePort") return out;
  if (type == "LoadBalancer") {
    if (const Json* ingress = json::find(service, "status.loadBalancer.ingress");
        ingress != nullptr) {
      for (const Json& each : *ingress) {
        std::string ip = each.value("ip", each.value("hostname", ""));
        if (!ip.empty()) out.ips.push_back(std::move(ip));
      }
    }
    if (out.ips.empty())
      out.pending = "gateway address is pending: the Service has no load balancer address yet";
    return out;
  }
  std::string ip = json::stringAt(service, "spec.clusterIP");
  if (!ip.empty() && ip != "None") out.ips.push_back(std::move(ip));
  return out;
}

/// Why the Deployment is not available, or "".
std::string unavailable(const Json& deployment) {
  const long long wanted = json::integerAt(deployment, "spec.replicas", 1);
  const long long ready = json::integerAt(deployment, "status.readyReplicas", 0);
  const bool observed = json::integerAt(deployment, "status.observedGeneration", 0) >=
                        json::integerAt(deployment, "metadata.generation", 0);
  if (wanted == 0) return "Deployment is scaled to 0";
  if (observed && ready >= 1) return "";
  return "waiting for gateway pods: " + std::to_string(ready) + " of " + std::to_string(wanted) +
         " ready";
}

class OperatorImpl final : public Operator {
 public:
  explicit OperatorImpl(kube::Client& client) : client_(client) {
    meshes_ = kube::Informer::start(client, kube::types::kIstio);
    gateways_ = kube::Informer::start(client, kube::types::kMeshGateway);
    deployments_ = kube::Informer::start(client, kube::types::kDeployment);
    services_ = kube::Informer::start(client, kube::types::kService);
    gateway_controller_ = kube::Controller::start(
        "meshgateway", [this](const std::string& key) { return gateway(key); });
    mesh_controller_ =
        kube::Controller::start("istio", [this](const std::string& key) { return mesh(key); });
    gateway_controller_->watch(*gateways_);
    gateway_controller_->watchOwned(*deployments_, kube::types::kMeshGateway);
    gateway_controller_->watchOwned(*services_, kube::types::kMeshGateway);
    // A change of the mesh (proxy image, domain, log) concerns all its gateways. The handler ends
    // with the informer of the meshes, which is destroyed before that of the gateways.
    gateway_controller_->watchMapped(*meshes_, [this](const Json&) {
      std::vector<std::string> keys;
      for (const auto& each : gateways_->list()) keys.push_back(kube::keyOf(*each));
      return keys;
    });
    mesh_controller_->watch(*meshes_);
    mesh_controller_->watchOwned(*gateways_, kube::types::kIstio);
  }
  ~OperatorImpl() override {
    mesh_controller_.reset();
    gateway_controller_.reset();
    meshes_.reset();
  }

 private:
  kube::ObjectPtr oldestMesh() const {
    kube::ObjectPtr oldest;
    for (const auto& each : meshes_->list()) {
      if (!oldest || json::stringAt(*each, "metadata.creationTimestamp") <
                         json::stringAt(*oldest, "metadata.creationTimestamp")) {
        oldest = each;
      }
    }
    return oldest;
  }

  Outcome gateway(const std::string& key) {
    auto [ns, name] = kube::splitKey(key);
    kube::ObjectPtr object = gateways_->get(ns, name);
    if (!object || json::find(*object, "metadata.deletionTimestamp") != nullptr)
      return Outcome::done();
    kube::ObjectPtr mesh_object = oldestMesh();
    if (!mesh_object) {
      setStatus(kube::types::kMeshGateway, *object, "Reconciling", {},
                "no Istio resource was found in the cluster");
      return Outcome::later(kPendingRetry);
    }
    const Json mesh_spec = defaultedMeshSpec(mesh_object->value("spec", Json::object()));
    for (const Json& wanted :
         gatewayObjects(*object, mesh_spec, json::stringAt(*mesh_object, "metadata.namespace"))) {
      auto applied =
          client_.apply(*typeOf(wanted), wanted,
                        {.field_manager = kFieldManager, .subresource = "", .force = true});
      if (!applied) return failed(kube::types::kMeshGateway, *object, wanted, applied.error());
    }
    kube::ObjectPtr service = services_->get(ns, name);
    kube::ObjectPtr deployment = deployments_->get(ns, name);
    if (!service || !deployment)
      return Outcome::later(std::chrono::milliseconds(20));  // the informer is a moment behind
    Address address = addressOf(*service);
    std::string reason = address.pending.empty() ? unavailable(*deployment) : address.pending;
    setStatus(kube::types::kMeshGateway, *object, reason.empty() ? "Available" : "Reconciling",
              address.ips, reason);
    return reason.empty() ? Outcome::done() : Outcome::later(kPendingRetry);
  }

  Outcome mesh(const std::string& key) {
    auto [ns, name] = kube::splitKey(key);
    kube::ObjectPtr object = meshes_->get(ns, name);
    if (!object || json::find(*object, "metadata.deletionTimestamp") != nullptr)
      return Outcome::done();
    if (Outcome outcome = persistDefaults(*object); outcome.what != Outcome::What::kDone)
      return outcome;
    const Json config =
        meshConfigMap(*object, defaultedMeshSpec(object->value("spec", Json::object())));
    auto written =
        client_.apply(kube::types::kConfigMap, config,
                      {.field_manager = kFieldManager, .subresource = "", .force = true});
    if (!written) return failed(kube::types::kIstio, *object, config, written.error());
    std::vector<std::string> addresses;
    std::string reason;
    for (const char* type : {"ingress", "egress"}) {
      Json wanted = mainGateway(*object, type);
      const std::string gateway_name = std::string(type) == "ingress" ? kIngressName : kEgressName;
      if (wanted.is_null()) {
        if (gateways_->get(ns, gateway_name))
          client_.remove(kube::types::kMeshGateway, ns, gateway_name);
        continue;
      }
      wanted["metadata"]["ownerReferences"] =
          Json::array({{{"apiVersion", kube::types::kIstio.apiVersion()},
                        {"kind", "Istio"},
                        {"name", name},
                        {"uid", json::stringAt(*object, "metadata.uid")},
                        {"controller", true},
                        {"blockOwnerDeletion", true}}});
      auto applied =
          client_.apply(kube::types::kMeshGateway, wanted,
                        {.field_manager = kFieldManager, .subresource = "", .force = true});
      if (!applied) return failed(kube::types::kIstio, *object, wanted, applied.error());
      kube::ObjectPtr current = gateways_->get(ns, gateway_name);
      if (!current || json::stringAt(*current, "status.Status") != "Available") {
        std::string why = current ? json::stringAt(*current, "status.ErrorMessage") : "";
        reason = gateway_name + ": " + (why.empty() ? "not available yet" : why);
      }
      if (current && std::string(type) == "ingress") {
        for (const Json& ip : json::find(*current, "status.GatewayAddress") != nullptr
                                  ? *json::find(*current, "status.GatewayAddress")
                                  : Json::array()) {
          addresses.push_back(ip.get<std::string>());
        }
      }
    }
    setStatus(kube::types::kIstio, *object, reason.empty() ? "Available" : "Reconciling", addresses,
              reason);
    return Outcome::done();
  }

  /// Writes the defaults into the mesh, so that `get istio mesh -o yaml` shows what runs.
  Outcome persistDefaults(const Json& object) {
    const Json spec = object.value("spec", Json::object());
    const Json wanted = defaultedMeshSpec(spec);
    if (wanted == spec) return Outcome::done();
    Json changed = object;
    changed["spec"] = wanted;
    auto updated =
        client_.update(kube::types::kIstio, json::stringAt(object, "metadata.namespace"), changed,
                       {.field_manager = kFieldManager, .subresource = "", .force = false});
    if (!updated && !updated.error().conflict() && !updated.error().notFound()) {
      kLog.warning("{}: defaults not written: {}", describe(object), updated.error().message);
    }
    return updated ? Outcome::later(std::chrono::milliseconds(1)) : Outcome::retry();
  }

  Outcome failed(const kube::ResourceType& type, const Json& object, const Json& wanted,
                 const ApiError& error) {
    std::string text = "failed to reconcile resource: " + describe(wanted) + ": " + error.message;
    kLog.warning("{}: {}", describe(object), text);
    setStatus(type, object, "ReconcileFailed", {}, text);
    return Outcome::retry();
  }

  void setStatus(const kube::ResourceType& type, const Json& object, const std::string& state,
                 const std::vector<std::string>& addresses, const std::string& message) {
    Json status = {{"Status", state}, {"ErrorMessage", message}, {"GatewayAddress", addresses}};
    if (addresses.empty()) {
      // Keep the last known addresses: they are stable across restarts.
      const Json* known = json::find(object, "status.GatewayAddress");
      status["GatewayAddress"] = known != nullptr && state != "Available" ? *known : Json::array();
    }
    if (object.value("status", Json::object()) == status) return;
    auto patched = client_.patch(
        type, json::stringAt(object, "metadata.namespace"), json::stringAt(object, "metadata.name"),
        kube::PatchType::kMerge, {{"status", status}},
        {.field_manager = kFieldManager, .subresource = "status", .force = false});
    if (!patched && !patched.error().notFound()) {
      kLog.warning("{}: status not written: {}", describe(object), patched.error().message);
    }
  }

  kube::Client& client_;
  std::unique_ptr<kube::Informer> meshes_;
  std::unique_ptr<kube::Informer> gateways_;
  std::unique_ptr<kube::Informer> deployments_;
  std::unique_ptr<kube::Informer> services_;
  std::unique_ptr<kube::Controller> gateway_controller_;
  std::unique_ptr<kube::Controller> mesh_controller_;
};

}  // namespace

std::unique_ptr<Operator> Operator::start(kube::Client& client) {
  return std::make_unique<OperatorImpl>(client);
}

}  // namespace postern::op
