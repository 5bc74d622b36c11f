#include "control/control.h"

#include "base/log.h"
#include "control/authenticator.h"
#include "control/mesh_ca.h"
#include "control/monitoring.h"
#include "control/status_writer.h"
#include "control/webhooks.h"
#include "discovery/lookup.h"
#include "discovery/watcher.h"
#include "discovery/xds_source.h"
#include "model/findings.h"
#include "model/validate.h"
#include "operator/mesh_defaults.h"
#include "operator/mesh_validate.h"
#include "operator/operator.h"

#include <nlohmann/json.hpp>

namespace postern::control {
namespace {

using json::Json;

base::LogComponent kControlLog("control");

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
    POSTERN_TRY_VOID(serveDiscovery(root));
    statuses_ = StatusWriter::start(loop_, *client_);
    watcher_ = std::make_unique<discovery::Watcher>(
        loop_, *client_,
        [this](const std::shared_ptr<const discovery::Snapshot>& snapshot,
               const discovery::Sources& sources) {
          source_.update(snapshot);
          acceptProxies();
          statuses_->update(snapshot, sources);
        });
    kControlLog.info("control plane runs in namespace {}: discovery on {} and {}, webhooks on {}",
                     options_.mesh_namespace, options_.discovery_address.toString(),
                     options_.local_address.toString(), options_.webhook_address.toString());
    return {};
  }

 private:
  base::ConfigResult<std::shared_ptr<const tls::ServerContext>> servingContext(
      const tls::KeyPair& root, std::vector<std::string> alpn) const {
    auto serving = issueServingCertificate(root, options_.mesh_namespace);
    if (!serving) return base::failConfig("serving certificate", serving.error().message());
    tls::ServerOptions tls_options;
    tls_options.certificate_chain_pem = serving->certificate_pem;
    tls_options.private_key_pem = serving->private_key_pem;
    tls_options.alpn = std::move(alpn);
    return tls::ServerContext::make(tls_options);
  }

  static base::ConfigResult<base::Fd> listenOn(const net::Address& address, const char* what) {
    auto listener = net::listenSocket(address);
    if (listener) return std::move(*listener);
    return base::failConfig(std::string(what) + " address " + address.toString(),
                            listener.error().message());
  }

  /// ADS with TLS and tokens, ADS in cleartext for the own host only, monitoring.
  base::ConfigResult<void> serveDiscovery(const tls::KeyPair& root) {
    if (!options_.local_address.isLoopback()) {
      return base::failConfig("local discovery address " + options_.local_address.toString(),
                              "must be a loopback address: it asks for no credentials");
    }
    source_.setOnChanged([this](discovery::XdsSource::ProxyId proxy) { xds_.changed(proxy); });
    authenticator_ = Authenticator::start(loop_, *client_);
    http::GrpcServer::Options secure;
    POSTERN_TRY(secure.tls, servingContext(root, {"h2"}));
    POSTERN_TRY(base::Fd secure_listener, listenOn(options_.discovery_address, "discovery"));
    POSTERN_TRY(base::Fd local_listener, listenOn(options_.local_address, "local discovery"));
    POSTERN_TRY(base::Fd monitoring_listener, listenOn(options_.monitoring_address, "monitoring"));
    secure_ = http::GrpcServer::make(loop_, std::move(secure));
    xds_.registerAt(*secure_, [this](const http::HeaderMap& headers, xds::Server::Verdict verdict) {
      authenticator_->admit(headers, std::move(verdict));
    });
    local_ = http::GrpcServer::make(loop_, {});
    xds_.registerAt(*local_);
    // Proxies that come before the configuration is read wait in the kernel's queue.
    waiting_.push_back(std::move(secure_listener));
    waiting_.push_back(std::move(local_listener));
    monitoring_ = Monitoring::start(loop_, std::move(monitoring_listener), source_,
                                    [this] { return source_.ready(); });
    return {};
  }

  void acceptProxies() {
    if (waiting_.empty()) return;
    secure_->listen(std::move(waiting_[0]));
    local_->listen(std::move(waiting_[1]));
    waiting_.clear();
  }

  base::ConfigResult<void> serveWebhooks(const tls::KeyPair& root) {
    POSTERN_TRY(auto context, servingContext(root, {"http/1.1"}));
    POSTERN_TRY(base::Fd listener, listenOn(options_.webhook_address, "webhook"));
    webhooks_ = WebhookServer::start(
        loop_, std::move(listener), std::move(context), *namespaces_,
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
    out.enabled = json::boolAt(spec, "sidecarInjector.enabled", true);
    return out;
  }

  /// True for a new mesh beside another one; what is stored may go on changing.
  bool isSecondMesh(const Json& object) const {
    const std::string key = kube::keyOf(object);
    bool other = false;
    for (const auto& each : meshes_->list()) {
      if (kube::keyOf(*each) == key) return false;
      other = true;
    }
    return other;
  }

  Verdict validate(const Json& object) const {
    const std::string kind = json::stringAt(object, "kind");
    Verdict out;
    for (const auto& each : model::validate(kind, object)) out.errors.push_back(each.message());
    for (const auto& each : op::validateMesh(kind, object)) out.errors.push_back(each.message());
    if (kind == "Istio" && isSecondMesh(object)) {
      out.errors.emplace_back("istio config resource already exists");
    }
    std::unique_ptr<discovery::SnapshotLookup> lookup;
    if (source_.ready()) {
      lookup = std::make_unique<discovery::SnapshotLookup>(source_.distributor().snapshot());
    }
    for (const auto& each : model::findings(kind, object, lookup.get()))
      out.warnings.push_back(each.message());
    for (const auto& each : op::meshWarnings(kind, object)) out.warnings.push_back(each.message());
    return out;
  }

  event::Loop& loop_;
  Options options_;
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<kube::Informer> namespaces_;
  std::unique_ptr<kube::Informer> meshes_;
  discovery::XdsSource source_;  // loop thread, as all below but the operator
  xds::Server xds_{source_};
  std::unique_ptr<Authenticator> authenticator_;
  std::unique_ptr<RootDistributor> distributor_;
  std::unique_ptr<op::Operator> operator_;
  std::unique_ptr<StatusWriter> statuses_;
  std::unique_ptr<discovery::Watcher> watcher_;
  std::unique_ptr<WebhookServer> webhooks_;
  std::unique_ptr<http::GrpcServer> secure_;
  std::unique_ptr<http::GrpcServer> local_;
  std::vector<base::Fd> waiting_;  // listeners of secure_ and local_
  std::unique_ptr<Monitoring> monitoring_;
};

}  // namespace

base::ConfigResult<std::unique_ptr<Control>> Control::start(event::Loop& loop, Options options) {
  auto control = std::make_unique<ControlImpl>(loop, std::move(options));
  POSTERN_TRY_VOID(control->open());
  return control;
}

}  // namespace postern::control
