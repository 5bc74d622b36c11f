// What a request and its answer lose and gain on their way, as the origin and the client see it.
#include "net/machine_address.h"
#include "proxy/http_fixture_test.h"

#include <gtest/gtest.h>

namespace postern::proxy {
namespace {

using nlohmann::json;

json all(json action) { return {{"match", {{"prefix", "/"}}}, {"route", std::move(action)}}; }

class ForwardingTest : public HttpFixture {};

TEST_F(ForwardingTest, ForwardsAsConfigured) {
  manager_["use_remote_address"] = true;
  manager_["normalize_path"] = true;
  manager_["merge_slashes"] = true;
  manager_["strip_any_host_port"] = true;
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  start({all({{"cluster", "app"}})});
  exchange(
      "GET /a/./b//%41/../c?x=/../ HTTP/1.1\r\nHost: h:99\r\nX-Forwarded-For: 9.9.9.9\r\n"
      "X-Forwarded-Proto: https\r\nX-Request-Id: mine\r\nX-Envoy-Max-Retries: 7\r\n"
      "Connection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\n");
  const std::string seen = origin_.request(0);
  EXPECT_TRUE(seen.starts_with("GET /a/b/c?x=/../ HTTP/1.1\r\nhost: h\r\n")) << seen;
  EXPECT_NE(seen.find("x-forwarded-for: 9.9.9.9," + net::machineIp() + "\r\n"), std::string::npos)
      << seen;
  EXPECT_NE(seen.find("x-forwarded-proto: http\r\n"), std::string::npos) << seen;
  EXPECT_EQ(seen.find("x-request-id: mine"), std::string::npos) << seen;
  EXPECT_NE(seen.find("x-envoy-external-address: 127.0.0.1\r\n"), std::string::npos) << seen;
  EXPECT_EQ(seen.find("x-envoy-max-retries"), std::string::npos) << seen;
  EXPECT_EQ(seen.find("x-hop"), std::string::npos) << seen;
}

TEST_F(ForwardingTest, ForwardedForOfSeveralLinesBecomesOne) {
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  start({all({{"cluster", "app"}})});
  exchange(
      "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nTE: gzip, trailers\r\n"
      "X-Forwarded-For: 9.9.9.9\r\n\r\n");
  const std::string seen = origin_.request(0);
  EXPECT_NE(seen.find("\r\nx-forwarded-for: 1.2.3.4,9.9.9.9\r\nte: trailers\r\n"),
            std::string::npos)
      << seen;
  EXPECT_EQ(seen.find("x-forwarded-for: 9"), std::string::npos) << seen;
}

TEST_F(ForwardingTest, WhatTheAnswersConnectionNamesStaysBehind) {
  origin_.answer(
      "HTTP/1.1 200 OK\r\nconnection: keep-alive, X-Hop\r\nx-hop: 1\r\nx-end: 2\r\n"
      "content-length: 0\r\n\r\n");
  start({all({{"cluster", "app"}})});
  const std::string answer = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(answer.find("x-hop"), std::string::npos) << answer;
  EXPECT_NE(answer.find("x-end: 2\r\n"), std::string::npos) << answer;
}

TEST_F(ForwardingTest, ProxyConnectionCloseEndsTheConnection) {
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  start({all({{"cluster", "app"}})});
  const std::string answer =
      exchange("GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n");
  EXPECT_NE(answer.find("connection: close\r\n"), std::string::npos) << answer;
  EXPECT_EQ(origin_.request(0).find("proxy-connection"), std::string::npos);
}

TEST_F(ForwardingTest, NormalisedPathsHoldNoNul) {
  manager_["normalize_path"] = true;
  start({all({{"cluster", "app"}})});
  EXPECT_EQ(statusOf(exchange("GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n")), 400);
  EXPECT_EQ(log(), "400 - path_normalization_failed\n");
}

}  // namespace
}  // namespace postern::proxy
