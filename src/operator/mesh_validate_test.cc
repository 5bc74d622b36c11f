#include "operator/mesh_validate.h"

#include "operator/mesh_defaults.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::op {
namespace {

using json::Json;

std::string first(const char* kind, Json spec) {
  auto errors = validateMesh(kind, {{"spec", std::move(spec)}});
  return errors.empty() ? "" : errors.front().message();
}

TEST(ValidateMesh, NamesTheField) {
  EXPECT_EQ(first("MeshGateway", Json::object()), "spec.type: Required value");
  EXPECT_EQ(first("MeshGateway", {{"type", "both"}}),
            "spec.type: Unsupported value: \"both\": supported values: \"egress\", \"ingress\"");
  EXPECT_EQ(
      first("MeshGateway", {{"type", "ingress"}, {"ports", Json::array({{{"port", 70000}}})}}),
      "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive");
  EXPECT_EQ(first("MeshGateway", {{"type", "ingress"}, {"minReplicas", 3}, {"maxReplicas", 2}}),
            "spec.maxReplicas: must be greater than or equal to minReplicas");
  EXPECT_EQ(first("Istio", {{"outboundTrafficPolicy", {{"mode", "SOME"}}}}).substr(0, 31),
            "spec.outboundTrafficPolicy.mode");
  EXPECT_EQ(first("Istio", {{"gateways", {{"ingress", {{"serviceType", "X"}}}}}}).substr(0, 33),
            "spec.gateways.ingress.serviceType");
}

TEST(ValidateMesh, AcceptsTheOrdinary) {
  EXPECT_EQ(
      first("MeshGateway",
            {{"type", "egress"},
             {"serviceType", "ClusterIP"},
             {"ports", Json::array({{{"name", "http"}, {"port", 80}, {"targetPort", "web"}}})}}),
      "");
  EXPECT_EQ(first("Istio", {{"outboundTrafficPolicy", {{"mode", "REGISTRY_ONLY"}}}}), "");
}

TEST(MeshWarnings, NameSettingsWithoutEffect) {
  const auto warned = [](Json spec) {
    std::string out;
    for (const auto& each : meshWarnings("Istio", {{"spec", std::move(spec)}}))
      out += each.path + " ";
    return out;
  };
  EXPECT_EQ(warned({{"mixer", {{"enabled", true}}}, {"tracing", {{"enabled", false}}}}),
            "spec.mixer ");
  EXPECT_EQ(warned({{"mtls", true}, {"includeIPRanges", "10.0.0.0/8"}, {"multiMesh", false}}),
            "spec.includeIPRanges spec.mtls ");
  EXPECT_EQ(warned({{"proxy", {{"logLevel", "debug"}, {"accessLogEncoding", "JSON"}}}}),
            "spec.proxy.logLevel spec.proxy.accessLogEncoding ");
  EXPECT_EQ(warned({{"gateways", {{"k8singress", {{"enabled", true}}}}}}),
            "spec.gateways.k8singress ");
  EXPECT_EQ(warned({{"defaultPodDisruptionBudget", {{"enabled", false}}}}),
            "spec.defaultPodDisruptionBudget.enabled ");
  EXPECT_EQ(warned(Json::object()), "");
}

TEST(MeshWarnings, OfADefaultedMeshAreNone) {
  EXPECT_TRUE(meshWarnings("Istio", {{"spec", defaultedMeshSpec(Json::object())}}).empty());
}

}  // namespace
}  // namespace postern::op
