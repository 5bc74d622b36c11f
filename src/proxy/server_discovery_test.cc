// What the whole proxy tells its control plane and takes from it, field by field.
#include "proxy/server_fixture_test.h"
#include "tls/x509.h"

namespace postern::proxy {
namespace {

class DiscoveryTest : public ServerTest {
 protected:
  /// The control plane speaks TLS under this name; what a cluster needs to say to reach it.
  json secured(const std::string& name) {
    const tls::KeyPair root = *tls::makeRoot("root", std::chrono::hours(1));
    tls::CertificateRequest request;
    request.dns_names = {name};
    const tls::KeyPair pair = *tls::issue(root, request);
    tls::ServerOptions options;
    options.certificate_chain_pem = pair.certificate_pem;
    options.private_key_pem = pair.private_key_pem;
    options.alpn = {"h2"};
    grpc_->setTls(*tls::ServerContext::make(options));
    const json trust = {{"trusted_ca", {{"inline_string", root.certificate_pem}}}};
    return {{"name", "tls"},
            {"typed_config",
             {{"@type",
               "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"},
              {"auto_host_sni", true},
              {"auto_sni_san_validation", true},
              {"common_tls_context", {{"validation_context", trust}}}}}};
  }
  static constexpr const char* kSocket = "/static_resources/clusters/0/transport_socket";
  static constexpr const char* kEndpoint =
      "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0";
};

TEST_P(DiscoveryTest, SaysWhoItIsAndCallsAsItIsTold) {
  put("one");
  const json locality = {{"region", "r"}, {"zone", "z"}, {"sub_zone", "s"}};
  const json service = {{"envoy_grpc", {{"cluster_name", "xds-grpc"}, {"authority", "istiod"}}},
                        {"initial_metadata", {{{"key", "x-token"}, {"value", "secret"}}}}};
  start({{"/node/cluster", "echo.default"},
         {"/node/locality", locality},
         {"/dynamic_resources/ads_config/grpc_services/0", service}});
  ASSERT_TRUE(live());
  EXPECT_EQ(source_.node.cluster, "echo.default");
  EXPECT_EQ(source_.node.metadata_json, R"({"A":"b"})");
  EXPECT_EQ(source_.node.region + source_.node.zone + source_.node.sub_zone, "rzs");
  EXPECT_EQ(authority_, "istiod");
  EXPECT_EQ(token_, "secret");
}

TEST_P(DiscoveryTest, TheControlPlaneMustHaveTheNameOfItsEndpoint) {
  put("one");
  const std::string hostname = std::string(kEndpoint) + "/endpoint/hostname";
  start({{kSocket, secured("istiod.test")}, {hostname.c_str(), "istiod.test"}});
  ASSERT_TRUE(live());
  server_.reset();
  source_.connections = 0;
  start({{kSocket, secured("other.test")}, {hostname.c_str(), "istiod.test"}});
  for (int i = 0; i < 100; ++i) loop_.runOnce(std::chrono::milliseconds(10));
  EXPECT_EQ(source_.connections, 0);
}

TEST_P(DiscoveryTest, TheEndpointSaysHowTheControlPlaneIsReached) {
  put("one");
  const json match = {{"name", "secure"},
                      {"match", {{"secure", "yes"}}},
                      {"transport_socket", secured("istiod.test")}};
  const json metadata = {
      {"filter_metadata", {{"envoy.transport_socket_match", {{"secure", "yes"}}}}}};
  start({{"/static_resources/clusters/0/transport_socket_matches", json::array({match})},
         {(std::string(kEndpoint) + "/endpoint/hostname").c_str(), "istiod.test"},
         {(std::string(kEndpoint) + "/metadata").c_str(), metadata}});
  EXPECT_TRUE(live());
}

// Source address, PROXY header and HTTP/2 options of the cluster hold for the control plane, too.
TEST_P(DiscoveryTest, ReachesTheControlPlaneAsItsClusterSays) {
  const base::Fd listener = std::move(*net::listenSocket(net::Address::loopback(0)));
  const std::uint16_t port = net::localAddress(listener.get()).port();
  const json greets = {
      {"name", "greets"},
      {"typed_config",
       {{"@type",
         "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3."
         "ProxyProtocolUpstreamTransport"},
        {"config", {{"version", "V1"}}},
        {"transport_socket",
         {{"name", "plain"},
          {"typed_config",
           {{"@type",
             "type.googleapis.com/"
             "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}}}}}}};
  const json source = {{"source_address", {{"address", "127.0.0.9"}, {"port_value", 0}}}};
  const std::string http2 =
      "/static_resources/clusters/0/typed_extension_protocol_options/"
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions/explicit_http_config/"
      "http2_protocol_options";
  start({{(std::string(kEndpoint) + "/endpoint/address").c_str(), socketAddress(port)},
         {kSocket, greets},
         {"/static_resources/clusters/0/upstream_bind_config", source},
         {http2.c_str(), {{"initial_stream_window_size", 0x12345}}}});
  base::Fd accepted;
  net::Address peer;
  std::string got;
  ASSERT_TRUE(until([&] {
    if (!accepted) {
      sockaddr_storage from{};
      socklen_t length = sizeof from;
      accepted = base::Fd(::accept4(listener.get(), reinterpret_cast<sockaddr*>(&from), &length,
                                    SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!accepted) return false;
      peer = net::Address::fromSockaddr(reinterpret_cast<sockaddr*>(&from), length);
    }
    char bytes[4096];
    const ssize_t count = ::recv(accepted.get(), bytes, sizeof bytes, 0);
    if (count > 0) got.append(bytes, static_cast<std::size_t>(count));
    return got.size() > 80;
  }));
  EXPECT_TRUE(peer.toString().starts_with("127.0.0.9:")) << peer.toString();
  EXPECT_TRUE(got.starts_with("PROXY UNKNOWN\r\nPRI * HTTP/2.0\r\n")) << got;
  const char window[] = {0, 4, 0, 1, 0x23, 0x45};  // of the SETTINGS
  EXPECT_NE(got.find(std::string_view(window, sizeof window)), std::string::npos);
}

TEST_P(DiscoveryTest, TakesNoLargerMessageThanItIsTold) {
  put(std::string(3000, 'x'));
  json service = {{"envoy_grpc", {{"cluster_name", "xds-grpc"}}}};
  service["envoy_grpc"]["max_receive_message_length"] = 2000;
  start({{"/dynamic_resources/ads_config/grpc_services/0", service}});
  ASSERT_TRUE(until([&] { return source_.connections >= 2; }));  // it broke off, and came back
  EXPECT_EQ(server_->state(), ServerState::kInitializing);
  put("small");
  ASSERT_TRUE(live());
  EXPECT_EQ(ask(web(), "/direct").body, "small");
}

TEST_P(DiscoveryTest, EndpointsMayHaveANameOfTheirOwn) {
  put("one");
  source_.put<envoy::config::cluster::v3::Cluster>(
      api::kClusterType, "app",
      {{"name", "app"},
       {"type", "EDS"},
       {"eds_cluster_config", {{"eds_config", ads()}, {"service_name", "others"}}}});
  json endpoint = {{"endpoint", {{"address", socketAddress(app_port_)}}}};
  source_.by_type[std::string(api::kEndpointType)].clear();
  source_.put<envoy::config::endpoint::v3::ClusterLoadAssignment>(
      api::kEndpointType, "others",
      {{"cluster_name", "others"}, {"endpoints", {{{"lb_endpoints", {endpoint}}}}}});
  start();
  ASSERT_TRUE(live());
  EXPECT_EQ(ask(web(), "/x").body, "app");
}

// Metadata says nothing to this proxy: it is there for those who look.
TEST_P(DiscoveryTest, DumpsShowTheMetadata) {
  put("one");
  const auto about = [](const char* what) {
    return json{{"filter_metadata", {{"istio", {{"about", what}}}}}};
  };
  source_.put<envoy::config::cluster::v3::Cluster>(
      api::kClusterType, "app",
      {{"name", "app"},
       {"type", "EDS"},
       {"metadata", about("a cluster")},
       {"eds_cluster_config", {{"eds_config", ads()}}}});
  json endpoint = {{"endpoint", {{"address", socketAddress(app_port_)}}},
                   {"metadata", about("an endpoint")}};
  source_.put<envoy::config::endpoint::v3::ClusterLoadAssignment>(
      api::kEndpointType, "app",
      {{"cluster_name", "app"},
       {"endpoints", {{{"lb_endpoints", {endpoint}}, {"metadata", about("a locality")}}}}});
  json web = listener();
  web["metadata"] = about("a listener");
  web["filter_chains"][0]["metadata"] = about("a chain");
  source_.put<envoy::config::listener::v3::Listener>(api::kListenerType, "web", web);
  json route = {{"match", {{"prefix", "/"}}},
                {"metadata", about("a route")},
                {"route", {{"cluster", "app"}}}};
  json host = {{"name", "v"},
               {"domains", {"*"}},
               {"metadata", about("a host")},
               {"routes", json::array({route})}};
  source_.put<envoy::config::route::v3::RouteConfiguration>(
      api::kRouteType, "r",
      {{"name", "r"}, {"metadata", about("a table")}, {"virtual_hosts", json::array({host})}});
  start();
  ASSERT_TRUE(live());
  const std::string dump = admin("/config_dump?include_eds").body;
  for (const char* what : {"a cluster", "a listener", "a chain", "a table", "a host", "a route",
                           "an endpoint", "a locality"}) {
    EXPECT_NE(dump.find(std::string("\"about\": \"") + what), std::string::npos) << what;
  }
}

TEST_P(DiscoveryTest, TheDirectionSaysWhichListenersDrain) {
  put("one");
  json inbound = listener();
  inbound["traffic_direction"] = "INBOUND";
  source_.put<envoy::config::listener::v3::Listener>(api::kListenerType, "web", inbound);
  start();
  ASSERT_TRUE(live());
  const net::Address address = web();
  EXPECT_EQ(ask(address, "/direct").status, 200);
  EXPECT_EQ(admin("/drain_listeners?inboundonly", "POST").status, 200);
  EXPECT_TRUE(until([&] { return ask(address, "/direct").status == 0; }));
}

INSTANTIATE_TEST_SUITE_P(Variants, DiscoveryTest, ::testing::Values("DELTA_GRPC", "GRPC"),
                         [](const auto& variant) { return std::string(variant.param); });

}  // namespace
}  // namespace postern::proxy
