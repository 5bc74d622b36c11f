#include "formatter/format.h"

#include "api/message.h"
#include "formatter/header_ops.h"

#include <google/protobuf/struct.pb.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <utility>

namespace postern::formatter {
namespace {

struct Sample {
  Sample() {
    record.request = &request;
    record.response = &response;
    record.protocol = "HTTP/1.1";
    record.response_code = 200;
    record.details = "via upstream";
    record.bytes_sent = 1850;
    record.start = base::WallTime(std::chrono::milliseconds(1580682029191));
    const base::MonotonicTime begin{std::chrono::seconds(5)};
    record.at.request_begin = begin;
    record.at.upstream_rx_begin = begin + std::chrono::microseconds(150'700);
    record.at.response_end = begin + std::chrono::milliseconds(173);
    record.upstream_host = "52.202.2.199:80";
    record.downstream_remote = "[fd00::1]:58584";
    record.downstream_local = "10.20.5.16:80";
    record.upstream_cluster = "outbound|80||httpbin.org";
  }
  http::HeaderMap request{{":method", "GET"},
                          {":path", "/headers?a=1&b=2"},
                          {":authority", "httpbin.org"},
                          {"user-agent", "curl/7.47.0"}};
  http::HeaderMap response{{":status", "200"}, {"grpc-status", "5"}};
  AccessRecord record;
};

std::string line(std::string_view format, const AccessRecord& record) {
  Format compiled;
  std::string error;
  if (!Format::compile(format, compiled, error)) return "error: " + error;
  std::string out;
  compiled.append(out, record);
  return out;
}

TEST(Format, Operators) {
  Sample sample;
  sample.request.add("content-type", "application/grpc");
  const std::pair<const char*, const char*> cases[] = {
      {"plain 100%%", "plain 100%"},
      {"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "GET /headers?a=1&b=2"},
      {"%REQ(USER-AGENT):4%", "curl"},
      {"%REQ(X-NONE)%", "-"},
      {"%RESP(GRPC-STATUS)% %TRAILER(X)%", "5 -"},
      {"%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS%", "HTTP/1.1 200 -"},
      {"%RESPONSE_CODE_DETAILS%", "via_upstream"},
      {"%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "via upstream"},
      {"%BYTES_RECEIVED% %BYTES_SENT% %DURATION%", "0 1850 173"},
      {"%RESPONSE_DURATION% %REQUEST_DURATION%", "150 -"},
      {"%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%", "150700"},
      {"[%START_TIME%]", "[2020-02-02T22:20:29.191Z]"},
      {"%START_TIME(%Y/%m/%d %H:%M:%S.%3f %s)%", "2020/02/02 22:20:29.191 1580682029"},
      {"%UPSTREAM_HOST% %UPSTREAM_REMOTE_PORT%", "52.202.2.199:80 80"},
      {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "fd00::1"},
      {"%DOWNSTREAM_LOCAL_PORT% %UPSTREAM_LOCAL_ADDRESS%", "80 -"},
      {"%UPSTREAM_CLUSTER_RAW%", "outbound|80||httpbin.org"},
      {"%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%", "NotFound NOT_FOUND 5"},
      {"%QUERY_PARAM(b)% %QUERY_PARAM(c)%", "2 -"},
      {"%PATH(NQ:PATH)%", "/headers"},
      {"%DYNAMIC_METADATA(a:b)%", "-"},
  };
  for (const auto& [format, expected] : cases) EXPECT_EQ(line(format, sample.record), expected);
}

TEST(Format, RefusesWhatItDoesNotKnow) {
  const Sample sample;
  for (const char* format :
       {"%", "%REQ%", "%REQ(A%", "%NO_SUCH%", "%REQ(A):x%", "%PROTOCOL(x)%", "a % b", "%PATH(XX)%",
        "%COMMON_DURATION(A:B:ms)%", "%GRPC_STATUS(X)%", "%CEL(x)%"}) {
    EXPECT_TRUE(line(format, sample.record).starts_with("error: ")) << format;
  }
}

TEST(Format, FlagsInTheOrderOfTheirSetting) {
  Sample sample;
  sample.record.flags.set(Flag::kUpstreamRetryLimitExceeded);
  sample.record.flags.set(Flag::kUpstreamConnectionFailure);
  EXPECT_EQ(line("%RESPONSE_FLAGS%", sample.record), "URX,UF");
  EXPECT_EQ(line("%RESPONSE_FLAGS_LONG%", sample.record),
            "UpstreamRetryLimitExceeded,UpstreamConnectionFailure");
}

TEST(Format, Json) {
  const Sample sample;
  google::protobuf::Struct fields;
  ASSERT_TRUE(api::fromJson({{"code", "%RESPONSE_CODE%"},
                             {"agent", "\"%REQ(USER-AGENT)%\""},
                             {"none", "%REQ(X)%"},
                             {"mixed", "x %REQ(X)%"},
                             {"nested", {{"n", 1}, {"b", true}, {"ms", "%DURATION%"}}}},
                            fields));
  JsonFormat format;
  std::string error;
  ASSERT_TRUE(JsonFormat::compile(fields, format, error)) << error;
  std::string out;
  format.append(out, sample.record);
  EXPECT_EQ(out,
            "{\"agent\":\"\\\"curl/7.47.0\\\"\",\"code\":200,\"mixed\":\"x -\","
            "\"nested\":{\"b\":true,\"ms\":173,\"n\":1},\"none\":null}");
  format.omitEmpty();
  out.clear();
  format.append(out, sample.record);
  EXPECT_EQ(out,
            "{\"agent\":\"\\\"curl/7.47.0\\\"\",\"code\":200,\"mixed\":\"x \","
            "\"nested\":{\"b\":true,\"ms\":173,\"n\":1}}");
}

TEST(HeaderOps, AValueThatWouldEndItsLineIsNotSent) {
  HeaderOps ops;
  HeaderOp& op = ops.add.emplace_back();
  op.name = "x-name";
  op.constant = false;
  std::string error;
  ASSERT_TRUE(Format::compile("%REQUESTED_SERVER_NAME%", op.value, error)) << error;
  for (const auto& [name, sent] :
       {std::pair<std::string, bool>{"a.example", true}, {"a\r\nx: y", false}, {"a\nb", false}}) {
    AccessRecord record;
    record.server_name = name;
    http::HeaderMap headers;
    ops.apply(headers, record);
    EXPECT_EQ(headers.has("x-name"), sent) << name;
  }
}

}  // namespace
}  // namespace postern::formatter
