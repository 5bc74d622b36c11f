#include "inject/injector.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::inject {
namespace {

using json::Json;

Json pod() {
  return {
      {"metadata",
       {{"generateName", "echo-abc-"},
        {"labels", {{"pod-template-hash", "abc"}, {"k8s-app", "echo"}}}}},
      {"spec",
       {{"containers",
         Json::array({{{"name", "echo-service"},
                       {"ports", Json::array({{{"name", "web"}, {"containerPort", 8080}}})},
                       {"readinessProbe", {{"httpGet", {{"path", "/ok"}, {"port", "web"}}}}}}})}}}};
}
Json ns(const char* name, Json labels) {
  return {{"metadata", {{"name", name}, {"labels", std::move(labels)}}}};
}
const InjectorConfig kConfig{.proxy_image = "proxy:1"};

TEST(Decide, FollowsPodThenNamespace) {
  Json enabled = ns("default", {{"istio-injection", "enabled"}});
  Json plain = ns("default", Json::object());
  EXPECT_TRUE(decide(pod(), enabled).inject);
  EXPECT_FALSE(decide(pod(), plain).inject);
  Json opt_in = pod();
  opt_in["metadata"]["labels"]["sidecar.istio.io/inject"] = "true";
  EXPECT_TRUE(decide(opt_in, plain).inject);
  Json opt_out = pod();
  opt_out["metadata"]["annotations"]["sidecar.istio.io/inject"] = "false";
  EXPECT_FALSE(decide(opt_out, enabled).inject);
  EXPECT_FALSE(decide(pod(), ns("kube-system", {{"istio-injection", "enabled"}})).inject);
  Json host = pod();
  host["spec"]["hostNetwork"] = true;
  EXPECT_FALSE(decide(host, enabled).inject);
}

TEST(InjectSidecar, AddsInitAndProxyAfterTheApplication) {
  Json out = injectSidecar(pod(), "default", kConfig);
  EXPECT_EQ(out["spec"]["containers"][0]["name"], "echo-service");
  EXPECT_EQ(out["spec"]["containers"][1]["name"], "istio-proxy");
  EXPECT_EQ(out["spec"]["initContainers"][0]["name"], "istio-init");
  EXPECT_EQ(out["metadata"]["labels"]["service.istio.io/canonical-name"], "echo");
  EXPECT_FALSE(out["metadata"]["annotations"].contains("kubectl.kubernetes.io/default-container"));
  EXPECT_EQ(injectSidecar(out, "default", kConfig), out);
}

TEST(InjectSidecar, MovesHttpProbesToTheAgent) {
  Json out = injectSidecar(pod(), "default", kConfig);
  EXPECT_EQ(out["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"], 15020);
  std::string probers;
  for (const Json& env : out["spec"]["containers"][1]["env"]) {
    if (env["name"] == "ISTIO_KUBE_APP_PROBERS") probers = env["value"];
  }
  EXPECT_NE(probers.find("\"port\":8080"), std::string::npos);
}

TEST(JsonPatch, LeadsFromOneToTheOther) {
  Json before = pod();
  Json after = injectSidecar(before, "default", kConfig);
  EXPECT_EQ(before.patch(jsonPatch(before, after)), after);
}

}  // namespace
}  // namespace postern::inject
