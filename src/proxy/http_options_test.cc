// The fields of a connection manager and of its protocol options: each one's effect, over real
// sockets.
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "proxy/config_http.h"
#include "proxy/honoured_fields.h"
#include "proxy/http_fixture_test.h"
#include "proxy/proxy_status.h"

#include <gtest/gtest.h>

namespace postern::proxy {
namespace {

using nlohmann::json;

constexpr const char* kEmptyOk = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

json everyPath(json action) { return {{"match", {{"prefix", "/"}}}, {"route", std::move(action)}}; }
bool has(const std::string& text, std::string_view wanted) {
  return text.find(wanted) != std::string::npos;
}
json extension(const char* type, json fields) {
  fields["@type"] = std::string("type.googleapis.com/") + type;
  return {{"name", "x"}, {"typed_config", std::move(fields)}};
}

class HttpOptionsTest : public HttpFixture {
 protected:
  void startApp() { start({everyPath({{"cluster", "app"}})}); }
  /// Sends, waits for the answer, and returns what the origin saw of it.
  std::string seen(std::string_view request) {
    origin_.answer(kEmptyOk);
    const std::size_t before = origin_.requests();
    EXPECT_EQ(statusOf(exchange(request)), 200);
    return origin_.request(before);
  }
  /// The error of a manager with one more field.
  std::string refusal(const std::string& field, json value) {
    json with = manager_;
    with.erase("@type");
    with["route_config"] = {{"name", "r"}};
    with[json::json_pointer(field)] = std::move(value);
    envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager message;
    const auto read = api::fromJson(with, message);
    if (!read) return read.error().message();
    if (const auto known = checkHonoured(message, "", Door::kListener); !known)
      return known.error().message();
    const auto built = buildHttpManager(message, "");
    return built ? "" : built.error().message();
  }
};

TEST_F(HttpOptionsTest, WhatTheCodecRefusesIsAnsweredCountedAndLogged) {
  manager_["local_reply_config"]["mappers"] = json::array(
      {{{"filter",
         {{"status_code_filter",
           {{"comparison",
             {{"op", "EQ"}, {"value", {{"default_value", 501}, {"runtime_key", "x"}}}}}}}}},
        {"body", {{"inline_string", "mapped"}}}}});
  startApp();
  EXPECT_EQ(withoutDate(exchange("GET / HTTP/1.1\r\nHost : a\r\n\r\n")),
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\ncontent-type: text/plain\r\n"
            "date: D\r\nserver: envoy\r\nconnection: close\r\n\r\nBad Request");
  EXPECT_TRUE(
      has(exchange("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"), "mapped"));
  EXPECT_EQ(
      statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\nx: " + std::string(70000, 'y') + "\r\n\r\n")),
      431);
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n")), 426);
  const std::string late =
      exchange("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
  EXPECT_EQ(statusOf(late), 400);
  EXPECT_EQ(log(),
            "400 DPE http1.codec_error\n501 DPE http1.invalid_transfer_encoding\n"
            "431 DPE http1.headers_too_large\n426 DPE low_version\n400 DPE http1.codec_error\n");
  EXPECT_EQ(stats_.value("http.in.downstream_cx_protocol_error"), 5);
  EXPECT_EQ(stats_.value("http.in.downstream_rq_total"), 5);
  EXPECT_EQ(stats_.value("http.in.downstream_rq_4xx"), 4);
}

TEST_F(HttpOptionsTest, AnAnswerOf400EndsTheConnectionUnlessAskedNotTo) {
  manager_["http_protocol_options"]["override_stream_error_on_invalid_http_message"] = true;
  startApp();
  EXPECT_FALSE(has(exchange("GET / HTTP/1.1\r\n\r\n"), "connection: close"));
  HttpFixture::manager_["http_protocol_options"] = json::object();
  manager_["stream_error_on_invalid_http_message"] = false;
  startApp();
  const std::string answer = exchange("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(withoutDate(answer),
            "HTTP/1.1 400 Bad Request\r\ndate: D\r\nserver: envoy\r\nconnection: close\r\n"
            "content-length: 0\r\n\r\n");
}

TEST_F(HttpOptionsTest, Http10WithADefaultHost) {
  manager_["http_protocol_options"] = {{"accept_http_10", true},
                                       {"default_host_for_http_10", "dflt"}};
  startApp();
  origin_.answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
  Client client(loop_, port());
  client.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(waitUntil([&] { return client.ended(); }));
  EXPECT_TRUE(client.received().starts_with("HTTP/1.0 200 OK\r\n")) << client.received();
  EXPECT_TRUE(client.received().ends_with("connection: close\r\n\r\nhi")) << client.received();
  EXPECT_TRUE(has(origin_.request(0), "\r\nhost: dflt\r\n"));
}

TEST_F(HttpOptionsTest, AbsoluteFormIsSplitUnlessForbidden) {
  startApp();
  EXPECT_TRUE(seen("GET http://b/c?d HTTP/1.1\r\nHost: a\r\n\r\n")
                  .starts_with("GET /c?d HTTP/1.1\r\nhost: b"));
  manager_["http_protocol_options"]["allow_absolute_url"] = false;
  startApp();
  EXPECT_EQ(statusOf(exchange("GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n")), 404);
}

TEST_F(HttpOptionsTest, ChunkedBeatsTheLengthWhereAllowed) {
  manager_["http_protocol_options"]["allow_chunked_length"] = true;
  startApp();
  origin_.answer(kEmptyOk);
  const std::string answer = exchange(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
      "0\r\n\r\n");
  EXPECT_EQ(statusOf(answer), 200);
  EXPECT_FALSE(has(origin_.request(0), "content-length"));
}

TEST_F(HttpOptionsTest, TrailersPassWhereBothSidesAreToldTo) {
  const char* request =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-up: "
      "1\r\n\r\n";
  const char* answer =
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nyo\r\n0\r\nx-down: 1\r\n\r\n";
  const char* options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  for (const bool enabled : {false, true}) {
    manager_["http_protocol_options"]["enable_trailers"] = enabled;
    cluster_["typed_extension_protocol_options"][options] = {
        {"@type", std::string("type.googleapis.com/") + options},
        {"explicit_http_config", {{"http_protocol_options", {{"enable_trailers", enabled}}}}}};
    startApp();
    origin_.answer(answer);
    Client client(loop_, port());
    client.send(request);
    EXPECT_TRUE(client.waitFor(enabled ? "\r\nx-down: 1\r\n\r\n" : "0\r\n\r\n"))
        << client.received();
    EXPECT_EQ(has(client.received(), "x-down"), enabled);
  }
}

TEST_F(HttpOptionsTest, SpellsNamesAsAsked) {
  const char* options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  const json preserve = {
      {"stateful_formatter", extension("envoy.extensions.http.header_formatters.preserve_case.v3."
                                       "PreserveCaseFormatterConfig",
                                       json::object())}};
  manager_["http_protocol_options"]["header_key_format"] = preserve;
  cluster_["typed_extension_protocol_options"][options] = {
      {"@type", std::string("type.googleapis.com/") + options},
      {"explicit_http_config", {{"http_protocol_options", {{"header_key_format", preserve}}}}}};
  startApp();
  origin_.answer("HTTP/1.1 200 OK\r\nX-dOwn: 1\r\nContent-LENGTH: 0\r\n\r\n");
  Client client(loop_, port());
  client.send("GET / HTTP/1.1\r\nHOST: a\r\nx-UP: 1\r\n\r\n");
  EXPECT_TRUE(client.waitFor("\r\n\r\n"));
  EXPECT_TRUE(has(client.received(), "\r\nX-dOwn: 1\r\nContent-LENGTH: 0\r\n"))
      << client.received();
  EXPECT_TRUE(has(origin_.request(0), "\r\nHOST: a\r\nx-UP: 1\r\nx-forwarded-proto: http\r\n"))
      << origin_.request(0);

  const json proper = {{"proper_case_words", json::object()}};
  manager_["http_protocol_options"]["header_key_format"] = proper;
  cluster_["typed_extension_protocol_options"][options]["explicit_http_config"]
          ["http_protocol_options"] = {{"header_key_format", proper},
                                       {"send_fully_qualified_url", true}};
  startApp();
  origin_.answer("HTTP/1.1 200 OK\r\nFOO_bar-baZ: 1\r\ncontent-length: 0\r\n\r\n");
  const std::string answer = exchange("GET /x?y HTTP/1.1\r\nHost: a\r\nfoo: 1\r\n\r\n");
  EXPECT_TRUE(has(answer, "\r\nFoo_Bar-Baz: 1\r\n")) << answer;
  EXPECT_TRUE(has(answer, "\r\nServer: envoy\r\n")) << answer;
  EXPECT_TRUE(origin_.request(1).starts_with("GET http://a/x?y HTTP/1.1\r\nHost: a\r\nFoo: 1\r\n"))
      << origin_.request(1);
}

TEST_F(HttpOptionsTest, LimitsOfAnAnswersHead) {
  const char* options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  cluster_["typed_extension_protocol_options"][options] = {
      {"@type", std::string("type.googleapis.com/") + options},
      {"common_http_protocol_options", {{"max_headers_count", 3}, {"max_response_headers_kb", 1}}},
      {"explicit_http_config", {{"http_protocol_options", json::object()}}}};
  startApp();
  origin_.answer("HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), 200);
  origin_.answer("HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\nc: 3\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), 502);
  origin_.answer("HTTP/1.1 200 OK\r\na: " + std::string(1024, 'x') + "\r\n\r\n");
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), 502);
}

TEST_F(HttpOptionsTest, AnAnswersHeadOfHttp1MayHave80KiB) {
  startApp();
  const auto head = [](std::size_t kilobytes) {
    return "HTTP/1.1 200 OK\r\na: " + std::string(kilobytes * 1024, 'x') +
           "\r\ncontent-length: 0\r\n\r\n";
  };
  origin_.answer(head(79));
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), 200);
  origin_.answer(head(80));
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), 502);
}

