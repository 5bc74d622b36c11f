// Connections to origins: which one a request gets, when one ends, what is tried again unasked.
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "proxy/config_build.h"
#include "proxy/h2_origin_test.h"
#include "proxy/http_fixture_test.h"

namespace postern::proxy {
namespace {

using nlohmann::json;

constexpr const char* kOkBody = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
constexpr const char* kHttpOptions =
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

json toApp() { return {{"match", {{"prefix", "/"}}}, {"route", {{"cluster", "app"}}}}; }

class UpstreamPoolTest : public HttpFixture {
 protected:
  UpstreamPoolTest() : h2_(loop_) {}
  json& options() {
    json& out = cluster_["typed_extension_protocol_options"]
                        ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    out["@type"] = kHttpOptions;
    return out;
  }
  json& common() {
    json& out = options();
    if (!out.contains("explicit_http_config"))
      out["explicit_http_config"] = {{"http_protocol_options", json::object()}};
    return out["common_http_protocol_options"];
  }
  void limits(json thresholds) {
    cluster_["circuit_breakers"] = {{"thresholds", json::array({std::move(thresholds)})}};
  }
  void startH2(json http2 = json::object()) {
    options()["explicit_http_config"] = {{"http2_protocol_options", std::move(http2)}};
    start(toApp(), h2_.port());
  }
  std::string get(std::string_view path = "/") {
    return exchange("GET " + std::string(path) + " HTTP/1.1\r\nhost: a\r\n\r\n");
  }
  std::unique_ptr<Client> ask(std::string_view request) {
    auto client = std::make_unique<Client>(loop_, port());
    client->send(request);
    return client;
  }
  std::unique_ptr<Client> ask() { return ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n"); }
  std::int64_t stat(std::string_view name) {
    return stats_.value("cluster.app." + std::string(name));
  }
  bool becomes(std::string_view name, std::int64_t value) {
    return waitUntil([&] { return stat(name) == value; });
  }
  H2Origin h2_;
};

TEST_F(UpstreamPoolTest, TakesTheConnectionThatBecameFreeLast) {
  start(toApp());
  for (const std::size_t last : {0U, 1U, 0U}) {
    const std::size_t before = origin_.requests();
    auto one = ask();
    ASSERT_TRUE(waitUntil([&] { return origin_.requests() == before + 1; }));
    auto two = ask();
    ASSERT_TRUE(waitUntil([&] { return origin_.requests() == before + 2; }));
    ASSERT_EQ(origin_.connections(), 2U);
    origin_.answerOn(1 - last, kOkBody);
    ASSERT_TRUE(becomes("upstream_rq_active", 1));
    origin_.answerOn(last, kOkBody);
    ASSERT_TRUE(one->waitForAnswer() && two->waitForAnswer());
    const std::size_t on_it = origin_.requestsOn(last);
    origin_.answer(kOkBody);
    EXPECT_EQ(statusOf(get()), 200);
    EXPECT_EQ(origin_.requestsOn(last), on_it + 1) << last;
  }
  EXPECT_EQ(stat("upstream_cx_total"), 2);
  EXPECT_EQ(stat("upstream_cx_http1_total"), 2);
}

TEST_F(UpstreamPoolTest, ProbesAnIdleConnectionBeforeAPost) {
  origin_.answer(kOkBody);
  origin_.answer(kOkBody);
  start(toApp());
  EXPECT_EQ(statusOf(get()), 200);
  // The origin closes and the request comes in the same turn: nothing may be sent on the old one.
  auto post = std::make_unique<Client>(loop_, port());
  ASSERT_TRUE(waitUntil([&] { return stats_.value("http.in.downstream_cx_total") == 2; }));
  post->send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
  origin_.closeAll();
  ASSERT_TRUE(post->waitForAnswer());
  EXPECT_EQ(statusOf(post->received()), 200);
  EXPECT_EQ(origin_.requests(), 2u);
  EXPECT_EQ(stat("upstream_cx_total"), 2);
}

TEST_F(UpstreamPoolTest, DropsAnIdleConnectionOnWhichSomethingCame) {
  origin_.answer(std::string(kOkBody) + "HTTP/1.1 200 OK\r\n");  // more than was asked for
  origin_.answer(kOkBody);
  start(toApp());
  EXPECT_EQ(statusOf(get()), 200);
  EXPECT_TRUE(becomes("upstream_cx_active", 0));
  EXPECT_EQ(statusOf(get()), 200);
  EXPECT_EQ(origin_.connections(), 2u);
}

TEST_F(UpstreamPoolTest, APostThatWasSentIsNotSentAgain) {
  origin_.answer(kOkBody);
  origin_.answer("");  // reads it, then closes
  start(toApp());
  EXPECT_EQ(statusOf(get()), 200);
  const std::string answer = exchange("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
  EXPECT_EQ(statusOf(answer), 503);
  EXPECT_EQ(origin_.requests(), 2u);
  EXPECT_EQ(log(),
            "200 - via_upstream\n503 UC "
            "upstream_reset_before_response_started{connection_termination}\n");
}

TEST_F(UpstreamPoolTest, APutIsSentAgainWithItsBody) {
  origin_.answer(kOkBody);
  origin_.answer("");
  origin_.answer(kOkBody);
  start(toApp());
  EXPECT_EQ(statusOf(get()), 200);
  EXPECT_EQ(statusOf(exchange("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc")), 200);
  EXPECT_TRUE(origin_.request(2).ends_with("\r\n\r\nabc"));
  EXPECT_EQ(stat("upstream_rq_retry"), 0);
}

TEST_F(UpstreamPoolTest, LimitsConnectionsPendingAndRequests) {
  limits({{"max_connections", 1}, {"max_pending_requests", 1}, {"track_remaining", true}});
  start(toApp());
  EXPECT_EQ(stat("circuit_breakers.default.remaining_cx"), 1);
  EXPECT_EQ(stat("circuit_breakers.default.remaining_rq"), 1024);
  auto one = ask();
  ASSERT_TRUE(waitUntil([&] { return origin_.requests() == 1; }));
  EXPECT_EQ(stat("circuit_breakers.default.cx_open"), 1);
  EXPECT_EQ(stat("circuit_breakers.default.remaining_cx"), 0);
  EXPECT_EQ(stat("circuit_breakers.default.remaining_rq"), 1023);
  auto two = ask();
  EXPECT_TRUE(becomes("upstream_rq_pending_active", 1));
  EXPECT_EQ(stat("circuit_breakers.default.rq_pending_open"), 1);
  EXPECT_EQ(stat("upstream_cx_overflow"), 1);
  const std::string refused = get();
  EXPECT_EQ(statusOf(refused), 503);
  EXPECT_NE(refused.find("x-envoy-overloaded: true"), std::string::npos);
  EXPECT_EQ(stat("upstream_rq_pending_overflow"), 1);
  one->close();  // the client goes; its connection ends and the waiting request gets a new one
  origin_.answer(kOkBody);
  ASSERT_TRUE(two->waitForAnswer());
  EXPECT_EQ(statusOf(two->received()), 200);
  EXPECT_EQ(stat("circuit_breakers.default.rq_pending_open"), 0);
  EXPECT_EQ(stat("circuit_breakers.default.remaining_rq"), 1024);
}

TEST_F(UpstreamPoolTest, LimitsRequests) {
  limits({{"max_requests", 1}});
  start(toApp());
  auto one = ask();
  ASSERT_TRUE(waitUntil([&] { return origin_.requests() == 1; }));
  EXPECT_EQ(stat("circuit_breakers.default.rq_open"), 1);
  EXPECT_EQ(statusOf(get()), 503);
  EXPECT_EQ(stat("upstream_rq_active_overflow"), 1);
  EXPECT_EQ(stat("upstream_rq_pending_overflow"), 0);
  one.reset();
  EXPECT_TRUE(becomes("circuit_breakers.default.rq_open", 0));
  EXPECT_EQ(log().substr(0, 7), "503 UO ");
}

TEST_F(UpstreamPoolTest, ARetryBudgetIsAShareOfWhatRuns) {
  limits({{"retry_budget", {{"budget_percent", {{"value", 25}}}, {"min_retry_concurrency", 0}}}});
  json route = toApp();
  route["route"]["retry_policy"] = {{"retry_on", "5xx"},
                                    {"retry_back_off", {{"base_interval", "0.3s"}}}};
  start(route);
  constexpr const char* kBad = "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n";
  origin_.answer(kBad);
  EXPECT_EQ(statusOf(get()), 500);  // 25 % of one is none
  EXPECT_EQ(stat("upstream_rq_retry_overflow"), 1);
  std::vector<std::unique_ptr<Client>> toApp;
  for (int i = 0; i < 4; ++i) toApp.push_back(ask());
  ASSERT_TRUE(waitUntil([&] { return origin_.requests() == 5; }));
  origin_.answer(kBad);
  origin_.answer(kOkBody);
  auto more = ask();
  ASSERT_TRUE(more->waitForAnswer());
  EXPECT_EQ(statusOf(more->received()), 200);
  EXPECT_EQ(stat("upstream_rq_retry"), 1);
  EXPECT_EQ(stat("circuit_breakers.default.rq_retry_open"), 0);
}

TEST_F(UpstreamPoolTest, AConnectionTakesSoManyRequests) {
  common()["max_requests_per_connection"] = 2;
  for (int i = 0; i < 4; ++i) origin_.answer(kOkBody);
  start(toApp());
  for (int i = 0; i < 4; ++i) EXPECT_EQ(statusOf(get()), 200);
  EXPECT_EQ(origin_.connections(), 2u);
  EXPECT_EQ(stat("upstream_cx_max_requests"), 2);
  EXPECT_TRUE(becomes("upstream_cx_active", 0));
}

TEST_F(UpstreamPoolTest, AConnectionLivesSoLong) {
  common()["max_connection_duration"] = "0.05s";
  origin_.answer(kOkBody);
  origin_.answer(kOkBody);
  start(toApp());
  EXPECT_EQ(statusOf(get()), 200);
  EXPECT_TRUE(becomes("upstream_cx_active", 0));
  EXPECT_EQ(stat("upstream_cx_max_duration_reached"), 1);
  EXPECT_EQ(statusOf(get()), 200);
}

TEST_F(UpstreamPoolTest, AnIdleConnectionEnds) {
  common()["idle_timeout"] = "0.05s";
  origin_.answer(kOkBody);
  start(toApp());
  EXPECT_EQ(statusOf(get()), 200);
  EXPECT_TRUE(becomes("upstream_cx_active", 0));
  EXPECT_EQ(stat("upstream_cx_idle_timeout"), 1);
}

TEST_F(UpstreamPoolTest, AnAttemptLastsSoLong) {
  common()["max_stream_duration"] = "0.05s";
  start(toApp());
  const std::string answer = get();
  EXPECT_EQ(statusOf(answer), 504);
  EXPECT_TRUE(answer.ends_with("upstream max stream duration reached"));
  EXPECT_EQ(stat("upstream_rq_max_duration_reached"), 1);
  EXPECT_EQ(log(), "504 UMSDR upstream_max_stream_duration_reached\n");
}

TEST_F(UpstreamPoolTest, LimitsTheHeadersOfAnAnswer) {
  common() = {{"max_headers_count", 3}, {"max_response_headers_kb", 1}};
  start(toApp());
  origin_.answer("HTTP/1.1 200 OK\r\na: 1\r\nb: 1\r\nc: 1\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(statusOf(get()), 502);
  origin_.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\na: " + std::string(1100, 'x') +
                 "\r\n\r\n");
  EXPECT_EQ(statusOf(get()), 502);
  origin_.answer(kOkBody);
  EXPECT_EQ(statusOf(get()), 200);
}

// ---- HTTP/2 ----

TEST_F(UpstreamPoolTest, ClientsOfHttp1ShareAConnectionOfHttp2) {
  startH2();
  std::vector<std::unique_ptr<Client>> toApp;
  for (int i = 0; i < 10; ++i) toApp.push_back(ask());
  ASSERT_TRUE(waitUntil([&] { return h2_.requests.size() == 10; }));
  EXPECT_EQ(h2_.connections.size(), 1u);
  for (auto& each : h2_.requests) each.connection->ok(each.id);
  for (auto& each : toApp) {
    ASSERT_TRUE(each->waitForAnswer());
    EXPECT_EQ(statusOf(each->received()), 200);
  }
  EXPECT_EQ(stat("upstream_cx_http2_total"), 1);
}

TEST_F(UpstreamPoolTest, OpensAnotherConnectionWhereStreamsAreLimited) {
  h2_.streams_max = 3;
  h2_.on_request = [](auto& request) { request.connection->ok(request.id); };
  startH2();
  EXPECT_EQ(statusOf(get()), 200);  // the peer's limit is known now
  h2_.on_request = nullptr;
  std::vector<std::unique_ptr<Client>> toApp;
  for (int i = 0; i < 8; ++i) toApp.push_back(ask());
  ASSERT_TRUE(waitUntil([&] { return h2_.requests.size() == 9; }));
  EXPECT_EQ(h2_.connections.size(), 3u);
  std::map<const void*, int> running;
  for (auto& each : h2_.requests) {
    if (&each != &h2_.requests.front()) ++running[each.connection];
  }
  for (const auto& [connection, count] : running) EXPECT_LE(count, 3);
}

TEST_F(UpstreamPoolTest, OwnLimitOfStreamsHolds) {
  startH2({{"max_concurrent_streams", 2}});
  std::vector<std::unique_ptr<Client>> toApp;
  for (int i = 0; i < 4; ++i) toApp.push_back(ask());
  ASSERT_TRUE(waitUntil([&] { return h2_.requests.size() == 4; }));
  EXPECT_EQ(h2_.connections.size(), 2u);
}

TEST_F(UpstreamPoolTest, ARefusedStreamIsTriedAgainWhateverItsMethod) {
  int refused = 0;
  h2_.on_request = [&refused](auto& request) {
    if (++refused <= 2) return request.connection->refuse(request.id);
    request.connection->ok(request.id);
  };
  startH2();
  EXPECT_EQ(statusOf(exchange("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc")), 200);
  ASSERT_EQ(h2_.requests.size(), 3u);
  EXPECT_TRUE(waitUntil([&] { return h2_.requests.back().body == "abc"; }));
}

TEST_F(UpstreamPoolTest, WhatIsAboveTheLastStreamOfAGoAwayIsTriedAgain) {
  h2_.on_request = [this](auto& request) {
    if (h2_.connections.size() > 1) return request.connection->ok(request.id);
    if (request.id == 3) request.connection->goAway(1);
  };
  startH2();
  auto one = ask();
  ASSERT_TRUE(waitUntil([&] { return h2_.requests.size() == 1; }));
  auto two = ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
  ASSERT_TRUE(two->waitForAnswer());
  EXPECT_EQ(statusOf(two->received()), 200);
  EXPECT_EQ(h2_.connections.size(), 2u);
  // What the peer had taken is still answered there.
  h2_.requests.front().connection->ok(1);
  ASSERT_TRUE(one->waitForAnswer());
  EXPECT_EQ(statusOf(one->received()), 200);
}

TEST_F(UpstreamPoolTest, TriesAgainOnlySoOften) {
  h2_.on_request = [](auto& request) { request.connection->refuse(request.id); };
  startH2();
  EXPECT_EQ(statusOf(get()), 503);
  EXPECT_EQ(h2_.requests.size(), 4u);
  EXPECT_EQ(stat("upstream_rq_retry"), 0);
}

TEST_F(UpstreamPoolTest, SpeaksWhatTheClientSpeaks) {
  options()["use_downstream_protocol_config"] = json::object();
  origin_.answer(kOkBody);
  start(toApp());
  EXPECT_EQ(statusOf(get()), 200);
  EXPECT_EQ(stat("upstream_cx_http1_total"), 1);
}

// ---- configuration ----

TEST_F(UpstreamPoolTest, RefusesWhatItDoesNotDo) {
  struct Case {
    json patch;
    const char* error;
  };
  const std::string name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  const auto typed = [&](json more) {
    more["@type"] = kHttpOptions;
    return json{{"typed_extension_protocol_options", {{name, std::move(more)}}}};
  };
  const std::string at = "typed_extension_protocol_options[" + name + "]";
  const Case cases[] = {
      {{{"preconnect_policy", {{"per_upstream_preconnect_ratio", 2}}}},
       "preconnect_policy: is not supported"},
      {{{"circuit_breakers", {{"thresholds", {{{"max_connection_pools", 3}}}}}}},
       "circuit_breakers.thresholds[0].max_connection_pools: is not supported"},
      {{{"circuit_breakers", {{"per_host_thresholds", {{{"max_connections", 3}}}}}}},
       "circuit_breakers.per_host_thresholds: is not supported"},
      {{{"circuit_breakers",
         {{"thresholds", {{{"retry_budget", {{"budget_percent", {{"value", 101}}}}}}}}}}},
       "circuit_breakers.thresholds[0].retry_budget.budget_percent.value: must be between 0 and "
       "100"},
      {typed({{"auto_config", json::object()}}),
       "auto_config: needs a transport_socket that negotiates a protocol (TLS)"},
      {typed({{"explicit_http_config", json::object()}}),
       "explicit_http_config: must name a protocol"},
      {typed(json::object()), "upstream_protocol_options: is required"},
      {typed({{"explicit_http_config", {{"http_protocol_options", json::object()}}},
              {"common_http_protocol_options", {{"headers_with_underscores_action", 1}}}}),
       "common_http_protocol_options.headers_with_underscores_action: is not supported"},
  };
  for (const Case& each : cases) {
    json cluster = {{"name", "app"}, {"type", "STATIC"}};
    cluster.update(each.patch);
    envoy::config::cluster::v3::Cluster message;
    const auto read = api::fromJson(cluster, message);
    ASSERT_TRUE(read) << read.error().message();
    const auto built = buildCluster(message, "");
    ASSERT_FALSE(built) << each.error;
    EXPECT_TRUE(built.error().message().ends_with(each.error)) << built.error().message();
  }
}

}  // namespace
}  // namespace postern::proxy
