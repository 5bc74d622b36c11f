// The HTTP side of the proxy over real sockets: clients and origins are scripted byte by byte.
#include "proxy/http_fixture_test.h"

#include <gtest/gtest.h>

namespace postern::proxy {
namespace {

using nlohmann::json;

json route(json match, json action) { return {{"match", std::move(match)}, {"route", action}}; }
json allTo(json action) { return route({{"prefix", "/"}}, std::move(action)); }

class HttpManagerTest : public HttpFixture {};

TEST_F(HttpManagerTest, ForwardsAndRewritesTheAnswerInPlace) {
  origin_.answer(
      "HTTP/1.1 200 OK\r\nX-First: 1\r\nServer: gunicorn\r\nContent-Length: 2\r\n\r\nhi");
  start({allTo({{"cluster", "app"}})});
  const std::string answer = exchange("GET /a?b HTTP/1.1\r\nHost: Test\r\nUser-Agent: t\r\n\r\n");
  EXPECT_EQ(withoutDate(answer),
            "HTTP/1.1 200 OK\r\nx-first: 1\r\nserver: envoy\r\ncontent-length: 2\r\n"
            "x-envoy-upstream-service-time: N\r\ndate: D\r\n\r\nhi");
  const std::string seen = origin_.request(0);
  EXPECT_TRUE(seen.starts_with("GET /a?b HTTP/1.1\r\nhost: Test\r\nuser-agent: t\r\n")) << seen;
  EXPECT_NE(seen.find("\r\nx-forwarded-proto: http\r\n"), std::string::npos) << seen;
  EXPECT_NE(seen.find("\r\nx-request-id: "), std::string::npos) << seen;
  EXPECT_NE(seen.find("\r\nx-envoy-expected-rq-timeout-ms: 15000\r\n"), std::string::npos) << seen;
  EXPECT_EQ(stats_.value("http.in.downstream_rq_2xx"), 1);
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_200"), 1);
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_total"), 1);
}

TEST_F(HttpManagerTest, AnswersByItself) {
  json block = {{"match", {{"prefix", "/block"}}}, {"direct_response", {{"status", 502}}}};
  json text = {
      {"match", {{"prefix", "/text"}}},
      {"direct_response", {{"status", 418}, {"body", {{"inline_string", "tea"}}}}},
      {"response_headers_to_add", {{{"header", {{"key", "x-r"}, {"value", "%RESP(:status)%"}}}}}}};
  start({block, text, route({{"prefix", "/lost"}}, {{"cluster", "nowhere"}})});
  EXPECT_EQ(withoutDate(exchange("GET /block HTTP/1.1\r\nHost: a\r\n\r\n")),
            "HTTP/1.1 502 Bad Gateway\r\ndate: D\r\nserver: envoy\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(withoutDate(exchange("GET /text HTTP/1.1\r\nHost: a\r\n\r\n")),
            "HTTP/1.1 418 Unknown\r\nx-r: 418\r\ncontent-length: 3\r\ncontent-type: text/plain\r\n"
            "date: D\r\nserver: envoy\r\n\r\ntea");
  EXPECT_EQ(withoutDate(exchange("GET /none HTTP/1.1\r\nHost: a\r\n\r\n")),
            "HTTP/1.1 404 Not Found\r\ndate: D\r\nserver: envoy\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(statusOf(exchange("GET /lost HTTP/1.1\r\nHost: a\r\n\r\n")), 503);
  EXPECT_EQ(log(),
            "502 - direct_response\n418 - direct_response\n404 NR route_not_found\n"
            "503 NC cluster_not_found\n");
}

TEST_F(HttpManagerTest, Redirects) {
  struct Case {
    json redirect;
    const char* location;
    int status;
  };
  const Case cases[] = {
      {{{"https_redirect", true}}, "https://a/x/y?q=1", 301},
      {{{"host_redirect", "b"}, {"response_code", "FOUND"}}, "http://b/x/y?q=1", 302},
      {{{"path_redirect", "/new"}}, "http://a:80/new?q=1", 301},
      {{{"path_redirect", "/new?own"}}, "http://a:80/new?own", 301},
      {{{"prefix_rewrite", "/z"}, {"response_code", "SEE_OTHER"}}, "http://a:80/z/y?q=1", 303},
      {{{"regex_rewrite", {{"pattern", {{"regex", "^/x/(.*)"}}}, {"substitution", "/\\1/x"}}},
        {"response_code", "PERMANENT_REDIRECT"}},
       "http://a:80/y/x?q=1",
       308},
      {{{"strip_query", true}, {"response_code", "TEMPORARY_REDIRECT"}}, "http://a:80/x/y", 307},
      {{{"port_redirect", 8443}, {"scheme_redirect", "https"}}, "https://a:8443/x/y?q=1", 301},
  };
  json routes = json::array();
  for (std::size_t i = 0; i < std::size(cases); ++i) {
    json match = {{"prefix", "/x"},
                  {"headers", {{{"name", "n"}, {"string_match", {{"exact", std::to_string(i)}}}}}}};
    routes.push_back({{"match", match}, {"redirect", cases[i].redirect}});
  }
  start(routes);
  for (std::size_t i = 0; i < std::size(cases); ++i) {
    const std::string answer =
        exchange("GET /x/y?q=1 HTTP/1.1\r\nHost: a:80\r\nN: " + std::to_string(i) + "\r\n\r\n");
    EXPECT_EQ(statusOf(answer), cases[i].status) << answer;
    EXPECT_NE(answer.find(std::string("\r\nlocation: ") + cases[i].location + "\r\n"),
              std::string::npos)
        << cases[i].location << "\n"
        << answer;
  }
}

TEST_F(HttpManagerTest, RewritesAndMutatesInOrder) {
  auto add = [](const char* name, const char* value) {
    return json{{"header", {{"key", name}, {"value", value}}}};
  };
  json one =
      route({{"prefix", "/api/"}},
            {{"cluster", "app"}, {"prefix_rewrite", "/"}, {"host_rewrite_literal", "in.side"}});
  one["request_headers_to_add"] = {
      add("x-order", "route"),
      add("x-from", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %REQ(:METHOD)%")};
  one["request_headers_to_remove"] = {"x-gone"};
  one["response_headers_to_add"] = json::array({add("x-cluster", "%UPSTREAM_CLUSTER%")});
  one["response_headers_to_remove"] = {"x-secret"};
  vhost_["request_headers_to_add"] = json::array({add("x-order", "vhost")});
  origin_.answer("HTTP/1.1 200 OK\r\nx-secret: 1\r\ncontent-length: 0\r\n\r\n");
  start({one});
  const std::string answer = exchange("GET /api/v1?q HTTP/1.1\r\nHost: out\r\nX-Gone: 1\r\n\r\n");
  const std::string seen = origin_.request(0);
  EXPECT_TRUE(seen.starts_with("GET /v1?q HTTP/1.1\r\nhost: in.side\r\n")) << seen;
  EXPECT_EQ(seen.find("x-gone"), std::string::npos);
  EXPECT_NE(seen.find("x-order: route\r\nx-from: 127.0.0.1 GET\r\nx-order: vhost\r\n"),
            std::string::npos)
      << seen;
  EXPECT_NE(seen.find("x-envoy-original-path: /api/v1?q\r\n"), std::string::npos) << seen;
  EXPECT_NE(seen.find("x-envoy-original-host: out\r\n"), std::string::npos) << seen;
  EXPECT_NE(answer.find("x-cluster: app\r\n"), std::string::npos) << answer;
  EXPECT_EQ(answer.find("x-secret"), std::string::npos);
}

TEST_F(HttpManagerTest, RetriesOnStatusWithTheBody) {
  origin_.answer("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
  vhost_["include_request_attempt_count"] = true;
  start({allTo({{"cluster", "app"},
                {"retry_policy",
                 {{"retry_on", "5xx"},
                  {"num_retries", 2},
                  {"retry_back_off", {{"base_interval", "0.001s"}}}}}})});
  const std::string answer =
      exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
  EXPECT_EQ(statusOf(answer), 200) << answer;
  ASSERT_EQ(origin_.requests(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(origin_.request(i).ends_with("\r\n\r\nhello")) << origin_.request(i);
    EXPECT_NE(origin_.request(i).find("x-envoy-attempt-count: " + std::to_string(i + 1)),
              std::string::npos);
  }
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_retry"), 1);
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_retry_success"), 1);
}

TEST_F(HttpManagerTest, RetriesAreLimited) {
  for (int i = 0; i < 3; ++i)
    origin_.answer("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
  start({allTo({{"cluster", "app"},
                {"retry_policy",
                 {{"retry_on", "retriable-status-codes"},
                  {"retriable_status_codes", {503}},
                  {"num_retries", 2},
                  {"retry_back_off", {{"base_interval", "0.001s"}}}}}})});
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), 503);
  EXPECT_EQ(origin_.requests(), 3U);
  EXPECT_EQ(log(), "503 URX via_upstream\n");
}

TEST_F(HttpManagerTest, RetriesWithoutAskingWhenAReusedConnectionWasClosed) {
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1");
  origin_.answer("");  // closes in place of an answer
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2");
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n3");
  start({allTo({{"cluster", "app"}})});
  EXPECT_TRUE(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").ends_with("1"));
  EXPECT_TRUE(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").ends_with("2"));
  EXPECT_EQ(origin_.connections(), 2U);
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_retry"), 0);
}

TEST_F(HttpManagerTest, APostIsNotSentTwice) {
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1");
  origin_.answer("");
  start({allTo({{"cluster", "app"}})});
  EXPECT_TRUE(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").ends_with("1"));
  const std::string answer = exchange("POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(statusOf(answer), 503);
  EXPECT_TRUE(
      answer.ends_with("upstream connect error or disconnect/reset before headers. reset "
                       "reason: connection termination"))
      << answer;
  EXPECT_EQ(log(),
            "200 - via_upstream\n503 UC "
            "upstream_reset_before_response_started{connection_termination}\n");
}

TEST_F(HttpManagerTest, ConnectionRefused) {
  origin_.stop();
  start({allTo({{"cluster", "app"},
                {"retry_policy",
                 {{"retry_on", "connect-failure"},
                  {"num_retries", 1},
                  {"retry_back_off", {{"base_interval", "0.001s"}}}}}})});
  const std::string answer = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(statusOf(answer), 503);
  EXPECT_TRUE(answer.ends_with("retried and the latest reset reason: remote connection failure"))
      << answer;
  EXPECT_TRUE(log().starts_with("503 URX,UF upstream_reset_before_response_started{")) << log();
}

TEST_F(HttpManagerTest, TimesOut) {
  start({route({{"prefix", "/total"}}, {{"cluster", "app"}, {"timeout", "0.05s"}}),
         route({{"prefix", "/try"}}, {{"cluster", "app"},
                                      {"timeout", "5s"},
                                      {"retry_policy", {{"per_try_timeout", "0.05s"}}}}),
         route({{"prefix", "/idle"}},
               {{"cluster", "app"}, {"timeout", "0s"}, {"idle_timeout", "0.05s"}})});
  for (const char* path : {"/total", "/try", "/idle"}) {
    const std::string answer =
        exchange(std::string("GET ") + path + " HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(statusOf(answer), 504) << path << answer;
  }
  EXPECT_EQ(log(),
            "504 UT response_timeout\n504 UT upstream_per_try_timeout\n"
            "504 SI stream_idle_timeout\n");
}

TEST_F(HttpManagerTest, GrpcGetsItsOwnKindOfError) {
  start({route({{"prefix", "/x"}}, {{"cluster", "nowhere"}})});
  const std::string answer = exchange(
      "POST /x HTTP/1.1\r\nHost: a\r\ncontent-type: application/grpc\r\n"
      "content-length: 0\r\n\r\n");
  EXPECT_EQ(statusOf(answer), 200);
  EXPECT_NE(answer.find("content-type: application/grpc\r\ngrpc-status: 14\r\n"), std::string::npos)
      << answer;
}

TEST_F(HttpManagerTest, InjectsFaults) {
  addFilter(
      {{"name", "envoy.filters.http.fault"},
       {"typed_config",
        {{"@type", "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}}}});
  auto fault = [](json fields) {
    fields["@type"] = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    return json{{"envoy.filters.http.fault", fields}};
  };
  json always = {{"numerator", 1000000}, {"denominator", "MILLION"}};
  json abort = route({{"prefix", "/abort"}}, {{"cluster", "app"}});
  abort["typed_per_filter_config"] =
      fault({{"abort", {{"http_status", 555}, {"percentage", always}}}});
  json delay = route({{"prefix", "/delay"}}, {{"cluster", "app"}});
  delay["typed_per_filter_config"] =
      fault({{"delay", {{"fixed_delay", "0.05s"}, {"percentage", always}}}});
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  start({abort, delay});
  const std::string aborted = exchange("GET /abort HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(statusOf(aborted), 555);
  EXPECT_TRUE(aborted.ends_with("\r\n\r\nfault filter abort")) << aborted;
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(statusOf(exchange("GET /delay HTTP/1.1\r\nHost: a\r\n\r\n")), 200);
  EXPECT_GE(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(45));
  EXPECT_EQ(log(), "555 FI fault_filter_abort\n200 DI via_upstream\n");
  EXPECT_EQ(stats_.value("http.in.fault.active_faults"), 0);
}

TEST_F(HttpManagerTest, OfTwoUpgradesNoneIsAllowed) {
  manager_["upgrade_configs"] = json::array({{{"upgrade_type", "websocket"}}});
  start({allTo({{"cluster", "app"}})});
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n"
                              "Upgrade: websocket\r\nUpgrade: other\r\n\r\n")),
            403);
  EXPECT_EQ(origin_.requests(), 0U);
}

TEST_F(HttpManagerTest, TheLogKnowsTheUpstreamConnectionAndTheHostsName) {
  format_ = "%UPSTREAM_CONNECTION_ID% %UPSTREAM_HOST_NAME%\n";
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  start({allTo({{"cluster", "app"}}), route({{"prefix", "/none"}}, {{"cluster", "nowhere"}})});
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), 200);
  const std::string line = log();
  EXPECT_NE(line.substr(0, 2), "- ") << line;
  EXPECT_TRUE(line.ends_with(" 127.0.0.1:" + std::to_string(origin_.port()) + "\n")) << line;
}

TEST_F(HttpManagerTest, TunnelsWebSockets) {
  manager_["upgrade_configs"] = {{{"upgrade_type", "websocket"}}};
  origin_.answer(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
      "Connection: Upgrade\r\n\r\n",
      Origin::Then::kEcho);
  start({allTo({{"cluster", "app"}, {"timeout", "0.2s"}})});
  Client client(loop_, port());
  client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  ASSERT_TRUE(client.waitFor("\r\n\r\n"));
  EXPECT_EQ(statusOf(client.received()), 101) << client.received();
  EXPECT_NE(client.received().find("connection: Upgrade\r\n"), std::string::npos);
  EXPECT_NE(origin_.request(0).find("connection: Upgrade\r\n"), std::string::npos);
  client.send("ping");
  EXPECT_TRUE(client.waitFor("ping"));
  client.send(std::string(300'000, 'x'));
  EXPECT_TRUE(client.waitForBytes(300'000));
  client.close();
  EXPECT_TRUE(waitUntil([&] { return stats_.value("http.in.downstream_rq_active") == 0; }));
  EXPECT_TRUE(log().starts_with("101 DC downstream_remote_disconnect")) << log();
}

TEST_F(HttpManagerTest, RefusesUpgradesThatAreNotAllowed) {
  start({allTo({{"cluster", "app"}})});
  const std::string answer =
      exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  EXPECT_EQ(statusOf(answer), 403);
  EXPECT_NE(answer.find("connection: close\r\n"), std::string::npos) << answer;
  EXPECT_EQ(log(), "403 - upgrade_failed\n");
}

TEST_F(HttpManagerTest, AnswersExpectContinueAndHttp10) {
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  start({allTo({{"cluster", "app"}})});
  Client client(loop_, port());
  client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  ASSERT_TRUE(client.waitFor("HTTP/1.1 100 Continue\r\n\r\n"));
  client.send("body");
  ASSERT_TRUE(client.waitFor("200 OK"));
  EXPECT_TRUE(origin_.request(0).ends_with("body"));
  EXPECT_EQ(origin_.request(0).find("\r\nexpect:"), std::string::npos);
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n")), 426);
}

TEST_F(HttpManagerTest, AClientThatLeavesFreesTheOrigin) {
  start({allTo({{"cluster", "app"}, {"timeout", "0s"}})});
  Client client(loop_, port());
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_TRUE(waitUntil([&] { return origin_.requests() == 1; }));
  client.close();
  EXPECT_TRUE(waitUntil([&] { return origin_.closed() == 1; }));
  EXPECT_EQ(log(), "0 DC downstream_remote_disconnect\n");
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_active"), 0);
}

TEST_F(HttpManagerTest, CircuitBreakersOverflow) {
  cluster_["circuit_breakers"] = {{"thresholds", {{{"max_requests", 1}}}}};
  start({allTo({{"cluster", "app"}, {"timeout", "0s"}})});
  Client first(loop_, port());
  first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_TRUE(waitUntil([&] { return origin_.requests() == 1; }));
  const std::string answer = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(statusOf(answer), 503);
  EXPECT_NE(answer.find("x-envoy-overloaded: true\r\n"), std::string::npos) << answer;
  EXPECT_TRUE(log().starts_with("503 UO upstream_reset_before_response_started{overflow}"))
      << log();
}

TEST_F(HttpManagerTest, BodiesPassBothWaysWithBackPressure) {
  const std::string big(3'000'000, 'b');
  origin_.answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2dc6c0\r\n" + big +
                 "\r\n0\r\n\r\n");
  start({allTo({{"cluster", "app"}})});
  const std::string answer = exchange(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n"
      "\r\n" +
          big,
      3'000'000);
  EXPECT_EQ(statusOf(answer), 200);
  EXPECT_GE(answer.size(), big.size());
  EXPECT_TRUE(origin_.request(0).ends_with(big.substr(0, 100)));
}

TEST_F(HttpManagerTest, ServesPipelinedRequestsInOrder) {
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1");
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2");
  start({allTo({{"cluster", "app"}})});
  Client client(loop_, port());
  client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_TRUE(client.waitFor("\r\n\r\n2"));
  EXPECT_LT(client.received().find("\r\n\r\n1"), client.received().find("\r\n\r\n2"));
  EXPECT_EQ(origin_.connections(), 1U);
}

TEST_F(HttpManagerTest, LocalRepliesAreMapped) {
  manager_["local_reply_config"] = {
      {"mappers",
       {{{"filter",
          {{"status_code_filter",
            {{"comparison", {{"op", "EQ"}, {"value", {{"default_value", 404}}}}}}}}},
         {"status_code", 410},
         {"body", {{"inline_string", "gone"}}}}}},
      {"body_format",
       {{"json_format", {{"code", "%RESPONSE_CODE%"}, {"text", "%LOCAL_REPLY_BODY%"}}}}}};
  start(json::array());
  const std::string answer = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(statusOf(answer), 410);
  EXPECT_TRUE(answer.ends_with("{\"code\":410,\"text\":\"gone\"}\n")) << answer;
  EXPECT_NE(answer.find("content-type: application/json\r\n"), std::string::npos);
}

TEST_F(HttpManagerTest, CorsPreflight) {
  addFilter({{"name", "envoy.filters.http.cors"},
             {"typed_config",
              {{"@type", "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}}}});
  json policy = {{"@type", "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy"},
                 {"allow_origin_string_match", {{{"exact", "http://a"}}}},
                 {"allow_methods", "GET,POST"},
                 {"allow_credentials", true}};
  json one = allTo({{"cluster", "app"}});
  one["typed_per_filter_config"] = {{"envoy.filters.http.cors", policy}};
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  start({one});
  const std::string preflight = exchange(
      "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\n"
      "Access-Control-Request-Method: POST\r\n\r\n");
  EXPECT_EQ(statusOf(preflight), 200);
  EXPECT_NE(preflight.find("access-control-allow-methods: GET,POST\r\n"), std::string::npos);
  const std::string simple = exchange("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\n\r\n");
  EXPECT_NE(simple.find("access-control-allow-origin: http://a\r\n"), std::string::npos) << simple;
}

}  // namespace
}  // namespace postern::proxy
