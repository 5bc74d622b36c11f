#include "network/service_rules.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::network {
namespace {

ObjectPtr object(std::string_view yaml) {
  return std::make_shared<const json::Json>(*json::parseYaml(yaml));
}

const char* const kService = R"(
metadata: {namespace: shop, name: web}
spec:
  clusterIP: 10.96.0.50
  ports: [{name: http, port: 80, targetPort: 8080}]
status: {loadBalancer: {ingress: [{ip: 172.30.255.1}]}}
)";

const char* const kSlice = R"(
metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.244.0.2], conditions: {ready: true}}
- {addresses: [10.244.0.3], conditions: {ready: true}}
- {addresses: [10.244.0.4], conditions: {ready: false}}
)";

TEST(ServiceRules, SpreadsOverReadyEndpoints) {
  const auto ports = servicePorts({object(kService)}, {object(kSlice)});
  ASSERT_EQ(ports.size(), 1u);
  EXPECT_EQ(ports[0].backends.size(), 2u);
  const std::string rules = serviceRuleset(ports);
  EXPECT_NE(rules.find("ip daddr 10.96.0.50 tcp dport 80 dnat ip to numgen random mod 2 map { 0 : "
                       "10.244.0.2 . 8080, 1 : 10.244.0.3 . 8080 }"),
            std::string::npos);
  EXPECT_NE(rules.find("ip daddr 172.30.255.1 tcp dport 80"), std::string::npos);
}

TEST(ServiceRules, RefusesWithoutEndpointsAndLeavesHeadlessOut) {
  const auto headless = object(
      "{metadata: {namespace: a, name: b}, spec: {clusterIP: None, ports: "
      "[{port: 1}]}}");
  const std::string rules = serviceRuleset(servicePorts({object(kService), headless}, {}));
  EXPECT_NE(rules.find("ip daddr 10.96.0.50 tcp dport 80 reject"), std::string::npos);
  EXPECT_EQ(rules.find("None"), std::string::npos);
}

}  // namespace
}  // namespace postern::network
