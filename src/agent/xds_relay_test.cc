#include "agent/xds_relay.h"

#include "agent/bootstrap.h"
#include "http/grpc.h"
#include "tls/x509.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace postern::agent {
namespace {

constexpr const char* kDelta =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// A control plane that repeats what it hears, and a proxy that asks.
class XdsRelayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/postern-relay-XXXXXX";
    folder_ = ::mkdtemp(name);
    auto root = tls::makeRoot("root", std::chrono::hours(1));
    ASSERT_TRUE(root);
    tls::CertificateRequest request;
    request.common_name = "istiod";
    request.ip_addresses = {"127.0.0.1"};
    auto serving = tls::issue(*root, request);
    ASSERT_TRUE(serving);
    write("root-cert.pem", root->certificate_pem);
    write("istio-token", "secret-token\n");
    options_.paths.config_dir = folder_;
    options_.paths.root_cert_file = folder_ + "/root-cert.pem";
    options_.paths.token_file = folder_ + "/istio-token";
    options_.discovery_host = "127.0.0.1";
    http::GrpcServer::Options server;
    tls::ServerOptions tls_options;
    tls_options.certificate_chain_pem = serving->certificate_pem;
    tls_options.private_key_pem = serving->private_key_pem;
    tls_options.alpn = {"h2"};
    server.tls = *tls::ServerContext::make(tls_options);
    upstream_ = http::GrpcServer::make(loop_, std::move(server));
    upstream_->addMethod(
        kDelta, [this](std::unique_ptr<http::GrpcStream> stream, const http::HeaderMap& headers) {
          authorization_ = headers.value("authorization");
          served_ = std::move(stream);
          http::GrpcCallbacks out;
          out.on_message = [this](std::string_view m) { served_->send("re: " + std::string(m)); };
          out.on_half_close = [this] { served_->close(); };
          out.on_close = [this](http::GrpcStatus) { ++upstream_closed_; };
          return out;
        });
    auto listener = net::listenSocket(net::Address::loopback(0));
    ASSERT_TRUE(listener);
    options_.discovery_port = net::localAddress(listener->get()).port();
    upstream_->listen(std::move(*listener));
    resolver_ = net::makeResolver(loop_);
    auto relay = XdsRelay::start(loop_, *resolver_, options_);
    ASSERT_TRUE(relay) << relay.error().message();
    relay_ = std::move(*relay);
  }
  void TearDown() override {
    relay_.reset();
    call_.reset();
    channel_.reset();
    std::filesystem::remove_all(folder_);
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ + "/" + name) << text;
  }
  void call() {
    http::GrpcChannel::Options channel;
    channel.address = net::Address::unixPath(xdsSocketPath(options_));
    channel.host = "xds-grpc";
    channel_ = http::GrpcChannel::make(loop_, std::move(channel));
    http::GrpcCallbacks callbacks;
    callbacks.on_message = [this](std::string_view message) { heard_.emplace_back(message); };
    callbacks.on_close = [this](http::GrpcStatus status) { closed_ = status; };
    call_ = channel_->call(kDelta, {}, std::move(callbacks));
  }
  template <class F>
  void until(F done) {
    for (int i = 0; i < 500 && !done(); ++i) loop_.runOnce(std::chrono::milliseconds(10));
  }

  std::string folder_;
  event::Loop loop_;
  AgentOptions options_;
  std::unique_ptr<net::Resolver> resolver_;
  std::unique_ptr<http::GrpcServer> upstream_;
  std::unique_ptr<http::GrpcStream> served_;
  std::unique_ptr<XdsRelay> relay_;
  std::unique_ptr<http::GrpcChannel> channel_;
  std::unique_ptr<http::GrpcStream> call_;
  std::string authorization_;
  std::vector<std::string> heard_;
  std::optional<http::GrpcStatus> closed_;
  int upstream_closed_ = 0;
};

TEST_F(XdsRelayTest, PassesMessagesBothWaysWithThePodsToken) {
  call();
  call_->send("one");  // before the way up is open
  until([&] { return heard_.size() == 1; });
  call_->send("two");
  until([&] { return heard_.size() == 2; });
  EXPECT_EQ(heard_, (std::vector<std::string>{"re: one", "re: two"}));
  EXPECT_EQ(authorization_, "Bearer secret-token");
}

TEST_F(XdsRelayTest, EndsTheProxysStreamWhenTheControlPlaneGoes) {
  call();
  call_->send("one");
  until([&] { return heard_.size() == 1; });
  served_->close({16, "token expired"});
  until([&] { return closed_.has_value(); });
  ASSERT_TRUE(closed_);
  EXPECT_EQ(closed_->code, 16);
  // The next stream reads the token again.
  write("istio-token", "newer");
  closed_.reset();
  call();
  call_->send("again");
  until([&] { return heard_.size() == 2; });
  EXPECT_EQ(authorization_, "Bearer newer");
}

TEST_F(XdsRelayTest, LetsGoUpstreamWhenTheProxyGoes) {
  call();
  call_->send("one");
  until([&] { return heard_.size() == 1; });
  call_.reset();
  channel_.reset();
  until([&] { return upstream_closed_ == 1; });
  EXPECT_EQ(upstream_closed_, 1);
}

TEST_F(XdsRelayTest, SaysWhatIsMissing) {
  std::filesystem::remove(options_.paths.token_file);
  call();
  call_->send("one");
  until([&] { return closed_.has_value(); });
  ASSERT_TRUE(closed_);
  EXPECT_EQ(closed_->code, 14);
  EXPECT_NE(closed_->message.find("istio-token: cannot be read"), std::string::npos);
}

TEST_F(XdsRelayTest, RefusesAControlPlaneOfAnotherRoot) {
  write("root-cert.pem", tls::makeRoot("other", std::chrono::hours(1))->certificate_pem);
  call();
  call_->send("one");
  until([&] { return closed_.has_value(); });
  ASSERT_TRUE(closed_);
  EXPECT_EQ(closed_->code, 14);
  EXPECT_TRUE(authorization_.empty());
}

}  // namespace
}  // namespace postern::agent
