// The article's resources in, and the question "where does this request go?" asked of the generated
// configuration, for the sidecar of `echo` and for the gateways.
#include "discovery/generate.h"

#include "discovery/distributor.h"
#include "discovery/lookup.h"
#include "json/json.h"
#include "model/parse.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <string>

namespace postern::discovery {
namespace {

using json::Json;

Json yaml(const std::string& text) {
  auto parsed = json::parseYaml(text);
  EXPECT_TRUE(parsed.has_value()) << (parsed ? "" : parsed.error().message());
  return parsed ? *parsed : Json();
}

class ArticleTest : public ::testing::Test {
 protected:
  ArticleTest() {
    service("default", "echo", "10.96.0.10", "k8s-app: echo", "http", 80, 8080, "10.1.0.5");
    service("backyards-demo", "frontpage", "10.96.0.11", "app: frontpage", "http", 8080, 8080,
            "10.1.0.6");
    service("istio-system", "istio-ingressgateway", "10.96.0.12", "istio: ingressgateway", "http2",
            80, 8080, "10.1.0.7");
    mesh("ALLOW_ANY");
  }

  void mesh(const std::string& mode) {
    sources_.mesh =
        add("kind: Istio\nmetadata: {name: mesh, namespace: istio-system}\n"
            "spec: {outboundTrafficPolicy: {mode: " +
            mode + "}}\n");
  }
  kube::ObjectPtr add(const std::string& text) { return std::make_shared<const Json>(yaml(text)); }
  void service(const std::string& ns, const std::string& name, const std::string& vip,
               const std::string& selector, const std::string& port_name, int port, int target,
               const std::string& pod_ip) {
    const std::string metadata = "metadata: {name: " + name + ", namespace: " + ns + "}\n";
    sources_.services.push_back(
        add("kind: Service\n" + metadata + "spec:\n  clusterIP: " + vip + "\n  selector: {" +
            selector + "}\n  ports: [{name: " + port_name + ", port: " + std::to_string(port) +
            ", targetPort: " + std::to_string(target) + "}]\n"));
    sources_.slices.push_back(
        add("kind: EndpointSlice\nmetadata: {name: " + name + "-x, namespace: " + ns +
            ", labels: {kubernetes.io/service-name: " + name + "}}\nports: [{name: " + port_name +
            ", port: " + std::to_string(target) + "}]\nendpoints: [{addresses: [" + pod_ip +
            "], conditions: {ready: true}, targetRef: {kind: Pod, name: " + name + "-0}}]\n"));
    sources_.pods.push_back(add("kind: Pod\nmetadata: {name: " + name + "-0, namespace: " + ns +
                                ", labels: {" + selector + "}}\nstatus: {podIP: " + pod_ip +
                                "}\n"));
  }
  void serviceEntry(const std::string& protocol, int port) {
    sources_.service_entries.push_back(
        add("kind: ServiceEntry\nmetadata: {name: httpbin-ext, namespace: default}\nspec:\n"
            "  hosts: [httpbin.org]\n  ports: [{number: " +
            std::to_string(port) + ", name: p, protocol: " + protocol + "}]\n  resolution: DNS\n"));
  }
  void egress() {
    service("default", "egress", "10.96.0.20", "gateway-name: egress, gateway-type: egress", "http",
            80, 80, "10.1.0.9");
    sources_.gateways.push_back(
        add("kind: Gateway\nmetadata: {name: egress, namespace: default}\nspec:\n"
            "  selector: {gateway-name: egress, gateway-type: egress}\n  servers:\n"
            "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n"));
    sources_.virtual_services.push_back(
        add("kind: VirtualService\nmetadata: {name: httpbin-egress, namespace: default}\nspec:\n"
            "  hosts: [httpbin.org]\n  gateways: [egress, mesh]\n  http:\n"
            "  - match: [{gateways: [mesh], port: 80}]\n    route:\n"
            "    - destination: {host: egress.default.svc.cluster.local, port: {number: 80}}\n"
            "  - match: [{gateways: [egress], port: 80}]\n    route:\n"
            "    - destination: {host: httpbin.org, port: {number: 80}}\n"));
  }

  View view(const std::string& id) {
    auto key = ProxyKey::parse(id, Json::object());
    EXPECT_TRUE(key.has_value());
    return View(builder_.build(sources_), *key);
  }
  View echo() { return view("sidecar~10.1.0.5~echo-0.default~default.svc.cluster.local"); }

