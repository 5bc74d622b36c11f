#include "operator/mesh_validate.h"

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

}  // namespace
}  // namespace postern::op
