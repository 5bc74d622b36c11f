// What one exchange does where several of its parts meet; each of these was seen at Envoy too
// (tests/side_by_side/cases_manager.py).
#include "proxy/forwarding.h"
#include "proxy/http_fixture_test.h"

#include <gtest/gtest.h>

namespace postern::proxy {
namespace {

using nlohmann::json;

constexpr char kOk[] = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
constexpr char kGet[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr char kPreflight[] =
    "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nAccess-Control-Request-Method: PUT\r\n"
    "Access-Control-Request-Headers: x-one\r\n\r\n";

json to(json action = {{"cluster", "app"}}) {
  return {{"match", {{"prefix", "/"}}}, {"route", std::move(action)}};
}

json add(const char* name, const char* value, const char* action = "APPEND_IF_EXISTS_OR_ADD") {
  return {{"header", {{"key", name}, {"value", value}}}, {"append_action", action}};
}

json namedFilter(const char* name, const char* type, json fields = json::object()) {
  fields["@type"] = std::string("type.googleapis.com/envoy.extensions.filters.http.") + type;
  return {{"name", name}, {"typed_config", fields}};
}

json always() { return {{"numerator", 100}, {"denominator", "HUNDRED"}}; }

class ExchangeTest : public HttpFixture {
 protected:
  static json cors(json fields) {
    fields["@type"] = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy";
    return {{"cors", fields}};
  }
  void addCors() { addFilter(namedFilter("cors", "cors.v3.Cors")); }
  void addAbort() {
    addFilter(namedFilter("fault", "fault.v3.HTTPFault",
                          {{"abort", {{"http_status", 418}, {"percentage", always()}}}}));
  }
  void wait(std::chrono::milliseconds time) {
    pumpUntil(loop_, [] { return false; }, time);
  }
};

bool holds(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// ---- deadlines

TEST_F(ExchangeTest, RequestTimeoutEndsWhenTheAnswerBegins) {
  manager_["request_timeout"] = "0.1s";
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc");
  start({to()});
  Client client(loop_, port());
  client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n");
  ASSERT_TRUE(client.waitFor("abc"));
  wait(std::chrono::milliseconds(250));
  EXPECT_FALSE(client.ended());
  origin_.answerOn(0, "def");
  EXPECT_TRUE(client.waitFor("abcdef")) << client.received();
  EXPECT_EQ(stats_.value("http.in.downstream_rq_timeout"), 0);
}

TEST_F(ExchangeTest, AGrpcTimeoutOfManyYearsDoesNotOverflow) {
  origin_.answer(kOk);
  start({to({{"cluster", "app"}, {"max_stream_duration", {{"grpc_timeout_header_max", "0s"}}}})});
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\ngrpc-timeout: 99999999H\r\n"
                              "content-type: application/grpc\r\n\r\n")),
            200);
  EXPECT_EQ(log(), "200 - via_upstream\n");
  EXPECT_TRUE(holds(origin_.request(0), "grpc-timeout: 99999999H\r\n")) << origin_.request(0);
}

// ---- paths, hosts, schemes

TEST_F(ExchangeTest, ARewriteToNothingKeepsThePath) {
  const json nothing = {{"pattern", {{"regex", "^/.*$"}}}, {"substitution", ""}};
  origin_.answer(kOk);
  json there = {{"match", {{"prefix", "/there"}}}, {"redirect", {{"regex_rewrite", nothing}}}};
  start({there, to({{"cluster", "app"}, {"regex_rewrite", nothing}})});
  exchange("GET /old?a HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(origin_.request(0).starts_with("GET /old?a HTTP/1.1\r\n")) << origin_.request(0);
  EXPECT_FALSE(holds(origin_.request(0), "x-envoy-original-path"));
  EXPECT_TRUE(holds(exchange("GET /there?a HTTP/1.1\r\nHost: a\r\n\r\n"),
                    "location: http://a/there?a\r\n"));
}

TEST_F(ExchangeTest, HostIsTheAuthorityForConfiguration) {
  format_ = "%REQ(HOST)% %REQ(none?host)%\n";
  origin_.answer(kOk);
  json one = to({{"cluster_header", "Host"}, {"host_rewrite_header", "host"}});
  one["request_headers_to_add"] = json::array({add("x-h", "%REQ(Host)%")});
  start({one});
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: app\r\n\r\n")), 200);
  EXPECT_TRUE(holds(origin_.request(0), "x-h: app\r\n")) << origin_.request(0);
  EXPECT_EQ(log(), "app app\n");
}

TEST_F(ExchangeTest, AForwardedConnectKeepsItsPort) {
  manager_["strip_any_host_port"] = true;
  manager_["upgrade_configs"] = json::array({{{"upgrade_type", "CONNECT"}}});
  vhost_["domains"] = json::array({"far.example"});
  origin_.answer("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n");
  start({{{"match", {{"connect_matcher", json::object()}}}, {"route", {{"cluster", "app"}}}}});
  exchange("CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n");
  EXPECT_TRUE(origin_.request(0).starts_with(
      "CONNECT far.example:443 HTTP/1.1\r\nhost: far.example:443\r\n"))
      << origin_.request(0);
}

TEST(Forwarding, TheSchemeOfHttp2IsTheClients) {
  HttpManager config;
  base::Random random(1);
  const net::Address peer = *net::Address::fromIp("127.0.0.1", 1);
  const net::PeerInfo plain;
  RequestSource source{peer, "127.0.0.1", "127.0.0.1", 80, plain, {}, {}};
  const auto scheme = [&] {
    http::HeaderMap headers{
        {":method", "GET"}, {":scheme", "HTTPS"}, {":path", "/"}, {":authority", "a"}};
    mutateRequest(config, nullptr, source, random, headers);
    return std::string(headers.scheme()) + ' ' + std::string(headers.value("x-forwarded-proto"));
  };
  EXPECT_EQ(scheme(), "http http");  // the codec of HTTP/1 wrote it
  source.says_scheme = true;
  EXPECT_EQ(scheme(), "https http");
  config.scheme_overwrite = "http";
  EXPECT_EQ(scheme(), "http http");
}

TEST_F(ExchangeTest, AHostForTlsOnlyRedirectsBeforeItLooksForARoute) {
  vhost_["require_tls"] = "ALL";
  start({{{"match", {{"prefix", "/a"}}}, {"route", {{"cluster", "app"}}}}});
  const std::string answer = exchange("GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(statusOf(answer), 301);
  EXPECT_TRUE(holds(answer, "location: https://a/b\r\n")) << answer;
}

// ---- headers

TEST_F(ExchangeTest, OperationsOfOneLevelDoNotSeeEachOther) {
  json one = to();
  one["request_headers_to_add"] = {add("x-a", "new", "OVERWRITE_IF_EXISTS_OR_ADD"),
                                   add("x-b", "%REQ(x-a)%"), add("x-n", "1", "ADD_IF_ABSENT"),
                                   add("x-n", "2", "ADD_IF_ABSENT"), add("x-g", "%REQ(x-gone)%")};
  one["request_headers_to_remove"] = {"x-gone"};
  vhost_["request_headers_to_add"] = json::array({add("x-c", "%REQ(x-a)%")});
  origin_.answer(kOk);
  start({one});
  exchange("GET / HTTP/1.1\r\nHost: a\r\nx-a: old\r\nx-gone: 1\r\n\r\n");
  EXPECT_TRUE(
      holds(origin_.request(0), "\r\nx-a: new\r\nx-b: old\r\nx-n: 1\r\nx-n: 2\r\nx-c: new\r\n"))
      << origin_.request(0);
  EXPECT_FALSE(holds(origin_.request(0), "x-g"));
}

TEST_F(ExchangeTest, ARouteMayAskForRetriesByHeader) {
  json one = to();
  one["request_headers_to_add"] = {add("x-envoy-retry-on", "5xx,retriable-headers"),
                                   add("x-envoy-max-retries", "2"),
                                   add("x-envoy-retriable-header-names", "x-again")};
  origin_.answer("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
  origin_.answer("HTTP/1.1 200 OK\r\nx-again: 1\r\ncontent-length: 0\r\n\r\n");
  origin_.answer(kOk);
  start({one});
  EXPECT_TRUE(exchange(kGet).ends_with("ok"));
  ASSERT_EQ(origin_.requests(), 3U);
  for (const char* name : {"x-envoy-retry-on", "x-envoy-max-retries", "x-envoy-retriable"})
    EXPECT_FALSE(holds(origin_.request(0), name)) << origin_.request(0);
}

// ---- counters and logs

TEST_F(ExchangeTest, CountsARetriedAnswerApart) {
  origin_.answer("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
  origin_.answer(kOk);
  start({to({{"cluster", "app"}, {"retry_policy", {{"retry_on", "5xx"}}}})});
  EXPECT_EQ(statusOf(exchange(kGet)), 200);
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_503"), 0);
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_completed"), 1);
  EXPECT_EQ(stats_.value("cluster.app.retry.upstream_rq_503"), 1);
  EXPECT_EQ(stats_.value("cluster.app.retry.upstream_rq_5xx"), 1);
  EXPECT_EQ(stats_.value("cluster.app.retry.upstream_rq_completed"), 1);
}

TEST_F(ExchangeTest, CountsWhatTimedOutWhileItWaitedForAConnection) {
  cluster_["circuit_breakers"] = {{"thresholds", json::array({{{"max_connections", 1}}})}};
  start({{{"match", {{"prefix", "/first"}}}, {"route", {{"cluster", "app"}, {"timeout", "0s"}}}},
         to({{"cluster", "app"}, {"timeout", "0.1s"}})});
  Client first(loop_, port());
  first.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_TRUE(waitUntil([&] { return origin_.requests() == 1; }));
  EXPECT_EQ(statusOf(exchange(kGet)), 504);
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_cancelled"), 1);
}

TEST_F(ExchangeTest, OverflowIsA503OfTheClusterToo) {
  cluster_["circuit_breakers"] = {{"thresholds", json::array({{{"max_pending_requests", 0}}})}};
  start({to()});
  EXPECT_TRUE(holds(exchange(kGet), "x-envoy-overloaded: true\r\n"));
  EXPECT_EQ(stats_.value("cluster.app.upstream_rq_503"), 1);
}

TEST_F(ExchangeTest, TheLogTellsOfTheLastAttemptOnly) {
  format_ =
      "%UPSTREAM_PROTOCOL% %UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_TRANSPORT_FAILURE_REASON% "
      "%RESPONSE_CODE%\n";
  start({to({{"cluster", "app"}, {"retry_policy", {{"retry_on", "5xx"}}}})});
  Client client(loop_, port());
  client.send(kGet);
  ASSERT_TRUE(waitUntil([&] { return origin_.requests() == 1; }));
  origin_.stop();
  origin_.answerOn(0, "HTTP/1.1 500 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
  EXPECT_TRUE(client.waitForAnswer());
  EXPECT_EQ(log(), "- - delayed_connect_error:_Connection_refused 503\n");
}

TEST(WorkerIds, AreUniqueInTheProcess) {
  event::Loop loop;
  stats::Stats stats;
  Worker first(loop, stats.makeStore());
  WorkerOptions options;
  options.index = 1;
  Worker second(loop, stats.makeStore(), options);
  EXPECT_EQ(first.uniqueId(7), 7U);
  EXPECT_NE(second.uniqueId(7), first.uniqueId(7));
  EXPECT_NE(second.uniqueId(7), second.uniqueId(8));
}

TEST_F(ExchangeTest, OnlyAFaultThatWasDrawnCountsAgainstTheLimit) {
  addFilter(namedFilter("fault", "fault.v3.HTTPFault",
                        {{"abort", {{"header_abort", json::object()}, {"percentage", always()}}},
                         {"max_active_faults", 0}}));
  origin_.answer(kOk);
  origin_.answer(kOk);
  start({to()});
  EXPECT_EQ(statusOf(exchange(kGet)), 200);
  EXPECT_EQ(stats_.value("http.in.fault.faults_overflow"), 0);
  exchange("GET / HTTP/1.1\r\nHost: a\r\nx-envoy-fault-abort-request: 410\r\n\r\n");
  EXPECT_EQ(stats_.value("http.in.fault.faults_overflow"), 1);
  EXPECT_EQ(origin_.requests(), 2U);
}

// ---- answers of the proxy itself

TEST_F(ExchangeTest, AMapperMaySayTheTypeOfItsBody) {
  manager_["local_reply_config"] = {
      {"mappers",
       {{{"filter",
          {{"status_code_filter",
            {{"comparison", {{"op", "GE"}, {"value", {{"default_value", 400}}}}}}}}},
         {"body", {{"inline_string", "gone"}}},
         {"headers_to_add",
          json::array({add("content-type", "text/html", "OVERWRITE_IF_EXISTS_OR_ADD")})}}}}};
  start(json::array());
  const std::string answer = exchange(kGet);
  EXPECT_TRUE(holds(answer, "content-type: text/html\r\n")) << answer;
  EXPECT_FALSE(holds(answer, "text/plain"));
}

TEST_F(ExchangeTest, AMappedAnswerForGrpc) {
  manager_["local_reply_config"] = {
      {"body_format", {{"json_format", {{"code", "%RESPONSE_CODE%"}}}}}};
  start(json::array());
  const std::string head = " / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n\r\n";
  EXPECT_TRUE(holds(exchange("GET" + head), "grpc-message: {\"code\":404}\r\n"));
  EXPECT_FALSE(holds(exchange("HEAD" + head), "grpc-message"));
}

TEST_F(ExchangeTest, ADirectResponseMayOmitWhatIsUnset) {
  start({{{"match", {{"prefix", "/"}}},
          {"direct_response",
           {{"status", 200},
            {"body_format",
             {{"omit_empty_values", true},
              {"text_format_source", {{"inline_string", "[%REQ(none)%]"}}}}}}}}});
  EXPECT_TRUE(exchange(kGet).ends_with("\r\n\r\n[]"));
}

TEST_F(ExchangeTest, OverloadIsNotToldWhereSuchHeadersAreSuppressed) {
  manager_["http_filters"][0]["typed_config"]["suppress_envoy_headers"] = true;
  cluster_["circuit_breakers"] = {{"thresholds", json::array({{{"max_pending_requests", 0}}})}};
  start({to()});
  EXPECT_FALSE(holds(exchange(kGet), "x-envoy"));
}

TEST_F(ExchangeTest, EveryAnswerOfARouteThatForwardsHasItsHeaders) {
  addAbort();
  json one = to();
  one["response_headers_to_add"] =
      json::array({add("x-r", "[%RESP(x-envoy-attempt-count)% %RESPONSE_CODE%]")});
  vhost_["response_headers_to_add"] = json::array({add("x-v", "1")});
  vhost_["include_attempt_count_in_response"] = true;
  json direct = {{"match", {{"prefix", "/direct"}}}, {"direct_response", {{"status", 200}}}};
  direct["response_headers_to_add"] = one["response_headers_to_add"];
  start({direct, one});
  EXPECT_TRUE(holds(exchange(kGet), "\r\nx-r: [ 0]\r\nx-v: 1\r\n"));
  const std::string upgrade =
      exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
  EXPECT_EQ(statusOf(upgrade), 403);
  EXPECT_TRUE(holds(upgrade, "\r\nx-r: [ 0]\r\nx-v: 1\r\n")) << upgrade;
  // Not where a filter answers instead of what was configured to answer.
  EXPECT_FALSE(holds(exchange("GET /direct HTTP/1.1\r\nHost: a\r\n\r\n"), "x-v"));
}

TEST_F(ExchangeTest, TheNumberOfAttemptsComesAfterTheRoutesHeaders) {
  json one = to();
  one["response_headers_to_add"] = json::array({add("x-r", "[%RESP(x-envoy-attempt-count)%]")});
  vhost_["include_attempt_count_in_response"] = true;
  origin_.answer("");
  start({one});
  EXPECT_TRUE(holds(exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"),
                    "\r\nx-r: []\r\nx-envoy-attempt-count: 1\r\n"));
}

// ---- CORS

TEST_F(ExchangeTest, CorsPoliciesAreMergedFieldByField) {
  addCors();
  json one = to();
  one["typed_per_filter_config"] = cors({{"allow_methods", "*"}, {"allow_headers", "*"}});
  vhost_["typed_per_filter_config"] =
      cors({{"allow_origin_string_match", {{{"exact", "*"}}}}, {"max_age", "7"}});
  manager_["route_config"]["typed_per_filter_config"] =
      cors({{"allow_credentials", true}, {"max_age", "9"}, {"expose_headers", "x-e"}});
  origin_.answer(kOk);
  start({one});
  EXPECT_TRUE(holds(exchange(kPreflight),
                    "access-control-allow-origin: http://a\r\n"
                    "access-control-allow-credentials: true\r\n"
                    "access-control-allow-methods: PUT\r\naccess-control-allow-headers: x-one\r\n"
                    "access-control-max-age: 7\r\naccess-control-expose-headers: x-e\r\n"));
  const std::string simple = exchange("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\n\r\n");
  EXPECT_TRUE(holds(simple, "access-control-allow-origin: http://a\r\n")) << simple;
  EXPECT_TRUE(holds(simple, "access-control-allow-credentials: true\r\n")) << simple;
}

TEST_F(ExchangeTest, CorsRemembersTheOriginAsItCame) {
  addCors();
  json one = to();
  one["typed_per_filter_config"] = cors({{"allow_origin_string_match", {{{"exact", "http://a"}}}}});
  one["request_headers_to_remove"] = {"origin"};
  origin_.answer(kOk);
  start({one});
  EXPECT_TRUE(holds(exchange("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\n\r\n"),
                    "access-control-allow-origin: http://a\r\n"));
}

TEST_F(ExchangeTest, CorsIsOnlyForWhatIsForwarded) {
  addCors();
  vhost_["typed_per_filter_config"] = cors({{"allow_origin_string_match", {{{"exact", "*"}}}}});
  start({{{"match", {{"prefix", "/"}}}, {"redirect", {{"path_redirect", "/b"}}}}});
  const std::string answer = exchange(kPreflight);
  EXPECT_EQ(statusOf(answer), 301);
  EXPECT_FALSE(holds(answer, "access-control"));
  EXPECT_EQ(stats_.value("http.in.cors.origin_valid"), 0);
}

TEST_F(ExchangeTest, OfCorsAndFaultTheFirstInTheChainAnswers) {
  const json policy = cors({{"allow_origin_string_match", {{{"exact", "*"}}}}});
  vhost_["typed_per_filter_config"] = policy;
  addAbort();
  addCors();
  start({to()});
  EXPECT_EQ(statusOf(exchange(kPreflight)), 200);
  const std::string aborted = exchange("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\n\r\n");
  EXPECT_EQ(statusOf(aborted), 418);
  EXPECT_TRUE(holds(aborted, "access-control-allow-origin: http://a\r\n")) << aborted;
}

TEST_F(ExchangeTest, AFaultBeforeCorsLeavesItOut) {
  vhost_["typed_per_filter_config"] = cors({{"allow_origin_string_match", {{{"exact", "*"}}}}});
  addCors();
  addAbort();
  start({to()});
  const std::string aborted = exchange(kPreflight);
  EXPECT_EQ(statusOf(aborted), 418);
  EXPECT_FALSE(holds(aborted, "access-control")) << aborted;
}

}  // namespace
}  // namespace postern::proxy
