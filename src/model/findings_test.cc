#include "model/findings.h"

#include "model/parse.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace postern::model {
namespace {

using json::Json;

struct Cluster : Lookup {
  const Gateway* gateway(std::string_view ns, std::string_view name) const override {
    return ns == "default" && name == "here" ? &here : nullptr;
  }
  bool hasHost(std::string_view host) const override {
    return host == "a.default.svc.cluster.local";
  }
  bool hasSubset(std::string_view, std::string_view subset) const override {
    return subset == "v1";
  }
  bool hasWorkload(const Labels& selector) const override { return selector.contains("app"); }
  std::string meshRuleOf(std::string_view host) const override {
    return host == "x.com" ? "default/older" : "";
  }
  std::string portTakenBy(const Gateway&, const Server& server) const override {
    return server.port == 9000 && server.protocol == Protocol::kTcp ? "default/older" : "";
  }
  Gateway here = [] {
    return parseGateway(*json::parseYaml(
        "metadata: {name: here, namespace: default}\n"
        "spec: {servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*.in.org']}]}\n"));
  }();
};

std::vector<Finding> find(const char* kind, const std::string& spec, bool known = true) {
  static const Cluster cluster;
  auto object =
      json::parseYaml("metadata: {name: v, namespace: default, generation: 2}\nspec:\n" + spec);
  EXPECT_TRUE(object) << spec;
  return object ? findings(kind, *object, known ? &cluster : nullptr) : std::vector<Finding>{};
}
bool hasFinding(const std::vector<Finding>& list, std::string_view path, std::string_view code) {
  return std::any_of(list.begin(), list.end(),
                     [&](const Finding& f) { return f.path == path && f.code == code; });
}

TEST(Findings, APortThatAnOlderGatewayHas) {
  const auto found = find("Gateway",
                          "  selector: {app: a}\n  servers:\n"
                          "  - {port: {number: 80, name: h, protocol: HTTP}, hosts: ['*']}\n"
                          "  - {port: {number: 9000, name: t, protocol: TCP}, hosts: ['*']}\n");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_TRUE(hasFinding(found, "spec.servers[1].port", "IST0145"));
  EXPECT_NE(found[0].text.find("default/older"), std::string::npos);
}

TEST(Findings, AbsentGatewaysHostsAndSubsets) {
  const auto found =
      find("VirtualService",
           "  hosts: [x.com]\n  gateways: [gone, mesh]\n  http:\n"
           "  - match: [{uri: {prefix: /a}}]\n    route: [{destination: {host: b}}]\n"
           "  - route: [{destination: {host: a, subset: v2}}]\n");
  EXPECT_TRUE(hasFinding(found, "spec.gateways[0]", "IST0101"));
  EXPECT_TRUE(hasFinding(found, "spec.http[0].route[0].destination.host", "IST0101"));
  EXPECT_TRUE(hasFinding(found, "spec.http[1].route[0].destination.subset", "IST0101"));
  EXPECT_TRUE(hasFinding(found, "spec.hosts[0]", "IST0109"));
  EXPECT_TRUE(find("VirtualService", "  hosts: [x.com]\n  gateways: [gone]\n", false).empty());
}

TEST(Findings, HostsThatNoServerTakes) {
  const std::string rest = "  gateways: [here]\n  http: [{route: [{destination: {host: a}}]}]\n";
  EXPECT_TRUE(hasFinding(find("VirtualService", "  hosts: [a.out.org]\n" + rest), "spec.hosts[0]",
                         "IST0132"));
  EXPECT_TRUE(find("VirtualService", "  hosts: [a.in.org]\n" + rest).empty());
}

TEST(Findings, ShadowedRules) {
  const std::string to = "route: [{destination: {host: a}}]";
  const auto found = find("VirtualService",
                          "  hosts: [y.com]\n  http:\n"
                          "  - {match: [{uri: {exact: /a}}], " +
                              to +
                              "}\n"
                              "  - {match: [{name: n, uri: {exact: /a}}, {uri: {prefix: /}}], " +
                              to +
                              "}\n"
                              "  - {" +
                              to + "}\n");
  EXPECT_TRUE(hasFinding(found, "spec.http[1].match[0]", "IST0130"));
  EXPECT_TRUE(hasFinding(found, "spec.http[2]", "IST0130"));
  EXPECT_EQ(found.size(), 2U);
}

TEST(Findings, TlsOfAGatewayIsAnError) {
  const auto found =
      find("Gateway",
           "  selector: {istio: x}\n  servers: [{port: {number: 443, name: s, protocol: "
           "HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}]\n");
  ASSERT_TRUE(hasFinding(found, "spec.servers[0].tls", "IST0133"));
  EXPECT_EQ(found[0].level, Finding::Level::kError);
  EXPECT_TRUE(hasFinding(found, "spec.selector", "IST0127"));
}

TEST(Findings, FieldsWithoutEffect) {
  EXPECT_TRUE(hasFinding(find("DestinationRule",
                              "  host: a\n  subsets: [{name: s, trafficPolicy: {tls: "
                              "{mode: SIMPLE}}}]\n"),
                         "spec.subsets[0].trafficPolicy.tls", "IST0133"));
  EXPECT_TRUE(hasFinding(find("DestinationRule", "  host: zz\n"), "spec.host", "IST0101"));
  EXPECT_TRUE(hasFinding(
      find("ServiceEntry", "  hosts: [a.b]\n  ports: [{number: 1, name: t, protocol: TCP}]\n"),
      "spec.ports[0]", "IST0134"));
  EXPECT_TRUE(hasFinding(find("Sidecar", "  ingress: []\n"), "spec.ingress", "IST0133"));
}

TEST(Findings, StatusSaysThemOnceAndThatTheyAreGone) {
  auto object = *json::parseYaml(
      "metadata: {name: v, namespace: default, generation: 2}\n"
      "status: {conditions: [{type: Other, status: 'True'}], addresses: [{value: 1.1.1.1}]}\n");
  EXPECT_TRUE(statusWith(object, {}, "t0").is_null());
  const std::vector<Finding> one{{Finding::Level::kError, "spec.x", "is wrong", "IST0101", "N"}};
  object["status"] = statusWith(object, one, "t1");
  const Json& status = object["status"];
  ASSERT_EQ(status["conditions"].size(), 2U);
  EXPECT_EQ(status["conditions"][1]["reason"], "errorsFound");
  EXPECT_EQ(status["conditions"][1]["message"], "spec.x: is wrong");
  EXPECT_EQ(status["validationMessages"][0]["type"]["code"], "IST0101");
  EXPECT_EQ(status["addresses"].size(), 1U);
  EXPECT_TRUE(statusWith(object, one, "t2").is_null());
  const Json gone = statusWith(object, {}, "t3");
  EXPECT_EQ(gone["conditions"][1]["status"], "True");
  EXPECT_EQ(gone["conditions"][1]["lastTransitionTime"], "t3");
  EXPECT_TRUE(gone["validationMessages"].empty());
}

}  // namespace
}  // namespace postern::model