TEST_F(HttpOptionsTest, Timeouts) {
  manager_["request_headers_timeout"] = "0.05s";
  manager_["delayed_close_timeout"] = "0.05s";
  manager_["drain_timeout"] = "0.05s";
  manager_["common_http_protocol_options"]["idle_timeout"] = "0.2s";
  startApp();
  Client slow(loop_, port());
  slow.send("GET / HTTP/1.1\r\nHo");
  EXPECT_TRUE(slow.waitForAnswer());
  EXPECT_TRUE(has(slow.received(), "408 Request Timeout")) << slow.received();
  EXPECT_TRUE(has(slow.received(), "\r\n\r\nrequest header timeout")) << slow.received();
  EXPECT_TRUE(
      waitUntil([&] { return stats_.value("http.in.downstream_cx_delayed_close_timeout") == 1; }));
  EXPECT_EQ(stats_.value("http.in.downstream_rq_header_timeout"), 1);
  Client idle(loop_, port());
  EXPECT_TRUE(waitUntil([&] { return idle.ended(); }));
  EXPECT_EQ(stats_.value("http.in.downstream_cx_idle_timeout"), 1);
  EXPECT_EQ(log(), "408 - request_header_timeout\n");
}

TEST_F(HttpOptionsTest, AConnectionThatLivedLongEnoughTakesOneMoreRequest) {
  manager_["common_http_protocol_options"]["max_connection_duration"] = "0.05s";
  for (const bool safe : {false, true}) {
    manager_["drain_timeout"] = safe ? "0.01s" : "10s";
    manager_["http1_safe_max_connection_duration"] = safe;
    startApp();
    Client client(loop_, port());
    origin_.answer(kEmptyOk);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_TRUE(client.waitForAnswer());
    const std::size_t first = client.received().size();
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(150);
    while (std::chrono::steady_clock::now() < end) loop_.runOnce(std::chrono::milliseconds(5));
    EXPECT_FALSE(client.ended()) << safe;
    origin_.answer(kEmptyOk);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_TRUE(waitUntil([&] { return client.ended(); })) << safe;
    EXPECT_TRUE(has(client.received().substr(first), "\r\nconnection: close\r\n")) << safe;
  }
  // Without either, the drain time ends it.
  manager_["http1_safe_max_connection_duration"] = false;
  manager_["drain_timeout"] = "0.05s";
  startApp();
  origin_.answer(kEmptyOk);
  Client idle(loop_, port());
  idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(waitUntil([&] { return idle.ended(); }));
}

