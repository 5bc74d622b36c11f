// The proxy between a client and an origin that are upset at every callback in turn: a reset, a
// close, a drain or a broken connection, HTTP/1 and HTTP/2 on either side. Each exchange ends once,
// and nothing is counted as going on afterwards.
#include "testing/upset.h"

#include "proxy/http_fixture_test.h"

#include <gtest/gtest.h>

#include <tuple>

namespace postern::proxy {
namespace {

using nlohmann::json;
using testing::Moment;
using testing::Upset;
using testing::UpsetClient;
using testing::UpsetServer;

class UpsetProxy {
 public:
  UpsetProxy(http::Protocol origin, Moment& moment) : server_(moment) {
    auto socket = net::listenSocket(net::Address::loopback(0));
    POSTERN_CHECK(socket.has_value());
    const std::uint16_t port = net::localAddress(socket->get()).port();
    acceptor_ = std::make_unique<net::Acceptor>(
        loop_, std::move(*socket), [this, origin](base::Fd fd, const net::Address&) {
          server_.accepted(*http::ServerConnection::start(
              loop_, net::makeSocketTransport(loop_, std::move(fd)), origin, {}, server_));
        });
    envoy::config::bootstrap::v3::Bootstrap message;
    const auto read = api::fromJson(config(port, origin), message);
    POSTERN_CHECK(read.has_value());
    worker_ = std::make_unique<Worker>(loop_, stats_.makeStore());
    store_ = std::make_unique<ConfigStore>(
        loop_, stats_.makeStore(), ConfigStore::Options{},
        [this](std::shared_ptr<const Snapshot> snapshot) { worker_->update(std::move(snapshot)); },
        nullptr);
    POSTERN_CHECK(store_->addStatic(message).has_value());
    store_->expect({}, {});
  }
  void run(http::Protocol downstream, UpsetClient& client, int at) {
    http::ClientConnection* connection = http::ClientConnection::start(
        loop_,
        net::connectTransport(loop_, net::Address::loopback(worker_->addresses().front().port())),
        downstream, {}, client);
    EXPECT_TRUE(pumpUntil(loop_, [&] { return client.done(); })) << "hangs at " << at;
    if (!client.closed()) connection->close();
    EXPECT_TRUE(pumpUntil(loop_, [&] { return client.closed() && worker_->connections() == 0; }));
    server_.closeAll();
    EXPECT_TRUE(pumpUntil(loop_, [&] { return quiet(); })) << "something goes on at " << at;
    EXPECT_TRUE(client.allOver()) << at;
    EXPECT_TRUE(server_.allOver()) << at;
  }

 private:
  bool quiet() {
    return server_.open() == 0 && stats_.value("http.in.downstream_rq_active") == 0 &&
           stats_.value("http.in.downstream_cx_active") == 0 &&
           stats_.value("cluster.app.upstream_rq_active") == 0 &&
           stats_.value("cluster.app.upstream_rq_pending_active") == 0 &&
           stats_.value("cluster.app.upstream_cx_active") == 0;
  }
  static json address(std::uint16_t port) {
    return {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", port}}}};
  }
  static json config(std::uint16_t port, http::Protocol origin) {
    const std::string types = "type.googleapis.com/envoy.extensions.";
    json retry = {{"retry_on", "reset,connect-failure,refused-stream"},
                  {"num_retries", 2},
                  {"retry_back_off", {{"base_interval", "0.001s"}}}};
    json route = {{"match", {{"prefix", "/"}}},
                  {"route", {{"cluster", "app"}, {"retry_policy", retry}}}};
    json host = {{"name", "h"}, {"domains", {"*"}}, {"routes", json::array({route})}};
    json router = {{"name", "router"},
                   {"typed_config", {{"@type", types + "filters.http.router.v3.Router"}}}};
    json manager = {
        {"@type", types + "filters.network.http_connection_manager.v3.HttpConnectionManager"},
        {"stat_prefix", "in"},
        {"http_protocol_options", {{"enable_trailers", true}}},
        {"http_filters", json::array({router})},
        {"route_config", {{"virtual_hosts", json::array({host})}}}};
    json filter = {{"name", "f"}, {"typed_config", manager}};
    json chain = {{"filters", json::array({filter})}};
    json listener = {
        {"name", "in"}, {"address", address(0)}, {"filter_chains", json::array({chain})}};
    json endpoint = {{"endpoint", {{"address", address(port)}}}};
    json locality = {{"lb_endpoints", json::array({endpoint})}};
    json cluster = {
        {"name", "app"},
        {"load_assignment", {{"cluster_name", "app"}, {"endpoints", json::array({locality})}}}};
    if (origin == http::Protocol::kHttp2) {
      cluster["typed_extension_protocol_options"] = {
          {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
           {{"@type", types + "upstreams.http.v3.HttpProtocolOptions"},
            {"explicit_http_config", {{"http2_protocol_options", json::object()}}}}}};
    }
    return {{"static_resources",
             {{"listeners", json::array({listener})}, {"clusters", json::array({cluster})}}}};
  }

  stats::Stats stats_;
  event::Loop loop_;
  UpsetServer server_;
  std::unique_ptr<net::Acceptor> acceptor_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<ConfigStore> store_;
};

class UpsetProxyTest : public ::testing::TestWithParam<std::tuple<bool, bool, Upset>> {
 protected:
  /// One run; the callbacks that were seen.
  static int run(int at) {
    const auto [downstream, upstream, what] = GetParam();
    const auto protocol = [](bool h2) {
      return h2 ? http::Protocol::kHttp2 : http::Protocol::kHttp1;
    };
    Moment moment{.what = what, .at = at, .seen = 0, .break_transport = nullptr};
    UpsetClient client(moment, 3);
    UpsetProxy proxy(protocol(upstream), moment);
    proxy.run(protocol(downstream), client, at);
    return moment.seen;
  }
};

TEST_P(UpsetProxyTest, EndsEachExchangeOnceAtEveryCallback) {
  const int all = run(0);
  ASSERT_GT(all, 10);
  for (int at = 1; at <= all && !HasFailure(); ++at) run(at);
}

std::string nameOf(const ::testing::TestParamInfo<std::tuple<bool, bool, Upset>>& test) {
  constexpr const char* kNames[] = {"Nothing", "Reset", "Close", "Drain", "Break"};
  return std::string(std::get<0>(test.param) ? "Http2" : "Http1") + "To" +
         (std::get<1>(test.param) ? "Http2" : "Http1") +
         kNames[static_cast<int>(std::get<2>(test.param))];
}

INSTANTIATE_TEST_SUITE_P(All, UpsetProxyTest,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool(),
                                            ::testing::Values(Upset::kReset, Upset::kClose,
                                                              Upset::kDrain, Upset::kBreak)),
                         nameOf);

}  // namespace
}  // namespace postern::proxy
