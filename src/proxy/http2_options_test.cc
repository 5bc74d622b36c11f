// Http2ProtocolOptions: what is read, what is out of bounds, and upgrades over HTTP/2 (RFC 8441).
#include "envoy/config/core/v3/protocol.pb.h"
#include "proxy/config_http2.h"
#include "proxy/h2_origin_test.h"

namespace postern::proxy {
namespace {

using nlohmann::json;

std::string optionsError(const json& options, http::H2Limits& out) {
  envoy::config::core::v3::Http2ProtocolOptions message;
  const auto read = api::fromJson(options, message);
  EXPECT_TRUE(read) << read.error().message();
  BuildErrors errors;
  readHttp2Options(message, Place("o", errors), out);
  return errors.failed() ? errors.error().message() : "";
}

TEST(Http2Options, EachFieldIsReadWithinItsBounds) {
  http::H2Limits out;
  EXPECT_EQ(optionsError({{"hpack_table_size", 0},
                          {"max_concurrent_streams", 7},
                          {"initial_stream_window_size", 65535},
                          {"initial_connection_window_size", 70000},
                          {"allow_connect", true},
                          {"max_outbound_frames", 8},
                          {"max_outbound_control_frames", 9},
                          {"max_consecutive_inbound_frames_with_empty_payload", 10},
                          {"max_inbound_priority_frames_per_stream", 11},
                          {"max_inbound_window_update_frames_per_data_frame_sent", 12},
                          {"override_stream_error_on_invalid_http_message", true},
                          {"connection_keepalive",
                           {{"interval", "30s"},
                            {"timeout", "5s"},
                            {"interval_jitter", {{"value", 20}}},
                            {"connection_idle_interval", "7s"}}}},
                         out),
            "");
  EXPECT_EQ(out.header_table_bytes, 0u);
  EXPECT_EQ(out.concurrent_streams_max, 7u);
  EXPECT_EQ(out.stream_window_bytes, 65535u);
  EXPECT_EQ(out.connection_window_bytes, 70000u);
  EXPECT_EQ(out.window_growth_max, 1u);
  EXPECT_TRUE(out.extended_connect);
  EXPECT_EQ(out.outbound_frames_max, 8u);
  EXPECT_EQ(out.outbound_control_frames_max, 9u);
  EXPECT_EQ(out.empty_frames_max, 10u);
  EXPECT_EQ(out.priority_frames_per_stream, 11u);
  EXPECT_EQ(out.window_updates_per_data_frame, 12u);
  EXPECT_TRUE(out.invalid_message_ends_stream);
  EXPECT_EQ(out.keepalive.interval, std::chrono::seconds(30));
  EXPECT_EQ(out.keepalive.timeout, std::chrono::seconds(5));
  EXPECT_EQ(out.keepalive.idle_interval, std::chrono::seconds(7));
  EXPECT_EQ(out.keepalive.jitter_percent, 20);
  http::H2Limits older;
  EXPECT_EQ(optionsError({{"stream_error_on_invalid_http_messaging", true}}, older), "");
  EXPECT_TRUE(older.invalid_message_ends_stream);
  http::H2Limits defaults;
  EXPECT_EQ(optionsError(json::object(), defaults), "");
  EXPECT_FALSE(defaults.invalid_message_ends_stream);
  const std::pair<json, const char*> wrong[] = {
      {{{"hpack_table_size", 2000000}}, "o.hpack_table_size: must be from 0 to 1048576"},
      {{{"max_concurrent_streams", 0}}, "o.max_concurrent_streams: must be from 1 to 2147483647"},
      {{{"initial_stream_window_size", 65534}},
       "o.initial_stream_window_size: must be from 65535 to 2147483647"},
      {{{"initial_connection_window_size", 1}},
       "o.initial_connection_window_size: must be from 65535 to 2147483647"},
      {{{"max_outbound_frames", 0}}, "o.max_outbound_frames: must be from 1 to 2147483647"},
      {{{"max_outbound_control_frames", 0}},
       "o.max_outbound_control_frames: must be from 1 to 2147483647"},
      {{{"max_inbound_window_update_frames_per_data_frame_sent", 0}},
       "o.max_inbound_window_update_frames_per_data_frame_sent: must be from 1 to 2147483647"},
      {{{"connection_keepalive", {{"interval", "1s"}}}},
       "o.connection_keepalive.timeout: is required"},
      {{{"connection_keepalive", {{"timeout", "0s"}}}},
       "o.connection_keepalive.timeout: must be at least 1ms"},
  };
  for (const auto& [options, error] : wrong) {
    http::H2Limits ignored;
    EXPECT_EQ(optionsError(options, ignored), error);
  }
}

constexpr const char* kWebSocket =
    "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

class UpgradeToHttp2 : public HttpFixture {
 protected:
  UpgradeToHttp2() : h2_(loop_) { manager_["upgrade_configs"] = {{{"upgrade_type", "websocket"}}}; }
  void startH2(json http2) {
    cluster_["typed_extension_protocol_options"]
            ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] = {
                {"@type",
                 "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"},
                {"explicit_http_config", {{"http2_protocol_options", std::move(http2)}}}};
    start(json{{"match", {{"prefix", "/"}}}, {"route", {{"cluster", "app"}}}}, h2_.port());
  }
  H2Origin h2_;
};

TEST_F(UpgradeToHttp2, BecomesAnExtendedConnect) {
  startH2({{"allow_connect", true}});
  Client client(loop_, port());
  client.send(kWebSocket);
  ASSERT_TRUE(waitUntil([&] { return h2_.requests.size() == 1; }));
  auto& request = h2_.requests.front();
  EXPECT_EQ(request.headers.method(), "CONNECT");
  EXPECT_EQ(request.headers.value(":protocol"), "websocket");
  EXPECT_EQ(request.headers.path(), "/chat");
  EXPECT_FALSE(request.headers.has("upgrade"));
  EXPECT_FALSE(request.headers.has("connection"));
  request.connection->headers(request.id, {{":status", "200"}}, http::End::kNo);
  ASSERT_TRUE(client.waitFor("\r\n\r\n"));
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 101 "));
  EXPECT_NE(client.received().find("\r\nupgrade: websocket\r\n"), std::string::npos);
  EXPECT_NE(client.received().find("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            std::string::npos)
      << client.received();
  client.send("ping");
  EXPECT_TRUE(waitUntil([&] { return request.body == "ping"; }));
  request.connection->data(request.id, "pong", http::End::kNo);
  EXPECT_TRUE(client.waitFor("pong"));
  request.connection->data(request.id, "", http::End::kYes);
  EXPECT_TRUE(waitUntil([&] { return client.ended(); }));
}

TEST_F(UpgradeToHttp2, SaysNothingOfALengthThatWasNone) {
  startH2({{"allow_connect", true}});
  Client client(loop_, port());
  client.send(
      "POST /exec HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
      "content-length: 0\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
  ASSERT_TRUE(waitUntil([&] { return h2_.requests.size() == 1; }));
  EXPECT_FALSE(h2_.requests.front().headers.has("content-length"));
}

TEST_F(UpgradeToHttp2, IsRefusedByAnOrdinaryAnswer) {
  startH2({{"allow_connect", true}});
  h2_.on_request = [](auto& request) {
    request.connection->headers(request.id, {{":status", "403"}}, http::End::kYes);
  };
  Client client(loop_, port());
  client.send(kWebSocket);
  ASSERT_TRUE(client.waitForAnswer());
  EXPECT_EQ(statusOf(client.received()), 403);
}

TEST_F(UpgradeToHttp2, NeedsBothSidesToKnowIt) {
  startH2(json::object());
  Client client(loop_, port());
  client.send(kWebSocket);
  ASSERT_TRUE(client.waitForAnswer());
  EXPECT_EQ(statusOf(client.received()), 502);
  EXPECT_EQ(log(),
            "502 UPE upstream_reset_before_response_started{protocol_error|"
            "extended_CONNECT_is_not_supported}\n");
}

}  // namespace
}  // namespace postern::proxy