TEST_F(HttpOptionsTest, FindsTheClientsAddressByExtensions) {
  format_ = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n";
  const char* xff = "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig";
  const char* custom =
      "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig";
  auto& list = manager_["original_ip_detection_extensions"];
  list = json::array({extension(xff, {{"xff_num_trusted_hops", 1}})});
  startApp();
  seen("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\n\r\n");
  const json loopback = {{"address_prefix", "127.0.0.0"}, {"prefix_len", 8}};
  const json ten = {{"address_prefix", "10.0.0.0"}, {"prefix_len", 8}};
  list =
      json::array({extension(xff, {{"xff_trusted_cidrs", {{"cidrs", json::array({loopback, ten})}}},
                                   {"skip_xff_append", false}})});
  startApp();
  const std::string appended =
      seen("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 3.3.3.3, 10.1.1.1\r\n\r\n");
  EXPECT_TRUE(has(appended, "\r\nx-forwarded-for: 1.1.1.1, 3.3.3.3, 10.1.1.1,127.0.0.1\r\n"))
      << appended;
  list = json::array({extension(custom, {{"header_name", "X-Real"},
                                         {"allow_extension_to_set_address_as_trusted", true},
                                         {"reject_with_status", {{"code", "Unauthorized"}}}})});
  manager_["internal_address_config"]["cidr_ranges"] = json::array({ten});
  startApp();
  EXPECT_TRUE(has(seen("GET / HTTP/1.1\r\nHost: a\r\nX-Real: 10.9.9.9\r\n\r\n"),
                  "\r\nx-envoy-internal: true\r\n"));
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), 401);
  EXPECT_EQ(log(), "1.1.1.1\n3.3.3.3\n10.9.9.9\n127.0.0.1\n");
  EXPECT_EQ(stats_.value("http.in.downstream_rq_rejected_via_ip_detection"), 1);
}

