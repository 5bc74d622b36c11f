// Fields whose effect is a choice inside the program: what is read of them, and what that does.
#include "api/message.h"
#include "envoy/config/accesslog/v3/accesslog.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "proxy/accept_fixture_test.h"
#include "proxy/balancer.h"
#include "proxy/bootstrap.h"
#include "proxy/config_build.h"
#include "proxy/config_http.h"
#include "proxy/proxy_status.h"
#include "proxy/runtime.h"

#include <google/protobuf/duration.pb.h>

#include <map>

namespace postern::proxy {
namespace {

constexpr const char* kType = "type.googleapis.com/envoy.";

// ---- durations

TEST(Durations, ThatDoNotFitAreRefusedAndTheLongestIsOneToWaitFor) {
  google::protobuf::Duration message;
  message.set_seconds(9'223'372'036);
  const auto refused = readDuration(message, "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "x: must be less than 9223372036s");
  message.set_seconds(9'223'372'035);
  const auto longest = readDuration(message, "x");
  ASSERT_TRUE(longest);
  event::Loop loop;
  bool fired = false;
  event::Timer timer(loop, [&] { fired = true; });
  timer.arm(*longest);
  for (int i = 0; i < 3; ++i) loop.runOnce(std::chrono::milliseconds(1));
  EXPECT_FALSE(fired);
}

// ---- access logs

LogFilter logFilter(json filter) {
  json file = {{"@type", std::string(kType) + "extensions.access_loggers.file.v3.FileAccessLog"},
               {"path", "/dev/null"}};
  json all = {{"name", "l"}, {"typed_config", file}, {"filter", std::move(filter)}};
  google::protobuf::RepeatedPtrField<envoy::config::accesslog::v3::AccessLog> messages;
  const auto read = api::fromJson(all, *messages.Add());
  EXPECT_TRUE(read) << read.error().message();
  auto built = buildAccessLogs(messages, "access_log");
  EXPECT_TRUE(built) << built.error().message();
  return built->at(0).filter.at(0);
}

TEST(AccessLogFilter, SamplesByTheRequestsIdOrWithoutIt) {
  http::HeaderMap first{{"x-request-id", "00000000-0000-4000-8000-000000000000"}};
  http::HeaderMap last{{"x-request-id", "0000ffff-0000-4000-8000-000000000000"}};
  const auto passes = [](bool independent, const http::HeaderMap& request) {
    const LogFilter filter =
        logFilter({{"runtime_filter",
                    {{"runtime_key", "none"},
                     {"percent_sampled", {{"numerator", 50}, {"denominator", "HUNDRED"}}},
                     {"use_independent_randomness", independent}}}});
    formatter::AccessRecord record;
    record.request = &request;
    int out = 0;
    for (int i = 0; i < 200; ++i) out += filter.passes(record) ? 1 : 0;
    return out;
  };
  EXPECT_EQ(passes(false, first), 200);  // 0 is below 50
  EXPECT_EQ(passes(false, last), 200);   // 65535 % 100 = 35
  http::HeaderMap other{{"x-request-id", "00000063-0000-4000-8000-000000000000"}};
  EXPECT_EQ(passes(false, other), 0);  // 99
  for (const auto* each : {&first, &other}) {
    const int half = passes(true, *each);
    EXPECT_GT(half, 50);
    EXPECT_LT(half, 150);
  }
}

// ---- HTTP filters

TEST(HttpFilters, AnUnknownOneMayBeOptional) {
  const auto error = [](bool optional) {
    const std::string prefix = std::string(kType) + "extensions.filters.";
    // A type that this program knows, but not as a filter.
    json unknown = {
        {"name", "other"},
        {"typed_config",
         {{"@type", std::string(kType) + "extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}},
        {"is_optional", optional}};
    json router = {{"name", "router"},
                   {"typed_config", {{"@type", prefix + "http.router.v3.Router"}}}};
    envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager message;
    const auto read = api::fromJson({{"stat_prefix", "s"},
                                     {"route_config", {{"name", "r"}}},
                                     {"http_filters", {unknown, router}}},
                                    message);
    EXPECT_TRUE(read) << read.error().message();
    const auto built = buildHttpManager(message, "m");
    return built ? std::string() : built.error().message();
  };
  EXPECT_EQ(error(true), "");
  EXPECT_EQ(error(false),
            "m.http_filters[0].typed_config: \"type.googleapis.com/envoy.extensions."
            "transport_sockets.raw_buffer.v3.RawBuffer\" is not a supported HTTP filter");
}

TEST(HttpManagerFields, TheCodecIsRead) {
  json router = {{"name", "router"},
                 {"typed_config",
                  {{"@type", std::string(kType) + "extensions.filters.http.router.v3.Router"}}}};
  envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager message;
  ASSERT_TRUE(api::fromJson({{"stat_prefix", "s"},
                             {"codec_type", "HTTP2"},
                             {"route_config", {{"name", "r"}}},
                             {"http_filters", json::array({router})}},
                            message));
  EXPECT_EQ(buildHttpManager(message, "m")->codec, http::Protocol::kHttp2);
}

TEST(HttpManagerFields, ProxyStatusLeavesOutHowAConnectionEnded) {
  const auto status = [](bool removed) {
    json router = {{"name", "router"},
                   {"typed_config",
                    {{"@type", std::string(kType) + "extensions.filters.http.router.v3.Router"}}}};
    envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager message;
    const auto read = api::fromJson(
        {{"stat_prefix", "s"},
         {"route_config", {{"name", "r"}}},
         {"proxy_status_config", {{"remove_connection_termination_details", removed}}},
         {"http_filters", json::array({router})}},
        message);
    EXPECT_TRUE(read) << read.error().message();
    const auto built = buildHttpManager(message, "m");
    EXPECT_TRUE(built) << built.error().message();
    formatter::AccessRecord record;
    record.flags.set(formatter::Flag::kUpstreamConnectionFailure);
    record.details = "why";
    record.termination = "by_the_peer";
    http::HeaderMap headers;
    addProxyStatus(*built->proxy_status, "us", "node", record, headers);
    return std::string(headers.value("proxy-status"));
  };
  EXPECT_NE(status(false).find("by_the_peer"), std::string::npos) << status(false);
  EXPECT_EQ(status(true).find("by_the_peer"), std::string::npos) << status(true);
}

// ---- routes

TEST(RouteFields, TimesAreRead) {
  envoy::config::route::v3::RouteConfiguration message;
  const json limits = {{"grpc_timeout_header_max", "7s"}, {"grpc_timeout_header_offset", "2s"}};
  const json retry = {{"retry_on", "5xx"},
                      {"retry_back_off", {{"base_interval", "3s"}, {"max_interval", "4s"}}}};
  const json route = {
      {"match", {{"prefix", "/"}}},
      {"route", {{"cluster", "c"}, {"max_stream_duration", limits}, {"retry_policy", retry}}}};
  const json host = {{"name", "v"}, {"domains", {"*"}}, {"routes", json::array({route})}};
  const auto read = api::fromJson({{"virtual_hosts", json::array({host})}}, message);
  ASSERT_TRUE(read) << read.error().message();
  const auto table = buildRoutes(message, "r");
  ASSERT_TRUE(table) << table.error().message();
  const auto& action = std::get<ForwardAction>(table->hosts.at(0).routes.at(0).action);
  EXPECT_EQ(action.grpc_timeout_max, std::chrono::seconds(7));
  EXPECT_EQ(action.grpc_timeout_offset, std::chrono::seconds(2));
  EXPECT_EQ(action.retry->backoff_base, std::chrono::seconds(3));
  EXPECT_EQ(action.retry->backoff_max, std::chrono::seconds(4));
}

// ---- bootstrap

TEST(BootstrapFields, TheNodeIsSentOnceOrEachTime) {
  const auto each_time = [](bool once) {
    json cluster = {{"name", "xds"}, {"type", "STATIC"}};
    json service = {{"envoy_grpc", {{"cluster_name", "xds"}}}};
    envoy::config::bootstrap::v3::Bootstrap message;
    const auto read = api::fromJson({{"static_resources", {{"clusters", json::array({cluster})}}},
                                     {"dynamic_resources",
                                      {{"ads_config",
                                        {{"api_type", "GRPC"},
                                         {"transport_api_version", "V3"},
                                         {"set_node_on_first_message_only", once},
                                         {"grpc_services", json::array({service})}}}}}},
                                    message);
    EXPECT_TRUE(read) << read.error().message();
    const auto values = readBootstrap(message);
    EXPECT_TRUE(values) << values.error().message();
    return values->ads->client.node_in_each_request;
  };
  EXPECT_FALSE(each_time(true));
  EXPECT_TRUE(each_time(false));
}

TEST(RuntimeTest, KeysOfAStaticLayerStandForDefaults) {
  envoy::config::bootstrap::v3::LayeredRuntime layers;
  const json first = {{"a", {{"share", 0}, {"status", 200}}}, {"log", 10}};
  const json second = {{"log", {{"numerator", 5}, {"denominator", "MILLION"}}}};
  ASSERT_TRUE(api::fromJson(
      {{"layers",
        {{{"name", "1"}, {"static_layer", first}}, {{"name", "2"}, {"static_layer", second}}}}},
      layers));
  const Runtime runtime(layers);
  const auto fraction = [](const char* key) {
    return json{{"runtime_key", key}, {"default_value", {{"numerator", 77}}}};
  };
  json comparison = {{"op", "EQ"}, {"value", {{"default_value", 7}, {"runtime_key", "a.status"}}}};
  json sampled = {{"runtime_key", "log"}, {"percent_sampled", {{"numerator", 1}}}};
  json logs = {{{"filter", {{"status_code_filter", {{"comparison", comparison}}}}}},
               {{"filter", {{"runtime_filter", sampled}}}}};
  json routes = {{{"match", {{"prefix", "/"}, {"runtime_fraction", fraction("a.share")}}}},
                 {{"match", {{"prefix", "/"}, {"runtime_fraction", fraction("of.nobody")}}}}};
  json manager = {
      {"@type", std::string(kType) + "extensions.filters.network.http_connection_manager.v3."
                                     "HttpConnectionManager"},
      {"access_log", logs},
      {"route_config", {{"virtual_hosts", {{{"routes", routes}}}}}}};
  json chain = {{"filters", {{{"typed_config", manager}}}}};
  envoy::config::listener::v3::Listener message;
  const auto read = api::fromJson({{"filter_chains", json::array({chain})}}, message);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_TRUE(runtime.apply(message));
  const json out = api::toJson(message)["filter_chains"][0]["filters"][0]["typed_config"];
  const json& now = out["route_config"]["virtual_hosts"][0]["routes"];
  EXPECT_EQ(now[0]["match"]["runtime_fraction"]["default_value"].value("numerator", 0), 0);
  EXPECT_EQ(now[1]["match"]["runtime_fraction"]["default_value"]["numerator"], 77);
  const json& status = out["access_log"][0]["filter"]["status_code_filter"]["comparison"];
  EXPECT_EQ(status["value"]["default_value"], 200);
  const json& share = out["access_log"][1]["filter"]["runtime_filter"]["percent_sampled"];
  EXPECT_EQ(share["numerator"], 5);
  EXPECT_EQ(share["denominator"], "MILLION");
  EXPECT_FALSE(Runtime().apply(message));
}

// ---- clusters

TEST(ClusterFields, LeastRequestLooksAtSoManyHosts) {
  const auto busy_picks = [](json fields) {
    json all = {{"name", "c"}, {"type", "STATIC"}, {"lb_policy", "LEAST_REQUEST"}};
    all.update(fields);
    envoy::config::cluster::v3::Cluster message;
    EXPECT_TRUE(api::fromJson(all, message));
    const auto built = buildCluster(message, "c");
    EXPECT_TRUE(built) << built.error().message();
    std::vector<HostPtr> hosts;
    for (std::uint16_t port = 1; port <= 10; ++port) {
      hosts.push_back(std::make_shared<Host>());
      hosts.back()->address = net::Address::loopback(port);
      if (port != 1) hosts.back()->rq_active = 5;
    }
    BalancerOptions options;
    options.policy = (*built)->balancer;
    options.choice_count = (*built)->choice_count;
    base::Random random(42);
    Balancer balancer(options, random, hosts, std::vector<std::uint32_t>(hosts.size()));
    int out = 0;
    for (int i = 0; i < 1000; ++i) out += balancer.pick()->address.port() != 1 ? 1 : 0;
    return out;
  };
  // (9/10)^2 = 0.81 and (9/10)^50 = 0.005 of the picks miss the one idle host.
  EXPECT_GT(busy_picks(json::object()), 700);
  EXPECT_LT(busy_picks({{"least_request_lb_config", {{"choice_count", 50}}}}), 50);
}

// ---- TCP proxy

class TcpFieldsTest : public AcceptTest {
 protected:
  /// How long a client waits for its end when nothing listens at the origin.
  std::chrono::steady_clock::duration refusedAfter(json fields) {
    json gone = echo("a");
    echoes_.clear();
    fields["max_connect_attempts"] = 8;
    start({listener({tcpChain("a", json::object(), std::move(fields))})}, {gone});
    const auto begin = std::chrono::steady_clock::now();
    SocketPeer peer(loop_, address());
    for (int i = 0; i < 5; ++i) {
      if (peer.receive() == "(end)") break;
    }
    return std::chrono::steady_clock::now() - begin;
  }
};

TEST_F(TcpFieldsTest, WaitsBetweenAttemptsButNotTooLong) {
  using std::chrono::milliseconds;
  const json backoff = {{"base_interval", "0.05s"}, {"max_interval", "0.05s"}};
  EXPECT_LT(refusedAfter(json::object()), milliseconds(20));
  const auto took = refusedAfter({{"backoff_options", backoff}});
  EXPECT_GT(took, milliseconds(40));  // seven waits of 0 to 50 ms
  EXPECT_LT(took, milliseconds(500));
}

TEST(UpstreamOptions, OfHttp2AreReadWhereTheClientChooses) {
  const std::string type = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  json options = {{"@type", "type.googleapis.com/" + type},
                  {"use_downstream_protocol_config",
                   {{"http2_protocol_options", {{"max_concurrent_streams", 7}}}}}};
  envoy::config::cluster::v3::Cluster cluster;
  ASSERT_TRUE(api::fromJson(
      {{"name", "c"}, {"type", "STATIC"}, {"typed_extension_protocol_options", {{type, options}}}},
      cluster));
  EXPECT_EQ((*buildCluster(cluster, "c"))->h2.concurrent_streams_max, 7U);
}

TEST_F(TcpFieldsTest, JitterMakesConnectionsLiveLonger) {
  start({listener({tcpChain(
            "a", json::object(),
            {{"max_downstream_connection_duration", "0.05s"},
             {"max_downstream_connection_duration_jitter_percentage", {{"value", 100}}}})})},
        {echo("a")});
  using Clock = std::chrono::steady_clock;
  auto longest = Clock::duration::zero();
  for (int i = 0; i < 8; ++i) {
    const auto begin = Clock::now();
    EXPECT_EQ(SocketPeer(loop_, address()).receive(), "a(end)");
    EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(45));
    longest = std::max(longest, Clock::now() - begin);
  }
  // Without it each lasts for 50 ms; that none of eight has 20 ms more has a chance of 0.4^8.
  EXPECT_GT(longest, std::chrono::milliseconds(70));
}

}  // namespace
}  // namespace postern::proxy
