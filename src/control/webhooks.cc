#include "control/webhooks.h"

#include "base/log.h"
#include "base/strings.h"

#include <nlohmann/json.hpp>

namespace postern::control {
namespace {

using json::Json;

base::LogComponent kWebhookLog("webhook");

Json review(const std::string& uid, Json response) {
  response["uid"] = uid;
  return {{"apiVersion", "admission.k8s.io/v1"},
          {"kind", "AdmissionReview"},
          {"response", std::move(response)}};
}

Json clientConfig(const std::string& mesh_namespace, const char* path,
                  const std::string& root_pem) {
  return {{"service",
           {{"name", "istiod"}, {"namespace", mesh_namespace}, {"path", path}, {"port", 443}}},
          {"caBundle", base::base64Encode(root_pem)}};
}

Json injectorConfiguration(const std::string& mesh_namespace, const std::string& root_pem) {
  Json rules = Json::array({{{"apiGroups", {""}},
                             {"apiVersions", {"v1"}},
                             {"operations", {"CREATE"}},
                             {"resources", {"pods"}},
                             {"scope", "*"}}});
  // Two entries cover the ways to ask for a sidecar: a labelled namespace, and a pod's own label
  // elsewhere.
  auto webhook = [&](const char* name, Json namespaces, Json objects) {
    return Json{{"name", name},
                {"admissionReviewVersions", {"v1"}},
                {"clientConfig", clientConfig(mesh_namespace, "/inject", root_pem)},
                {"failurePolicy", "Fail"},
                {"sideEffects", "None"},
                {"timeoutSeconds", 10},
                {"rules", rules},
                {"namespaceSelector", std::move(namespaces)},
                {"objectSelector", std::move(objects)}};
  };
  Json by_namespace = webhook(
      "namespace.sidecar-injector.istio.io", {{"matchLabels", {{"istio-injection", "enabled"}}}},
      {{"matchExpressions", Json::array({{{"key", "sidecar.istio.io/inject"},
                                          {"operator", "NotIn"},
                                          {"values", {"false"}}}})}});
  Json by_pod =
      webhook("object.sidecar-injector.istio.io",
              {{"matchExpressions",
                Json::array({{{"key", "istio-injection"}, {"operator", "DoesNotExist"}}})}},
              {{"matchLabels", {{"sidecar.istio.io/inject", "true"}}}});
  return {
      {"apiVersion", "admissionregistration.k8s.io/v1"},
      {"kind", "MutatingWebhookConfiguration"},
      {"metadata", {{"name", "istio-sidecar-injector"}, {"labels", {{"app", "sidecar-injector"}}}}},
      {"webhooks", Json::array({by_namespace, by_pod})}};
}

Json validatorConfiguration(const std::string& mesh_namespace, const std::string& root_pem) {
  auto rule = [](const char* group) {
    return Json{{"apiGroups", {group}},
                {"apiVersions", {"*"}},
                {"operations", {"CREATE", "UPDATE"}},
                {"resources", {"*"}},
                {"scope", "*"}};
  };
  return {{"apiVersion", "admissionregistration.k8s.io/v1"},
          {"kind", "ValidatingWebhookConfiguration"},
          {"metadata",
           {{"name", "istio-validator-" + mesh_namespace}, {"labels", {{"app", "istiod"}}}}},
          {"webhooks",
           Json::array({{{"name", "rev.validation.istio.io"},
                         {"admissionReviewVersions", {"v1"}},
                         {"clientConfig", clientConfig(mesh_namespace, "/validate", root_pem)},
                         {"failurePolicy", "Fail"},
                         {"sideEffects", "None"},
                         {"timeoutSeconds", 10},
                         {"rules", Json::array({rule("networking.istio.io"),
                                                rule("istio.banzaicloud.io")})}}})}};
}

class WebhookServerImpl final : public WebhookServer {
 public:
  WebhookServerImpl(event::Loop& loop, base::Fd listener,
                    std::shared_ptr<const tls::ServerContext> tls, kube::Informer& namespaces,
                    std::function<inject::InjectorConfig()> config, Validator validator)
      : namespaces_(namespaces), config_(std::move(config)), validator_(std::move(validator)) {
    http::Server::Options options;
    options.tls = std::move(tls);
    server_ = http::Server::make(
        loop, std::move(options),
        [this](http::Request request, std::unique_ptr<http::Responder> responder) {
          handle(request, *responder);
        });
    server_->listen(std::move(listener));
  }