  static std::map<std::string, Json> byName(std::vector<Resource> resources) {
    std::map<std::string, Json> out;
    for (Resource& resource : resources) {
      EXPECT_EQ(out.count(resource.name), 0U) << resource.name;
      out[resource.name] = std::move(resource.config);
    }
    return out;
  }
  /// "cluster" or "status" of the first route that host and a plain "/" reach in a table.
  static std::string ask(const Json& table, const std::string& host) {
    for (const std::string& wanted : {host, std::string("*")}) {
      for (const Json& entry : table["virtual_hosts"]) {
        for (const Json& domain : entry["domains"]) {
          if (domain != wanted) continue;
          if (!entry.contains("routes") || entry["routes"].empty()) return "404";
          const Json& route = entry["routes"][0];
          if (route.contains("direct_response")) {
            return std::to_string(route["direct_response"]["status"].get<int>());
          }
          return route["route"]["cluster"].get<std::string>();
        }
      }
    }
    return "404";
  }
  static std::string lastTcp(const Json& listener) {
    const Json& chain = listener.contains("default_filter_chain")
                            ? listener["default_filter_chain"]
                            : listener["filter_chains"].back();
    return chain["filters"][0]["typed_config"]["cluster"].get<std::string>();
  }

  Sources sources_;
  SnapshotBuilder builder_;
};

TEST_F(ArticleTest, IngressGatewayRoutesTheFrontpage) {
  sources_.gateways.push_back(
      add("kind: Gateway\nmetadata: {name: frontpage, namespace: backyards-demo}\nspec:\n"
          "  selector: {istio: ingressgateway}\n  servers:\n"
          "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [f.1.2.3.4.xip.io]}\n"));
  sources_.virtual_services.push_back(
      add("kind: VirtualService\nmetadata: {name: frontpage, namespace: backyards-demo}\nspec:\n"
          "  hosts: [f.1.2.3.4.xip.io]\n  gateways: [frontpage]\n  http:\n  - route:\n"
          "    - destination: {host: frontpage, port: {number: 8080}}\n"));
  View gateway = view("router~10.1.0.7~istio-ingressgateway-0.istio-system~x.svc.cluster.local");
  auto listeners = byName(generateListeners(gateway));
  ASSERT_EQ(listeners.size(), 1U);
  ASSERT_TRUE(listeners.contains("0.0.0.0_8080"));  // the Service's target port
  const Json& manager = listeners["0.0.0.0_8080"]["filter_chains"][0]["filters"][0]["typed_config"];
  EXPECT_EQ(manager["server_name"], "istio-envoy");
  EXPECT_EQ(manager["rds"]["route_config_name"], "http.8080");
  auto routes = byName(generateRoutes(gateway));
  const Json& table = routes.at("http.8080");
  EXPECT_EQ(ask(table, "f.1.2.3.4.xip.io"),
            "outbound|8080||frontpage.backyards-demo.svc.cluster.local");
  EXPECT_EQ(ask(table, "other"), "404");
  EXPECT_EQ(table["virtual_hosts"][0]["name"], "f.1.2.3.4.xip.io:80");
  EXPECT_FALSE(byName(generateClusters(gateway)).contains("PassthroughCluster"));
}

TEST_F(ArticleTest, SidecarPassesUnknownHostsOrBlocksThem) {
  View open = echo();
  auto listeners = byName(generateListeners(open));
  EXPECT_TRUE(listeners.contains("0.0.0.0_80"));
  EXPECT_EQ(lastTcp(listeners["virtualOutbound"]), "PassthroughCluster");
  EXPECT_EQ(ask(byName(generateRoutes(open))["80"], "httpbin.org"), "PassthroughCluster");

  mesh("REGISTRY_ONLY");
  View closed = echo();
  listeners = byName(generateListeners(closed));
  EXPECT_EQ(lastTcp(listeners["virtualOutbound"]), "BlackHoleCluster");
  EXPECT_EQ(lastTcp(listeners["0.0.0.0_80"]), "BlackHoleCluster");
  auto table = byName(generateRoutes(closed))["80"];
  EXPECT_EQ(ask(table, "httpbin.org"), "502");
  EXPECT_EQ(ask(table, "echo"), "outbound|80||echo.default.svc.cluster.local");
  EXPECT_EQ(ask(table, "10.96.0.10"), "outbound|80||echo.default.svc.cluster.local");

  serviceEntry("HTTP", 80);
  View known = echo();
  EXPECT_EQ(ask(byName(generateRoutes(known))["80"], "httpbin.org"), "outbound|80||httpbin.org");
  EXPECT_EQ(byName(generateClusters(known))["outbound|80||httpbin.org"]["type"], "STRICT_DNS");
  EXPECT_EQ(ask(byName(generateRoutes(known))["80"], "example.com"), "502");
}

TEST_F(ArticleTest, HttpsServiceEntryPassesBySni) {
  mesh("REGISTRY_ONLY");
  serviceEntry("HTTPS", 443);
  View sidecar = echo();
  auto listener = byName(generateListeners(sidecar)).at("0.0.0.0_443");
  EXPECT_EQ(listener["filter_chains"][0]["filter_chain_match"]["server_names"][0], "httpbin.org");
  EXPECT_EQ(listener["filter_chains"][0]["filters"][0]["typed_config"]["cluster"],
            "outbound|443||httpbin.org");
  EXPECT_EQ(lastTcp(listener), "BlackHoleCluster");
}

TEST_F(ArticleTest, EgressGoesThroughTheGateway) {
  mesh("REGISTRY_ONLY");
  serviceEntry("HTTP", 80);
  egress();
  View sidecar = echo();
  auto table = byName(generateRoutes(sidecar))["80"];
  EXPECT_EQ(ask(table, "httpbin.org"), "outbound|80||egress.default.svc.cluster.local");
  EXPECT_EQ(byName(generateEndpoints(
                sidecar))["outbound|80||egress.default.svc.cluster.local"]["endpoints"][0]
                         ["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"],
            "10.1.0.9");
  View gateway = view("router~10.1.0.9~egress-0.default~default.svc.cluster.local");
  EXPECT_EQ(ask(byName(generateRoutes(gateway))["http.80"], "httpbin.org"),
            "outbound|80||httpbin.org");
  EXPECT_EQ(ask(byName(generateRoutes(gateway))["http.80"], "example.com"), "404");
}

TEST_F(ArticleTest, InboundServesTheTargetPort) {
  View sidecar = echo();
  auto inbound = byName(generateListeners(sidecar))["virtualInbound"];
  EXPECT_EQ(inbound["filter_chains"][1]["name"], "0.0.0.0_8080");
  EXPECT_EQ(inbound["filter_chains"][1]["filters"][0]["typed_config"]["server_name"],
            "istio-envoy");
  auto clusters = byName(generateClusters(sidecar));
  EXPECT_EQ(clusters["inbound|8080||"]["upstream_bind_config"]["source_address"]["address"],
            "127.0.0.6");
}

TEST_F(ArticleTest, AChangeTouchesOnlyWhatReadIt) {
  auto before = builder_.build(sources_);
  View sidecar = echo();
  generateListeners(sidecar);
  const auto of_listeners = sidecar.takeDependencies();
  generateRoutes(sidecar);
  const auto of_routes = sidecar.takeDependencies();
  generateEndpoints(sidecar);
  const auto of_endpoints = sidecar.takeDependencies();

  sources_.slices.pop_back();  // the ingress gateway's endpoints
  auto after = builder_.build(sources_);
  const auto changed = after->changedSince(*before);
  EXPECT_TRUE(changed.contains(
      "Endpoints/istio-system/istio-ingressgateway.istio-system.svc.cluster.local"));
  EXPECT_FALSE(touches(of_listeners, changed));
  EXPECT_FALSE(touches(of_routes, changed));
  EXPECT_TRUE(touches(of_endpoints, changed));

  egress();
  const auto routing = builder_.build(sources_)->changedSince(*after);
  EXPECT_TRUE(routing.contains("VirtualService/default/httpbin-egress"));
  EXPECT_TRUE(touches(of_routes, routing));
}

TEST_F(ArticleTest, TheSnapshotAnswersTheValidator) {
  serviceEntry("HTTP", 80);
  egress();
  const SnapshotLookup lookup(builder_.build(sources_));
  EXPECT_NE(lookup.gateway("default", "egress"), nullptr);
  EXPECT_EQ(lookup.gateway("other", "egress"), nullptr);
  EXPECT_EQ(lookup.meshRuleOf("httpbin.org"), "default/httpbin-egress");
  EXPECT_TRUE(lookup.hasWorkload({{"k8s-app", "echo"}}));
  EXPECT_FALSE(lookup.hasWorkload({{"k8s-app", "other"}}));
  EXPECT_TRUE(lookup.hasHost("httpbin.org"));
  EXPECT_TRUE(lookup.hasHost("echo.default.svc.cluster.local"));
  EXPECT_FALSE(lookup.hasHost("nowhere.default.svc.cluster.local"));
}

TEST_F(ArticleTest, TheOlderGatewayKeepsThePort) {
  egress();
  const SnapshotLookup lookup(builder_.build(sources_));
  const auto taken = [&](const std::string& selector, int port, const std::string& protocol) {
    const model::Gateway gateway = model::parseGateway(
        yaml("metadata: {name: younger, namespace: default}\nspec:\n  selector: {" + selector +
             "}\n  servers:\n  - {port: {number: " + std::to_string(port) +
             ", name: p, protocol: " + protocol + "}, hosts: ['*']}\n"));
    return lookup.portTakenBy(gateway, gateway.servers[0]);
  };
  EXPECT_EQ(taken("gateway-name: egress", 80, "TCP"), "default/egress");
  EXPECT_EQ(taken("gateway-name: egress", 80, "HTTP"), "");
  EXPECT_EQ(taken("gateway-name: egress", 81, "TCP"), "");
  EXPECT_EQ(taken("istio: ingressgateway", 80, "TCP"), "");  // no pod in common
}

TEST_F(ArticleTest, ASidecarScopeHidesServices) {
  mesh("ALLOW_ANY");
  serviceEntry("HTTP", 80);
  sources_.sidecars.push_back(
      add("kind: Sidecar\nmetadata: {name: s, namespace: default}\nspec:\n"
          "  egress: [{hosts: ['./*.cluster.local']}]\n"
          "  outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n"));
  View sidecar = echo();
  auto clusters = byName(generateClusters(sidecar));
  EXPECT_TRUE(clusters.contains("outbound|80||echo.default.svc.cluster.local"));
  EXPECT_FALSE(clusters.contains("outbound|80||httpbin.org"));
  EXPECT_FALSE(clusters.contains("outbound|8080||frontpage.backyards-demo.svc.cluster.local"));
  EXPECT_EQ(ask(byName(generateRoutes(sidecar))["80"], "httpbin.org"), "502");
  EXPECT_TRUE(sidecar.takeDependencies().contains("Sidecar/*"));
}

TEST_F(ArticleTest, ADistributorReportsOnlyWhatIsDifferent) {
  Distributor distributor;
  const auto none = [](Distributor::ProxyId, const Delta&) {};
  distributor.update(builder_.build(sources_), none);
  const auto id = distributor.add(echo().proxy());
  ASSERT_NE(distributor.resources(id, Type::kRoutes), nullptr);
  EXPECT_TRUE(distributor.resources(id, Type::kRoutes)->contains("80"));

  mesh("REGISTRY_ONLY");
  std::map<Type, Delta> deltas;
  distributor.update(builder_.build(sources_),
                     [&](Distributor::ProxyId, const Delta& delta) { deltas[delta.type] = delta; });
  ASSERT_TRUE(deltas.contains(Type::kRoutes));
  EXPECT_FALSE(deltas.contains(Type::kClusters));  // the timeout it read did not change
  EXPECT_FALSE(deltas.contains(Type::kEndpoints));

  const auto before = distributor.generations();
  distributor.update(builder_.build(sources_), none);
  EXPECT_EQ(distributor.generations(), before);

  serviceEntry("HTTP", 80);
  deltas.clear();
  distributor.update(builder_.build(sources_),
                     [&](Distributor::ProxyId, const Delta& delta) { deltas[delta.type] = delta; });
  ASSERT_EQ(deltas[Type::kClusters].updated.size(), 1U);
  EXPECT_EQ(deltas[Type::kClusters].updated[0]->resource.name, "outbound|80||httpbin.org");
  sources_.service_entries.clear();
  distributor.update(builder_.build(sources_),
                     [&](Distributor::ProxyId, const Delta& delta) { deltas[delta.type] = delta; });
  EXPECT_EQ(deltas[Type::kClusters].removed, std::vector<std::string>{"outbound|80||httpbin.org"});
}

}  // namespace
}  // namespace postern::discovery
