#include "operator/gateway_objects.h"
#include "operator/mesh_config.h"
#include "operator/mesh_defaults.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::op {
namespace {

using json::Json;

Json gateway(Json spec) {
  return {{"metadata", {{"name", "gw"}, {"namespace", "team"}, {"uid", "u-1"}}},
          {"spec", std::move(spec)}};
}

const Json& find(const std::vector<Json>& objects, const std::string& kind) {
  static const Json kNone;
  for (const Json& each : objects) {
    if (each["kind"] == kind) return each;
  }
  return kNone;
}

TEST(GatewayObjects, AreNamespacedLabelledAndOwned) {
  auto objects = gatewayObjects(
      gateway({{"type", "ingress"}, {"ports", {{{"name", "http"}, {"port", 8000}}}}}),
      defaultedMeshSpec({}), "istio-system");
  ASSERT_EQ(objects.size(), 7u);
  for (const Json& each : objects) {
    EXPECT_EQ(each["metadata"]["namespace"], "team") << each["kind"];
    EXPECT_EQ(each["metadata"]["labels"]["gateway-name"], "gw");
    EXPECT_EQ(each["metadata"]["ownerReferences"][0]["uid"], "u-1");
  }
  EXPECT_EQ(find(objects, "Service")["spec"]["type"], "LoadBalancer");
  EXPECT_FALSE(find(objects, "Deployment")["spec"].contains("replicas"));
}

TEST(GatewayObjects, ListenOnTheTargetPort) {
  auto objects =
      gatewayObjects(gateway({{"type", "egress"},
                              {"ports", {{{"name", "http"}, {"port", 80}, {"targetPort", 8080}}}}}),
                     defaultedMeshSpec({}), "istio-system");
  EXPECT_EQ(json::find(find(objects, "Deployment"), "spec.template.spec.containers")
                ->at(0)["ports"][0]["containerPort"],
            8080);
  EXPECT_EQ(find(objects, "Service")["spec"]["type"], "ClusterIP");
}

TEST(GatewayObjects, UserLabelsCannotTakeOverTheAutomaticOnes) {
  Json labels = gatewayLabels(
      gateway({{"type", "ingress"}, {"labels", {{"gateway-name", "other"}, {"team", "x"}}}}));
  EXPECT_EQ(labels["gateway-name"], "gw");
  EXPECT_EQ(labels["team"], "x");
}

TEST(MeshDefaults, KeepWhatTheUserWrote) {
  Json spec = defaultedMeshSpec({{"outboundTrafficPolicy", {{"mode", "REGISTRY_ONLY"}}},
                                 {"gateways", {{"ingress", {{"maxReplicas", 3}}}}}});
  EXPECT_EQ(spec["outboundTrafficPolicy"]["mode"], "REGISTRY_ONLY");
  EXPECT_EQ(spec["gateways"]["ingress"]["maxReplicas"], 3);
  EXPECT_EQ(spec["gateways"]["egress"]["serviceType"], "ClusterIP");
  EXPECT_EQ(defaultedMeshSpec(spec), spec);
}

TEST(MeshDefaults, ADisabledGatewayIsNotWanted) {
  Json mesh = {{"metadata", {{"namespace", "istio-system"}}},
               {"spec", {{"gateways", {{"egress", {{"enabled", false}}}}}}}};
  EXPECT_TRUE(mainGateway(mesh, "egress").is_null());
  EXPECT_EQ(mainGateway(mesh, "ingress")["spec"]["labels"]["istio"], "ingressgateway");
}

TEST(MeshConfig, SaysWhatTheMeshSays) {
  Json mesh = {{"metadata", {{"name", "mesh"}, {"namespace", "istio-system"}, {"uid", "u"}}}};
  const Json map = meshConfigMap(
      mesh, defaultedMeshSpec({{"outboundTrafficPolicy", {{"mode", "REGISTRY_ONLY"}}}}));
  EXPECT_EQ(map["metadata"]["ownerReferences"][0]["uid"], "u");
  auto config = json::parseYaml(map["data"]["mesh"].get<std::string>());
  ASSERT_TRUE(config);
  EXPECT_EQ((*config)["outboundTrafficPolicy"]["mode"], "REGISTRY_ONLY");
  EXPECT_EQ((*config)["accessLogFile"], "/dev/stdout");
  EXPECT_EQ((*config)["rootNamespace"], "istio-system");
}

}  // namespace
}  // namespace postern::op
