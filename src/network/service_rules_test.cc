#include "network/service_rules.h"

#include "network/netfilter.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::network {
namespace {

ObjectPtr ruleObject(std::string_view yaml) {
  return std::make_shared<const json::Json>(*json::parseYaml(yaml));
}

const char* const kService = R"(
metadata: {namespace: shop, name: web}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.50
  ports: [{name: http, port: 80, targetPort: 8080}]
status: {loadBalancer: {ingress: [{ip: 127.77.0.1}, {ip: 127.77.0.2}, {hostname: x}]}}
)";

const char* const kSlice = R"(
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.244.0.2], conditions: {ready: true}}
- {addresses: [10.244.0.3], conditions: {ready: true}}
- {addresses: [10.244.0.4], conditions: {ready: false}}
)";

TEST(ServicePorts, JoinsServicesWithTheirReadyEndpoints) {
  const auto ports = servicePorts({ruleObject(kService)}, {ruleObject(kSlice)});
  ASSERT_EQ(ports.size(), 1U);
  EXPECT_EQ(ports[0].service, "shop/web");
  EXPECT_EQ(ports[0].cluster_ip, "10.96.0.50");
  EXPECT_EQ(ports[0].load_balancers, (std::vector<std::string>{"127.77.0.1", "127.77.0.2"}));
  ASSERT_EQ(ports[0].backends.size(), 2U);
  EXPECT_EQ(ports[0].backends[1].ip, "10.244.0.3");
  EXPECT_EQ(ports[0].backends[1].port, 8080);
  EXPECT_TRUE(servicePorts({ruleObject(kService)}, {})[0].backends.empty());
}

TEST(ServicePorts, LeavesOutWhatHasNoAddressInThePodNetwork) {
  EXPECT_TRUE(
      servicePorts(
          {ruleObject("{metadata: {namespace: a, name: b}, spec: {clusterIP: None, ports: "
                      "[{port: 1}]}}"),
           ruleObject("{metadata: {namespace: a, name: c}, spec: {type: ExternalName}}"),
           ruleObject("{metadata: {namespace: a, name: d}, spec: {clusterIP: 10.96.0.4, "
                      "ports: [{port: 70000}, {port: 1, protocol: SCTP}]}}"),
           ruleObject("{metadata: {namespace: default, name: kubernetes}, spec: {clusterIP: "
                      "10.96.0.1, ports: [{port: 443}]}}")},
          {})
          .empty());
}

TEST(ServicePorts, TakesAtMostTheNamedNumberOfBackends) {
  std::string slice =
      "{metadata: {namespace: shop, name: s, labels: {kubernetes.io/service-name: web}}, "
      "ports: [{name: http, port: 8080}], endpoints: [";
  for (std::size_t i = 0; i < kServiceBackendsMax + 5; ++i) slice += "{addresses: [10.244.0.2]},";
  const auto ports = servicePorts({ruleObject(kService)}, {ruleObject(slice + "]}")});
  EXPECT_EQ(ports.at(0).backends.size(), kServiceBackendsMax);
}

TEST(ServiceRules, LeaveOutWhatExceedsATransaction) {
  std::vector<ServicePort> ports;
  for (int i = 0; i < 5000; ++i) {
    ServicePort port = dnsServicePorts("10.96.0.10", "10.244.0.1")[0];
    port.port = static_cast<std::uint16_t>(i + 1);
    ports.push_back(port);
  }
  std::size_t left_out = 0;
  const std::string batch = serviceRules(ports, RulesFor::kPod, &left_out);
  EXPECT_LE(batch.size(), kNetfilterBatchBytesMax);
  EXPECT_GT(left_out, 0U);
  EXPECT_LT(left_out, 4500U);
  ports.resize(500);
  serviceRules(ports, RulesFor::kPod, &left_out);
  EXPECT_EQ(left_out, 0U);
}

}  // namespace
}  // namespace postern::network
