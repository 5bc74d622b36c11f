// The admission webhooks of the control plane: /inject (mutating, pods) and /validate (Istio and
// mesh resources), and their registration. The server runs on the control plane's loop; decisions
// are pure (inject/, model/).
#pragma once

#include "event/loop.h"
#include "http/server.h"
#include "inject/injector.h"
#include "kube/client.h"
#include "kube/informer.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace postern::control {

/// The verdict on one object: errors refuse it, warnings are shown to the person who wrote it.
struct Verdict {
  std::vector<std::string> errors;  // "spec.servers[0].port.number: must be …"
  std::vector<std::string> warnings;
};
using Validator = std::function<Verdict(const json::Json& object)>;

/// Answers an AdmissionReview (admission.k8s.io/v1); any thread. Exposed for tests.
json::Json answerInjection(const json::Json& review, const json::Json& namespace_object,
                           const inject::InjectorConfig& config);
json::Json answerValidation(const json::Json& review, const Validator& validator);

class WebhookServer {
 public:
  virtual ~WebhookServer() = default;
  static std::unique_ptr<WebhookServer> start(event::Loop& loop, base::Fd listener,
                                              std::shared_ptr<const tls::ServerContext> tls,
                                              kube::Informer& namespaces,
                                              std::function<inject::InjectorConfig()> config,
                                              Validator validator);
};

/// Applies the MutatingWebhookConfiguration and the ValidatingWebhookConfiguration that lead to
/// Service `istiod`.
kube::ApiResult<void> registerWebhooks(kube::Client& client, const std::string& mesh_namespace,
                                       const std::string& root_pem);

}  // namespace postern::control
