#include "control/webhooks.h"

#include "base/strings.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::control {
namespace {

using json::Json;

Json admissionReview(Json object) {
  return {{"request", {{"uid", "u-1"}, {"namespace", "default"}, {"object", std::move(object)}}}};
}

TEST(Injection, AnswersAPatchThatAddsTheProxy) {
  Json pod = {{"metadata", Json::object()},
              {"spec", {{"containers", Json::array({{{"name", "app"}}})}}}};
  Json ns = {{"metadata", {{"name", "default"}, {"labels", {{"istio-injection", "enabled"}}}}}};
  Json answer = answerInjection(admissionReview(pod), ns, {.proxy_image = "p"});
  EXPECT_EQ(answer["response"]["uid"], "u-1");
  auto patch = json::parse(*base::base64Decode(answer["response"]["patch"].get<std::string>()));
  ASSERT_TRUE(patch);
  EXPECT_EQ(pod.patch(*patch)["spec"]["containers"].size(), 2u);
}

TEST(Injection, LeavesPodsAloneWhereTheMeshSwitchedItOff) {
  Json pod = {{"metadata", Json::object()},
              {"spec", {{"containers", Json::array({{{"name", "app"}}})}}}};
  Json ns = {{"metadata", {{"name", "default"}, {"labels", {{"istio-injection", "enabled"}}}}}};
  Json answer = answerInjection(admissionReview(pod), ns, {.proxy_image = "p", .enabled = false});
  EXPECT_TRUE(answer["response"]["allowed"].get<bool>());
  EXPECT_FALSE(answer["response"].contains("patch"));
}

TEST(Injection, AllowsWithoutPatchWhereNobodyAsked) {
  Json pod = {{"spec", {{"containers", Json::array()}}}};
  Json answer = answerInjection(admissionReview(pod), Json::object(), {.proxy_image = "p"});
  EXPECT_TRUE(answer["response"]["allowed"].get<bool>());
  EXPECT_FALSE(answer["response"].contains("patch"));
}

TEST(Validation, RefusesWithTheFieldPathAndPassesWarnings) {
  Json answer = answerValidation(admissionReview({{"kind", "Gateway"}}), [](const Json&) {
    return Verdict{{"spec.servers[0].port.number: must be 1 to 65535"}, {"no workload matches"}};
  });
  EXPECT_FALSE(answer["response"]["allowed"].get<bool>());
  EXPECT_NE(answer["response"]["status"]["message"].get<std::string>().find(
                "spec.servers[0].port.number"),
            std::string::npos);
  EXPECT_EQ(answer["response"]["warnings"][0], "no workload matches");
}

}  // namespace
}  // namespace postern::control
