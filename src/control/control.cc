#include "control/control.h"

#include "base/log.h"
#include "control/mesh_ca.h"
#include "control/webhooks.h"
#include "discovery/lookup.h"
#include "discovery/watcher.h"
#include "model/validate.h"
#include "operator/mesh_defaults.h"
#include "operator/mesh_validate.h"
#include "operator/operator.h"

#include <nlohmann/json.hpp>

namespace postern::control {
namespace {

using json::Json;

base::LogComponent kLog("control");

constexpr std::chrono::seconds kSyncTimeout{30};

class ControlImpl final : public Control {
 public:
  ControlImpl(event::Loop& loop, Options options) : loop_(loop), options_(std::move(options)) {}

  base::ConfigResult<void> open() {
    POSTERN_TRY(client_, kube::Client::make(options_.kubernetes));
    POSTERN_TRY(tls::KeyPair root, loadOrCreateRoot(*client_, options_.mesh_namespace));
    namespaces_ = kube::Informer::start(*client_, kube::types::kNamespace);
    meshes_ = kube::Informer::start(*client_, kube::types::kIstio);
    if (!namespaces_->waitSynced(kSyncTimeout) || !meshes_->waitSynced(kSyncTimeout)) {
      return base::failConfig("", "the API server did not list namespaces and meshes in time");
    }
    POSTERN_TRY_VOID(serveWebhooks(root));
    auto registered = registerWebhooks(*client_, options_.mesh_namespace, root.certificate_pem);
    if (!registered) return base::failConfig("webhook configuration", registered.error().message);
    distributor_ = RootDistributor::start(*client_, *namespaces_, root.certificate_pem);
    operator_ = op::Operator::start(*client_);
    watcher_ = std::make_unique<discovery::Watcher>(
        loop_, *client_, [this](std::shared_ptr<const discovery::Snapshot> snapshot) {
          snapshot_ = std::move(snapshot);
        });
    kLog.info("control plane runs in namespace {}, webhooks on {}", options_.mesh_namespace,
              options_.webhook_address.toString());
    return {};
  }

 private:
  base::ConfigResult<void> serveWebhooks(const tls::KeyPair& root) {
    auto serving = issueServingCertificate(root, options_.mesh_namespace);
    if (!serving) return base::failConfig("serving certificate", serving.error().message());
    tls::ServerOptions tls_options;
    tls_options.certificate_chain_pem = serving->certificate_pem;
    tls_options.private_key_pem = serving->private_key_pem;
    tls_options.alpn = {"http/1.1"};
    POSTERN_TRY(auto context, tls::ServerContext::make(tls_options));
    auto listener = net::listenSocket(options_.webhook_address);
    if (!listener) {
      return base::failConfig("webhook address " + options_.webhook_address.toString(),
                              listener.error().message());
    }
    webhooks_ = WebhookServer::start(
        loop_, std::move(*listener), std::move(context), *namespaces_,
        [this] { return injectorConfig(); },
        [this](const Json& object) { return validate(object); });
    return {};
  }

  inject::InjectorConfig injectorConfig() const {
    inject::InjectorConfig out;
    out.mesh_namespace = options_.mesh_namespace;
    auto meshes = meshes_->list(options_.mesh_namespace);
    const Json spec = op::defaultedMeshSpec(
        meshes.empty() ? Json::object() : meshes.front()->value("spec", Json::object()));
    out.proxy_image = json::stringAt(spec, "proxy.image");
    out.cluster_domain = json::stringAt(spec, "proxy.clusterDomain");
    out.image_pull_policy = json::stringAt(spec, "imagePullPolicy");
    out.cluster_id = json::stringAt(spec, "clusterName", "Kubernetes");
    return out;
  }

  Verdict validate(const Json& object) const {
    const std::string kind = json::stringAt(object, "kind");
    Verdict out;
    for (const auto& each : model::validate(kind, object)) out.errors.push_back(each.message());
    for (const auto& each : op::validateMesh(kind, object)) out.errors.push_back(each.message());
    std::unique_ptr<discovery::SnapshotLookup> lookup;
    if (snapshot_) lookup = std::make_unique<discovery::SnapshotLookup>(snapshot_);
    for (const auto& each : model::warnings(kind, object, lookup.get()))
      out.warnings.push_back(each.message());
    return out;
  }

  event::Loop& loop_;
  Options options_;
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<kube::Informer> namespaces_;
  std::unique_ptr<kube::Informer> meshes_;
  std::shared_ptr<const discovery::Snapshot> snapshot_;  // loop thread
  std::unique_ptr<RootDistributor> distributor_;
  std::unique_ptr<op::Operator> operator_;
  std::unique_ptr<discovery::Watcher> watcher_;
  std::unique_ptr<WebhookServer> webhooks_;
};

}  // namespace

base::ConfigResult<std::unique_ptr<Control>> Control::start(event::Loop& loop, Options options) {
  auto control = std::make_unique<ControlImpl>(loop, std::move(options));
  POSTERN_TRY_VOID(control->open());
  return control;
}

}  // namespace postern::control
