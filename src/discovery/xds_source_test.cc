#include "discovery/xds_source.h"

#include "json/json.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <string>

namespace postern::discovery {
namespace {

using json::Json;

kube::ObjectPtr object(const std::string& text) {
  auto parsed = json::parseYaml(text);
  EXPECT_TRUE(parsed.has_value()) << (parsed ? "" : parsed.error().message());
  return std::make_shared<const Json>(parsed ? *parsed : Json());
}

struct XdsSourceTest : ::testing::Test {
  XdsSourceTest() {
    sources.pods.push_back(
        object("kind: Pod\nmetadata: {name: echo-1, namespace: default, labels: {app: echo}}\n"
               "spec: {serviceAccountName: echo}\nstatus: {podIP: 10.0.0.1}\n"));
    int number = 0;
    for (const char* port : {"http", "grpc", "tcp", "tls", "other"}) {
      ++number;
      sources.services.push_back(object(std::string("kind: Service\nmetadata: {name: ") + port +
                                        ", namespace: default}\nspec:\n  clusterIP: 10.1.0." +
                                        std::to_string(number) +
                                        "\n  selector: {app: echo}\n  ports: [{name: " + port +
                                        ", port: " + std::to_string(8000 + number) + "}]\n"));
    }
    source.setOnChanged([this](XdsSource::ProxyId) { ++changes; });
  }
  std::map<std::string, std::string> of(XdsSource::ProxyId proxy, std::string_view type_url) {
    std::map<std::string, std::string> out;
    source.resources(proxy, type_url,
                     [&](std::string_view name, std::string_view, std::string_view bytes) {
                       out.emplace(name, bytes);
                     });
    return out;
  }
  static xds::NodeInfo node(
      const char* id = "sidecar~10.0.0.1~echo-1.default~default.svc.c.local") {
    return {.id = id};
  }
  static xds::Caller caller(const char* ns, const char* account, const char* pod) {
    return {.local = false, .ns = ns, .service_account = account, .pod = pod};
  }
  int code(const xds::NodeInfo& who, const xds::Caller& as) {
    auto proxy = source.connected(who, as);
    return proxy ? 0 : proxy.error().code;
  }
  Sources sources;
  SnapshotBuilder builder;
  XdsSource source;
  int changes = 0;
};

TEST_F(XdsSourceTest, ProxiesWaitForTheFirstSnapshot) {
  EXPECT_EQ(code(node(), {}), 14);
  source.update(builder.build(sources));
  EXPECT_EQ(code(node(), {}), 0);
}

TEST_F(XdsSourceTest, AProxyMustBeWhatItsTokenSays) {
  source.update(builder.build(sources));
  EXPECT_EQ(code(node(), caller("default", "echo", "echo-1")), 0);
  EXPECT_EQ(code(node(), caller("default", "echo", "")), 0);
  EXPECT_EQ(code(node(), caller("other", "echo", "")), 16);
  EXPECT_EQ(code(node(), caller("default", "default", "echo-1")), 16);
  EXPECT_EQ(code(node(), caller("default", "echo", "echo-2")), 16);
  EXPECT_EQ(code(node("echo-1.default"), caller("default", "echo", "")), 3);
  EXPECT_EQ(code(node("waypoint~10.0.0.1~w.default~x"), {}), 3);
  EXPECT_EQ(source.refusedConnections(), 5U);
}

TEST_F(XdsSourceTest, EverythingGeneratedIsAMessageOfItsType) {
  sources.virtual_services.push_back(object(R"yaml(
kind: VirtualService
metadata: {name: all, namespace: default}
spec:
  hosts: [http, tls.example.com, tcp]
  gateways: [mesh, g]
  http:
  - name: everything
    match:
    - {uri: {regex: /r.*}, method: {exact: GET}, headers: {a: {prefix: b}, c: {}}, queryParams: {q: {exact: z}},
       withoutHeaders: {n: {exact: x}}, authority: {regex: h.*}, scheme: {exact: http}, ignoreUriCase: true}
    - {uri: {prefix: /p}, ignoreUriCase: true, port: 8001}
    route:
    - {destination: {host: http, subset: one}, weight: 90, headers: {request: {set: {h: v, Host: z}, add: {g: w},
       remove: [i]}, response: {set: {j: k}}}}
    - {destination: {host: grpc}, weight: 10}
    rewrite: {uri: /x, authority: y}
    timeout: 1m
    retries: {attempts: 3, perTryTimeout: 250ms, retryOn: "5xx,503", backoff: 10ms}
    fault: {delay: {percentage: {value: 0.1}, fixedDelay: 1s}, abort: {percentage: {value: 100}, httpStatus: 418}}
  - match: [{uri: {exact: /redirect}}]
    redirect: {uri: /to, authority: there, scheme: https, port: 8443, redirectCode: 308}
  - match: [{uri: {exact: /direct}}]
    directResponse: {status: 503, body: {string: no}}
  - match: [{uri: {exact: /bytes}}]
    directResponse: {status: 200, body: {bytes: aGk=}}
  - route: [{destination: {host: http}, headers: {response: {remove: [x]}}}]
    rewrite: {uriRegexRewrite: {match: "^/a(.*)$", rewrite: "/b\\1"}
}
  tls:
  - match: [{port: 8004, sniHosts: [tls.example.com]}]
    route: [{destination: {host: tls}, weight: 1}, {destination: {host: tcp}, weight: 2}]
  tcp:
  - match: [{port: 8003}]
    route: [{destination: {host: tcp}}]
)yaml"));
  sources.destination_rules.push_back(object(R"(
kind: DestinationRule
metadata: {name: d, namespace: default}
spec:
  host: http
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    connectionPool: {tcp: {maxConnections: 5, connectTimeout: 3s, idleTimeout: 10s},
                     http: {http1MaxPendingRequests: 7, http2MaxRequests: 8, maxRequestsPerConnection: 9, maxRetries: 2,
                            idleTimeout: 5m, h2UpgradePolicy: UPGRADE}}
    portLevelSettings: [{port: {number: 8001}, loadBalancer: {simple: PASSTHROUGH}}]
  subsets: [{name: one, labels: {v: "1"}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}]
)"));
  sources.service_entries.push_back(object(R"(
kind: ServiceEntry
metadata: {name: e, namespace: default}
spec: {hosts: [a.example.com, "*.b.example.com"], ports: [{number: 443, name: tls, protocol: TLS}, {number: 80,
  name: http, protocol: HTTP}], resolution: DNS, endpoints: [{address: 1.2.3.4, ports: {tls: 4430}, weight: 3}]}
)"));
  sources.service_entries.push_back(object(R"(
kind: ServiceEntry
metadata: {name: n, namespace: default}
spec: {hosts: [range.example.com], addresses: [192.0.2.0/24], ports: [{number: 9000, name: tcp, protocol: TCP}]}
)"));
  sources.gateways.push_back(object(R"(
kind: Gateway
metadata: {name: g, namespace: default}
spec: {selector: {app: echo}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"], tls: {httpsRedirect:
  true}}, {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}]}
)"));
  source.update(builder.build(sources));
  for (const char* id : {"sidecar~10.0.0.1~echo-1.default~default.svc.cluster.local",
                         "router~10.0.0.1~echo-1.default~default.svc.cluster.local"}) {
    auto proxy = source.connected(node(id), {});
    ASSERT_TRUE(proxy);
    for (const Type type : {Type::kClusters, Type::kEndpoints, Type::kListeners, Type::kRoutes}) {
      const auto* all = source.distributor().resources(*proxy, type);
      auto key = ProxyKey::parse(id, Json::object());
      View view(source.distributor().snapshot(), *key);
      const auto made = type == Type::kClusters    ? generateClusters(view)
                        : type == Type::kEndpoints ? generateEndpoints(view)
                        : type == Type::kListeners ? generateListeners(view)
                                                   : generateRoutes(view);
      EXPECT_FALSE(made.empty());
      for (const Resource& resource : made) {
        EXPECT_TRUE(all->contains(resource.name)) << id << " " << resource.name << " was left out";
      }
    }
  }
}

TEST_F(XdsSourceTest, OnlyProxiesConcernedAreTold) {
  source.update(builder.build(sources));
  auto proxy = source.connected(node(), {});
  ASSERT_TRUE(proxy);
  EXPECT_TRUE(of(*proxy, api::kListenerType).contains("virtualOutbound"));
  source.update(builder.build(sources));
  EXPECT_EQ(changes, 0);
  sources.mesh = object(
      "kind: Istio\nmetadata: {name: mesh, namespace: istio-system}\n"
      "spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n");
  source.update(builder.build(sources));
  EXPECT_EQ(changes, 1);
  source.disconnected(*proxy);
  EXPECT_TRUE(of(*proxy, api::kListenerType).empty());
}

}  // namespace
}  // namespace postern::discovery
