#include "cli/next_steps.h"

#include "cli/mesh_status.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace postern::cli {

using json::Json;

NextSteps nextSteps(kube::Client& client, std::string context, bool demo) {
  NextSteps out;
  out.context = std::move(context);
  out.demo = demo;
  auto service = client.get(kube::types::kService, "istio-system", "istio-ingressgateway");
  if (!service) return out;
  if (const Json* ingress = json::find(*service, "status.loadBalancer.ingress");
      ingress != nullptr && ingress->is_array()) {
    for (const Json& each : *ingress) out.addresses.push_back(json::stringAt(each, "ip"));
  }
  out.http_port = hostPort(*service, 80);
  return out;
}

Json NextSteps::toJson() const {
  return {{"context", context},
          {"ingress", {{"addresses", addresses}, {"httpPort", http_port}}},
          {"demoNamespace", demo ? Json("backyards-demo") : Json()}};
}

std::string NextSteps::toText() const {
  std::string list;
  for (const std::string& each : addresses) list += (list.empty() ? "" : " ") + each;
  std::string out =
      fmt::format("\nThe mesh is running. Ingress addresses: {}\nkubectl context: {}\n",
                  list.empty() ? "none yet" : list, context);
  out += "\nNext, as in the article:\n\n  kubectl -n istio-system get istio mesh\n";
  if (addresses.empty() || !demo) return out;
  std::string hosts;
  std::string hosts_indented;
  for (const std::string& each : addresses) {
    hosts += fmt::format("\n    - \"frontpage.{}.xip.io\"", each);
    hosts_indented += fmt::format("\n  - \"frontpage.{}.xip.io\"", each);
  }
  out += fmt::format(R"(
  kubectl apply -f - <<'EOF'
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata:
  name: frontpage
  namespace: backyards-demo
spec:
  selector:
    istio: ingressgateway
  servers:
  - port:
      number: 80
      name: http
      protocol: HTTP
    hosts:{}
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: frontpage
  namespace: backyards-demo
spec:
  hosts:{}
  gateways:
  - frontpage
  http:
  - route:
    - destination:
        port:
          number: 8080
        host: frontpage.backyards-demo.svc.cluster.local
EOF

)",
                     hosts, hosts_indented);
  const std::string& first = addresses.front();
  if (http_port == 0) {
    out += fmt::format(
        "  # another program has port 80 of {}: end it, or use another address (`postern "
        "status`)\n",
        first);
  } else if (http_port == 80) {
    out += fmt::format("  curl -i -H 'Host: frontpage.{}.xip.io' http://{}/\n", first, first);
  } else {
    out += fmt::format(
        "  curl -i -H 'Host: frontpage.{}.xip.io' http://{}:{}/   # the host refuses port 80 to "
        "you; `postern status` says why\n",
        first, first, http_port);
  }
  out += "\nThe whole article: README.md\n";
  return out;
}

}  // namespace postern::cli