 private:
  void handle(const http::Request& request, http::Responder& responder) {
    if (request.path == "/ready")
      return responder.respond(200, {{"content-type", "text/plain"}}, "ok\n");
    const bool inject = request.path == "/inject";
    if (!inject && request.path != "/validate") {
      return responder.respond(404, {{"content-type", "text/plain"}}, "404 page not found\n");
    }
    auto body = json::parse(request.body);
    if (request.method != "POST" || !body || !body->is_object() || !body->contains("request")) {
      return responder.respond(400, {{"content-type", "text/plain"}},
                               "expected an AdmissionReview\n");
    }
    Json answer;
    if (inject) {
      kube::ObjectPtr ns = namespaces_.get("", json::stringAt(*body, "request.namespace"));
      answer = answerInjection(*body, ns ? *ns : Json::object(), config_());
    } else {
      answer = answerValidation(*body, validator_);
    }
    responder.respond(200, {{"content-type", "application/json"}}, json::dump(answer));
  }

  kube::Informer& namespaces_;
  std::function<inject::InjectorConfig()> config_;
  Validator validator_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace

Json answerInjection(const Json& request, const Json& namespace_object,
                     const inject::InjectorConfig& config) {
  const std::string uid = json::stringAt(request, "request.uid");
  const Json* pod = json::find(request, "request.object");
  if (pod == nullptr || !pod->is_object()) {
    return review(uid, {{"allowed", false},
                        {"status", {{"code", 400}, {"message", "the request carries no pod"}}}});
  }
  if (!config.enabled) return review(uid, {{"allowed", true}});
  inject::Decision decision = inject::decide(*pod, namespace_object);
  const std::string ns = json::stringAt(request, "request.namespace");
  kWebhookLog.debug("pod {}/{}: {} ({})", ns, json::stringAt(*pod, "metadata.generateName"),
                    decision.inject ? "inject" : "skip", decision.reason);
  if (!decision.inject) return review(uid, {{"allowed", true}});
  Json changed = inject::injectSidecar(*pod, ns, config);
  return review(uid, {{"allowed", true},
                      {"patchType", "JSONPatch"},
                      {"patch", base::base64Encode(json::dump(inject::jsonPatch(*pod, changed)))}});
}

Json answerValidation(const Json& request, const Validator& validator) {
  const std::string uid = json::stringAt(request, "request.uid");
  const Json* object = json::find(request, "request.object");
  if (object == nullptr || !object->is_object()) return review(uid, {{"allowed", true}});
  Verdict verdict = validator(*object);
  Json response = {{"allowed", verdict.errors.empty()}};
  if (!verdict.warnings.empty()) response["warnings"] = verdict.warnings;
  if (!verdict.errors.empty()) {
    std::string ns = json::stringAt(request, "request.namespace");
    std::string name =
        json::stringAt(*object, "metadata.name", json::stringAt(*object, "metadata.generateName"));
    std::string message = "configuration is invalid: " + json::stringAt(*object, "kind") + " " +
                          (ns.empty() ? name : ns + "/" + name) + ": " +
                          base::join(verdict.errors, "; ");
    response["status"] = {{"code", 400}, {"reason", "BadRequest"}, {"message", message}};
  }
  return review(uid, std::move(response));
}

std::unique_ptr<WebhookServer> WebhookServer::start(event::Loop& loop, base::Fd listener,
                                                    std::shared_ptr<const tls::ServerContext> tls,
                                                    kube::Informer& namespaces,
                                                    std::function<inject::InjectorConfig()> config,
                                                    Validator validator) {
  return std::make_unique<WebhookServerImpl>(loop, std::move(listener), std::move(tls), namespaces,
                                             std::move(config), std::move(validator));
}

kube::ApiResult<void> registerWebhooks(kube::Client& client, const std::string& mesh_namespace,
                                       const std::string& root_pem) {
  const kube::WriteOptions options{
      .field_manager = "postern-control", .subresource = "", .force = true};
  auto mutating = client.apply(kube::types::kMutatingWebhook,
                               injectorConfiguration(mesh_namespace, root_pem), options);
  if (!mutating) return std::unexpected(mutating.error());
  auto validating = client.apply(kube::types::kValidatingWebhook,
                                 validatorConfiguration(mesh_namespace, root_pem), options);
  if (!validating) return std::unexpected(validating.error());
  return {};
}

}  // namespace postern::control