TEST_F(HttpOptionsTest, EarlyMutationsComeBeforeEverythingElse) {
  manager_["use_remote_address"] = true;
  manager_["early_header_mutation_extensions"] = json::array({extension(
      "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
      {{"mutations",
        json::array({{{"append",
                       {{"header", {{"key", "x-new"}, {"value", "%REQ(x-old)%"}}},
                        {"append_action", "OVERWRITE_IF_EXISTS_OR_ADD"}}}},
                     {{"remove", "x-old"}},
                     {{"remove_on_match", {{"key_matcher", {{"prefix", "x-drop-"}}}}}}})}})});
  startApp();
  const std::string got =
      seen("GET / HTTP/1.1\r\nHost: a\r\nX-Old: 7\r\nX-Drop-1: a\r\nX-Drop-2: b\r\n\r\n");
  EXPECT_TRUE(has(got, "\r\nx-new: 7\r\nx-forwarded-for: ")) << got;
  EXPECT_FALSE(has(got, "x-old"));
  EXPECT_FALSE(has(got, "x-drop"));
}

TEST_F(HttpOptionsTest, IgnoresUpgradesAsConfigured) {
  manager_["http_protocol_options"]["ignore_http_11_upgrade"] = json::array({{{"prefix", "TLS/"}}});
  startApp();
  const std::string got =
      seen("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.0\r\n\r\n");
  EXPECT_FALSE(has(got, "upgrade")) << got;
  EXPECT_EQ(statusOf(exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n"
                              "Upgrade: foo\r\n\r\n")),
            403);
}

