#include "control/mesh_ca.h"

#include "base/log.h"
#include "base/strings.h"
#include "kube/controller.h"

#include <nlohmann/json.hpp>

namespace postern::control {
namespace {

using json::Json;

base::LogComponent kCaLog("ca");

constexpr const char* kSecretName = "istio-ca-secret";
constexpr const char* kConfigMapName = "istio-ca-root-cert";
constexpr const char* kCertificateKey = "ca-cert.pem";
constexpr const char* kPrivateKey = "ca-key.pem";
constexpr std::chrono::hours kRootLifetime{24 * 3650};
constexpr std::chrono::hours kServingLifetime{24 * 365};

base::ConfigResult<tls::KeyPair> fromSecret(const Json& secret) {
  const Json data = secret.value("data", Json::object());
  auto certificate = base::base64Decode(data.value(kCertificateKey, ""));
  auto key = base::base64Decode(data.value(kPrivateKey, ""));
  if (!certificate || certificate->empty() || !key || key->empty()) {
    return base::failConfig("Secret istio-ca-secret",
                            "data has no usable ca-cert.pem and ca-key.pem");
  }
  return tls::KeyPair{*certificate, *key};
}

class RootDistributorImpl final : public RootDistributor {
 public:
  RootDistributorImpl(kube::Client& client, kube::Informer& namespaces, std::string root_pem)
      : client_(client), namespaces_(namespaces), root_pem_(std::move(root_pem)) {
    maps_ = kube::Informer::start(
        client, kube::types::kConfigMap, "",
        {.label_selector = "", .field_selector = std::string("metadata.name=") + kConfigMapName});
    controller_ = kube::Controller::start(
        "root-certificate", [this](const std::string& key) { return reconcile(key); });
    controller_->watch(namespaces);
    controller_->watchMapped(*maps_, [](const Json& object) {
      return std::vector<std::string>{json::stringAt(object, "metadata.namespace")};
    });
  }
  ~RootDistributorImpl() override { controller_.reset(); }

 private:
  kube::Outcome reconcile(const std::string& ns) {
    kube::ObjectPtr object = namespaces_.get("", ns);
    if (!object || json::stringAt(*object, "status.phase") == "Terminating")
      return kube::Outcome::done();
    kube::ObjectPtr current = maps_->get(ns, kConfigMapName);
    if (current && current->contains("data") &&
        (*current)["data"].value("root-cert.pem", "") == root_pem_) {
      return kube::Outcome::done();
    }
    Json wanted = {{"metadata", {{"name", kConfigMapName}, {"namespace", ns}}},
                   {"data", {{"root-cert.pem", root_pem_}}}};
    auto applied = client_.apply(kube::types::kConfigMap, wanted,
                                 {.field_manager = "postern-ca", .subresource = "", .force = true});
    if (applied || applied.error().notFound()) return kube::Outcome::done();
    kCaLog.warning("ConfigMap {}/{}: {}", ns, kConfigMapName, applied.error().message);
    return kube::Outcome::retry();
  }

  kube::Client& client_;
  kube::Informer& namespaces_;
  std::string root_pem_;
  std::unique_ptr<kube::Informer> maps_;
  std::unique_ptr<kube::Controller> controller_;
};

}  // namespace

base::ConfigResult<tls::KeyPair> loadOrCreateRoot(kube::Client& client,
                                                  const std::string& mesh_namespace) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto secret = client.get(kube::types::kSecret, mesh_namespace, kSecretName);
    if (secret) return fromSecret(*secret);
    if (!secret.error().notFound())
      return base::failConfig("Secret istio-ca-secret", secret.error().message);
    auto root = tls::makeRoot("cluster.local", kRootLifetime);
    if (!root) return base::failConfig("", root.error().message());
    Json wanted = {{"metadata", {{"name", kSecretName}, {"namespace", mesh_namespace}}},
                   {"type", "istio.io/ca-root"},
                   {"data",
                    {{kCertificateKey, base::base64Encode(root->certificate_pem)},
                     {kPrivateKey, base::base64Encode(root->private_key_pem)}}}};
    auto created = client.create(kube::types::kSecret, mesh_namespace, wanted);
    if (created) {
      kCaLog.info("created the mesh root certificate");
      return *root;
    }
    if (!created.error().alreadyExists())
      return base::failConfig("Secret istio-ca-secret", created.error().message);
  }
  return base::failConfig("Secret istio-ca-secret", "appeared and vanished while it was read");
}

base::Result<tls::KeyPair> issueServingCertificate(const tls::KeyPair& root,
                                                   const std::string& mesh_namespace) {
  tls::CertificateRequest request;
  request.common_name = "istiod." + mesh_namespace + ".svc";
  request.lifetime = kServingLifetime;
  for (const char* service : {"istiod", "istio-pilot"}) {
    for (const char* suffix : {"", ".svc", ".svc.cluster.local"}) {
      request.dns_names.push_back(std::string(service) + "." + mesh_namespace + suffix);
    }
  }
  request.dns_names.push_back("localhost");
  request.ip_addresses = {"127.0.0.1"};
  return tls::issue(root, request);
}

std::unique_ptr<RootDistributor> RootDistributor::start(kube::Client& client,
                                                        kube::Informer& namespaces,
                                                        std::string root_pem) {
  return std::make_unique<RootDistributorImpl>(client, namespaces, std::move(root_pem));
}

}  // namespace postern::control
