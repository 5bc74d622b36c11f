// Services: addresses for those of type LoadBalancer, and the Service `kubernetes` of the API.
#include "controllers/address_pool.h"
#include "controllers/context.h"

namespace postern::controllers {
namespace {

using kube::Outcome;
using kube::types::kEndpoints;
using kube::types::kService;

std::vector<std::string> ingressOf(const Json& service) {
  std::vector<std::string> out;
  for (const Json& entry : arrayAt(service, "status.loadBalancer.ingress")) {
    if (std::string ip = json::stringAt(entry, "ip"); !ip.empty()) out.push_back(std::move(ip));
  }
  return out;
}

/// One worker; knows all holders before it gives the first address away.
class LoadBalancers {
 public:
  explicit LoadBalancers(Context& context)
      : context_(context), pool_(context.options.load_balancer_pool) {}

  Outcome reconcile(const std::string& key) {
    kube::Informer& services = context_.informer(kService);
    if (!ready_) {
      if (!services.synced()) return Outcome::retry();
      for (const auto& service : services.list()) {
        if (balanced(*service)) (void)assign(*service);
      }
      ready_ = true;
    }
    auto [ns, name] = kube::splitKey(key);
    auto service = services.get(ns, name);
    if (!service || !balanced(*service)) pool_.release(key);
    if (!service || deleting(*service)) return Outcome::done();
    std::vector<std::string> wanted;
    if (balanced(*service)) wanted = assign(*service);
    if (wanted == ingressOf(*service)) return Outcome::done();
    auto written = write(ns, name, wanted);
    if (!written && written.error().notFound()) return Outcome::done();
    return written ? Outcome::done() : retryAfter("service status", key, written.error());
  }

 private:
  static bool balanced(const Json& service) {
    return json::stringAt(service, "spec.type") == "LoadBalancer" &&
           json::stringAt(service, "spec.loadBalancerClass").empty();
  }

  std::vector<std::string> assign(const Json& service) {
    std::vector<std::string> current = ingressOf(service);
    if (std::string ip = json::stringAt(service, "spec.loadBalancerIP");
        current.empty() && !ip.empty()) {
      current.push_back(std::move(ip));
    }
    return pool_.assign(kube::keyOf(service), current, context_.options.load_balancer_addresses);
  }

  kube::ApiResult<Json> write(const std::string& ns, const std::string& name,
                              const std::vector<std::string>& addresses) {
    Json ingress = Json::array();
    for (const std::string& ip : addresses) ingress.push_back({{"ip", ip}});
    Json balancer = Json::object();
    balancer["ingress"] = ingress.empty() ? Json(nullptr) : std::move(ingress);
    kube::WriteOptions options;
    options.subresource = "status";
    return context_.client.patch(kService, ns, name, kube::PatchType::kMerge,
                                 Json{{"status", {{"loadBalancer", std::move(balancer)}}}},
                                 options);
  }

  Context& context_;
  AddressPool pool_;
  bool ready_ = false;
};

/// Keeps default/kubernetes: its Service, and Endpoints at the API's own address.
Outcome reconcileApiService(Context& context) {
  const Options& options = context.options;
  Json ports = Json::array(
      {{{"name", "https"}, {"port", 443}, {"protocol", "TCP"}, {"targetPort", options.api_port}}});
  Json meta{{"name", "kubernetes"},
            {"namespace", "default"},
            {"labels", {{"component", "apiserver"}, {"provider", "kubernetes"}}}};
  if (!context.client.get(kService, "default", "kubernetes")) {
    Json service{{"apiVersion", "v1"},
                 {"kind", "Service"},
                 {"metadata", meta},
                 {"spec",
                  {{"type", "ClusterIP"},
                   {"clusterIP", options.api_service_ip},
                   {"clusterIPs", Json::array({options.api_service_ip})},
                   {"ports", ports}}}};
    auto made = context.client.create(kService, "default", service);
    if (!made && !made.error().alreadyExists()) {
      return retryAfter("service", "default/kubernetes", made.error());
    }
  }
  Json subsets = Json::array(
      {{{"addresses", Json::array({{{"ip", options.api_address}}})},
        {"ports",
         Json::array({{{"name", "https"}, {"port", options.api_port}, {"protocol", "TCP"}}})}}});
  auto have = context.client.get(kEndpoints, "default", "kubernetes");
  meta["labels"] = {{"endpointslice.kubernetes.io/skip-mirror", "true"}};
  Json endpoints{
      {"apiVersion", "v1"}, {"kind", "Endpoints"}, {"metadata", meta}, {"subsets", subsets}};
  if (have && arrayAt(*have, "subsets") == subsets) return Outcome::later(std::chrono::minutes(1));
  auto written = have ? context.client.patch(kEndpoints, "default", "kubernetes",
                                             kube::PatchType::kMerge, Json{{"subsets", subsets}})
                      : context.client.create(kEndpoints, "default", endpoints);
  if (!written) return retryAfter("endpoints", "default/kubernetes", written.error());
  return Outcome::later(std::chrono::minutes(1));
}

}  // namespace

void startServices(Context& context, std::vector<ControllerPtr>& out) {
  auto balancers = std::make_shared<LoadBalancers>(context);
  auto controller = kube::Controller::start(
      "load-balancer", [balancers](const std::string& key) { return balancers->reconcile(key); });
  controller->watch(context.informer(kService));
  out.push_back(std::move(controller));
  if (context.options.api_address.empty()) return;
  auto api = kube::Controller::start(
      "api-service", [&](const std::string&) { return reconcileApiService(context); });
  api->enqueue("kubernetes");
  out.push_back(std::move(api));
}

}  // namespace postern::controllers