TEST_F(HttpOptionsTest, LogsAtTheBeginningInBetweenAndForTunnels) {
  format_ = "%ACCESS_LOG_TYPE% %RESPONSE_CODE%\n";
  manager_["access_log_options"] = {{"access_log_flush_interval", "0.05s"},
                                    {"flush_access_log_on_new_request", true},
                                    {"flush_log_on_tunnel_successfully_established", true}};
  manager_["upgrade_configs"] = json::array({{{"upgrade_type", "websocket"}}});
  startApp();
  origin_.answer(
      "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
      Origin::Then::kEcho);
  {
    Client client(loop_, port());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    EXPECT_TRUE(client.waitFor("\r\n\r\n"));
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(80);
    while (std::chrono::steady_clock::now() < end) loop_.runOnce(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(waitUntil([&] { return stats_.value("http.in.downstream_rq_active") == 0; }));
  const std::string lines = log();
  EXPECT_TRUE(
      lines.starts_with("DownstreamStart 0\nDownstreamTunnelSuccessfullyEstablished 101\n"
                        "DownstreamPeriodic 101\n"))
      << lines;
  EXPECT_TRUE(lines.ends_with("DownstreamEnd 101\n")) << lines;
}

TEST_F(HttpOptionsTest, EndsConnectAtTheCluster) {
  manager_["upgrade_configs"] = json::array({{{"upgrade_type", "CONNECT"}}});
  json route = {
      {"match", {{"connect_matcher", json::object()}}},
      {"route",
       {{"cluster", "app"},
        {"upgrade_configs",
         json::array({{{"upgrade_type", "CONNECT"}, {"connect_config", json::object()}}})}}}};
  origin_.answer("pong");
  start({route});
  Client client(loop_, port());
  client.send("CONNECT far.away:80 HTTP/1.1\r\nHost: far.away:80\r\n\r\n");
  EXPECT_TRUE(client.waitFor("\r\n\r\n"));
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 200 OK\r\n")) << client.received();
  client.send("ping\r\n\r\n");  // raw: the origin of this test takes what ends so as a request
  EXPECT_TRUE(client.waitFor("pong")) << client.received();
  EXPECT_EQ(origin_.request(0), "ping\r\n\r\n");
}

TEST_F(HttpOptionsTest, ConnectToAnOriginThatRefusesIsA503) {
  manager_["upgrade_configs"] = json::array({{{"upgrade_type", "CONNECT"}}});
  json route = {
      {"match", {{"connect_matcher", json::object()}}},
      {"route",
       {{"cluster", "app"},
        {"upgrade_configs",
         json::array({{{"upgrade_type", "CONNECT"}, {"connect_config", json::object()}}})}}}};
  start({route});
  origin_.stop();
  EXPECT_EQ(statusOf(exchange("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")), 503);
}

TEST_F(HttpOptionsTest, TellsWhatFailedByProxyStatus) {
  manager_["proxy_status_config"] = {{"literal_proxy_name", "me"}};
  start(json::array({{{"match", {{"prefix", "/app"}}}, {"route", {{"cluster", "app"}}}}}));
  EXPECT_TRUE(has(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
                  "\r\nproxy-status: me; error=destination_not_found; "
                  "details=\"route_not_found; NR\"\r\n"));
  origin_.answer(kEmptyOk);
  EXPECT_FALSE(has(exchange("GET /app HTTP/1.1\r\nHost: a\r\n\r\n"), "proxy-status"));
  manager_["proxy_status_config"] = {{"literal_proxy_name", "me"},
                                     {"remove_details", true},
                                     {"set_recommended_response_code", true}};
  startApp();
  origin_.answer("");
  const std::string answer = exchange("POST /app HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(statusOf(answer), 502) << answer;
  EXPECT_TRUE(has(answer, "\r\nproxy-status: me; error=connection_terminated\r\n")) << answer;
  manager_["proxy_status_config"] = {{"remove_response_flags", true}};
  start(json::array({{{"match", {{"prefix", "/app"}}}, {"route", {{"cluster", "app"}}}}}));
  EXPECT_TRUE(has(exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
                  "\r\nproxy-status: envoy; error=destination_not_found; "
                  "details=\"route_not_found\"\r\n"));
}

TEST(ProxyStatus, QuotesDetailsAndLeavesOutWhatIsNotWanted) {
  formatter::AccessRecord record;
  record.flags.set(formatter::Flag::kUpstreamConnectionFailure);
  record.details = "connection timeout \"x\"";
  record.termination = "by the peer";
  http::HeaderMap all;
  addProxyStatus({}, "us", "node", record, all);
  EXPECT_EQ(
      all.value("proxy-status"),
      "us; error=connection_timeout; details=\"connection_timeout_\\\"x\\\"; by_the_peer; UF\"");
  http::HeaderMap few{{"proxy-status", "before"}};
  addProxyStatus({.use_node_id = true, .termination = false, .flags = false}, "us", "node", record,
                 few);
  EXPECT_EQ(few.value("proxy-status"),
            "before, node; error=connection_timeout; details=\"connection_timeout_\\\"x\\\"\"");
}

TEST_F(HttpOptionsTest, RefusesByPath) {
  EXPECT_EQ(refusal("/drain_timeout", "1s"), "");
  const std::pair<const char*, json> cases[] = {
      {"/tracing", json::object()},
      {"/scoped_routes/name", "x"},
      {"/http3_protocol_options", json::object()},
      {"/represent_ipv4_remote_address_as_ipv4_mapped_ipv6", true},
      {"/path_normalization_options", json::object()},
      {"/typed_header_validation_config/name", "x"},
      {"/append_local_overload", true},
      {"/add_proxy_protocol_connection_state", false},
      {"/set_current_client_cert_details/chain", true},
      {"/http_protocol_options/send_fully_qualified_url", true},
      {"/common_http_protocol_options/max_response_headers_kb", 5},
  };
  for (const auto& [field, value] : cases) {
    std::string path(field + 1);
    std::replace(path.begin(), path.end(), '/', '.');
    if (path.starts_with("scoped_routes") || path.starts_with("typed_header"))
      path = path.substr(0, path.find('.'));
    if (path == "scoped_routes") continue;  // one of a oneof: the route_config is gone then
    EXPECT_EQ(refusal(field, value), path + ": is not supported");
  }
  EXPECT_EQ(refusal("/common_http_protocol_options/max_headers_count", 0),
            "common_http_protocol_options.max_headers_count: must be above 0");
  EXPECT_EQ(refusal("/scheme_header_transformation/scheme_to_overwrite", "ftp"),
            "scheme_header_transformation.scheme_to_overwrite: must be http or https");
}

}  // namespace
}  // namespace postern::proxy
