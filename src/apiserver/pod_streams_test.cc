#include "apiserver/pod_streams.h"

#include <gtest/gtest.h>

namespace postern::apiserver {
namespace {

Call callOf(const std::string& method, const std::string& sub, const std::string& query = "") {
  http::Request request;
  request.method = method;
  request.path = "/api/v1/namespaces/ns/pods/p/" + sub;
  request.query = query;
  return parseCall(std::move(request));
}

Json podOf(std::initializer_list<const char*> containers, const char* node = "n") {
  Json pod = {{"metadata", {{"name", "p"}, {"namespace", "ns"}}}, {"spec", {{"nodeName", node}}}};
  pod["spec"]["initContainers"] = Json::array({{{"name", "setup"}}});
  for (const char* name : containers) pod["spec"]["containers"].push_back({{"name", name}});
  return pod;
}

TEST(PodStreams, SpeakTheKubeletsPaths) {
  const Json one = podOf({"c"});
  EXPECT_EQ(
      *nodeTarget(callOf("POST", "exec", "command=ls&command=-l+%2F&stdin=true&stdout=1&tty=true"),
                  one),
      "/exec/ns/p/c?input=1&output=1&tty=1&command=ls&command=-l%20%2F");
  EXPECT_EQ(*nodeTarget(callOf("GET", "attach", "stdout=true&stderr=true&container=setup"), one),
            "/attach/ns/p/setup?output=1&error=1");
  EXPECT_EQ(*nodeTarget(callOf("GET", "portforward"), podOf({"a", "b"})), "/portForward/ns/p");
  EXPECT_EQ(*nodeTarget(callOf("GET", "log",
                               "follow=true&tailLines=10&timestamps=true&previous=false&"
                               "sinceTime=2024-01-01T00:00:00Z&limitBytes=7"),
                        one),
            "/containerLogs/ns/p/c?follow=true&timestamps=true&tailLines=10&limitBytes=7&"
            "sinceTime=2024-01-01T00%3A00%3A00Z");
}

TEST(PodStreams, RefuseWithKubernetesWords) {
  const Json two = podOf({"a", "b"});
  auto unnamed = nodeTarget(callOf("GET", "log"), two);
  ASSERT_FALSE(unnamed);
  EXPECT_EQ(unnamed.error().code, 400);
  EXPECT_EQ(unnamed.error().message,
            "a container name must be specified for pod p, choose one of: [setup a b]");
  auto wrong = nodeTarget(callOf("POST", "exec", "container=x"), two);
  EXPECT_EQ(wrong.error().message, "container x is not valid for pod p");
  for (const char* sub : {"exec", "attach", "portforward"}) {
    auto homeless = nodeTarget(callOf("POST", sub), podOf({"c"}, ""));
    EXPECT_EQ(homeless.error().code, 400);
    EXPECT_EQ(homeless.error().message, "pod p does not have a host assigned");
    EXPECT_EQ(nodeTarget(callOf("PUT", sub), two).error().code, 405);
  }
  EXPECT_EQ(*nodeTarget(callOf("GET", "log"), podOf({"c"}, "")), "");
  EXPECT_EQ(nodeTarget(callOf("POST", "log"), two).error().code, 405);
}

TEST(PodStreams, LogOptionsAreChecked) {
  const Json one = podOf({"c"});
  for (const char* query : {"tailLines=-1", "sinceSeconds=0", "limitBytes=0",
                            "sinceSeconds=5&sinceTime=2024-01-01T00:00:00Z"}) {
    auto refused = nodeTarget(callOf("GET", "log", query), one);
    ASSERT_FALSE(refused) << query;
    EXPECT_EQ(refused.error().code, 422) << query;
    EXPECT_EQ(refused.error().reason, "Invalid");
  }
  EXPECT_EQ(nodeTarget(callOf("GET", "log", "tailLines=many"), one).error().code, 400);
  EXPECT_EQ(*nodeTarget(callOf("GET", "log", "tailLines=0"), one),
            "/containerLogs/ns/p/c?tailLines=0");
}

}  // namespace
}  // namespace postern::apiserver
