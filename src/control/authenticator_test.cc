#include "control/authenticator.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::control {
namespace {

using json::Json;

Json review(Json status) { return {{"status", std::move(status)}}; }

Json good() {
  return {{"authenticated", true},
          {"audiences", {"istio-ca"}},
          {"user",
           {{"username", "system:serviceaccount:default:echo"},
            {"extra", {{"authentication.kubernetes.io/pod-name", {"echo-1"}}}}}}};
}

TEST(Authenticator, ReadsTheServiceAccountAndThePod) {
  auto caller = callerOf(review(good()));
  ASSERT_TRUE(caller);
  EXPECT_FALSE(caller->local);
  EXPECT_EQ(caller->ns, "default");
  EXPECT_EQ(caller->service_account, "echo");
  EXPECT_EQ(caller->pod, "echo-1");
}

TEST(Authenticator, RefusesWhatIsNotAProxysToken) {
  const auto code = [](Json status) {
    auto caller = callerOf(review(std::move(status)));
    return caller ? 0 : caller.error().code;
  };
  Json status = good();
  status["authenticated"] = false;
  EXPECT_EQ(code(status), 16);
  status = good();
  status["audiences"] = {"https://kubernetes.default.svc"};
  EXPECT_EQ(code(status), 16);
  status = good();
  status.erase("audiences");
  EXPECT_EQ(code(status), 16);
  for (const char* user : {"admin", "system:serviceaccount:default", "system:serviceaccount::x",
                           "system:serviceaccount:x:"}) {
    status = good();
    status["user"]["username"] = user;
    EXPECT_EQ(code(status), 16) << user;
  }
  EXPECT_EQ(code(Json::object()), 16);
}

}  // namespace
}  // namespace postern::control
