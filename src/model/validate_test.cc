#include "model/validate.h"

#include "json/json.h"
#include "model/findings.h"
#include "model/host.h"
#include "model/parse.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>

namespace postern::model {
namespace {

std::vector<base::ConfigError> check(const char* kind, const std::string& yaml) {
  auto object = json::parseYaml(yaml);
  EXPECT_TRUE(object.has_value());
  return validate(kind, *object);
}
bool names(const std::vector<base::ConfigError>& errors, const std::string& path) {
  for (const auto& error : errors) {
    if (error.path == path) return true;
  }
  return false;
}
std::string gateway(const std::string& servers) {
  return "metadata: {name: g, namespace: default}\nspec: {selector: {a: b}, servers: [" + servers +
         "]}\n";
}
std::string server(const std::string& number, const std::string& protocol,
                   const std::string& name) {
  return "{port: {number: " + number + ", protocol: " + protocol + ", name: " + name +
         "}, hosts: [a.example.com]}";
}

TEST(ValidateTest, GatewayPorts) {
  EXPECT_TRUE(check("Gateway", gateway(server("80", "HTTP", "http"))).empty());
  for (const char* bad : {"0", "70000", "15090", "-1"}) {
    EXPECT_TRUE(names(check("Gateway", gateway(server(bad, "HTTP", "http"))),
                      "spec.servers[0].port.number"))
        << bad;
  }
  EXPECT_TRUE(
      names(check("Gateway", gateway(server("80", "FTP", "x"))), "spec.servers[0].port.protocol"));
  EXPECT_TRUE(
      names(check("Gateway", gateway(server("80", "HTTP", "x") + "," + server("80", "TCP", "y"))),
            "spec.servers[1].port.protocol"));
}

TEST(ValidateTest, VirtualServiceHostsAndWeights) {
  const std::string head = "metadata: {name: v, namespace: default}\nspec:\n";
  const std::string http =
      "  http: [{route: [{destination: {host: a}, weight: -1}, {destination: {host: b}, weight: "
      "5}]}]\n";
  const auto errors = check("VirtualService", head + "  hosts: [x.com, x.com]\n" + http);
  EXPECT_TRUE(names(errors, "spec.hosts[1]"));
  EXPECT_TRUE(names(errors, "spec.http[0].route[0].weight"));
  EXPECT_TRUE(names(check("VirtualService", head + http), "spec.hosts"));
  EXPECT_TRUE(
      names(check("VirtualService", head + "  hosts: [a]\n  http: [{}]\n"), "spec.http[0]"));
  EXPECT_TRUE(names(
      check("VirtualService", head + "  hosts: [a]\n  http: [{match: [{uri: {regex: '('}}], route: "
                                     "[{destination: {host: b}}]}]\n"),
      "spec.http[0].match[0].uri.regex"));
}

TEST(ValidateTest, WrongTypesNeverThrow) {
  for (const char* kind :
       {"Gateway", "VirtualService", "ServiceEntry", "DestinationRule", "Sidecar"}) {
    for (const char* yaml : {"1", "[]", "{spec: 5}",
                             "{spec: {hosts: {a: 1}, servers: [3, {port: "
                             "x}], http: [1, {match: 5, route: [7]}], ports: [null]}}"}) {
      check(kind, yaml);
      findings(kind, *json::parseYaml(yaml), nullptr);
    }
  }
}

TEST(ParseTest, DurationsProtocolsAndHosts) {
  EXPECT_EQ(parseDuration("1h30m"), "5400s");
  EXPECT_EQ(parseDuration("250ms"), "0.25s");
  EXPECT_EQ(parseDuration("5"), "");
  EXPECT_EQ(parseDuration("x"), "");
  EXPECT_EQ(protocolOf("", "http-web", 80), Protocol::kHttp);
  EXPECT_EQ(protocolOf("", "web", 3306), Protocol::kTcp);
  EXPECT_EQ(protocolOf("kubernetes.io/h2c", "tcp", 1), Protocol::kHttp2);
  EXPECT_EQ(protocolOf("", "web", 80), Protocol::kUnknown);
  EXPECT_EQ(completeHost("a", "ns", "cluster.local"), "a.ns.svc.cluster.local");
  EXPECT_EQ(hostIntersection("*", "a.b"), "a.b");
  EXPECT_EQ(hostIntersection("*.b", "a.c"), "");
}

}  // namespace
}  // namespace postern::model
