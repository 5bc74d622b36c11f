// The client against the server over streams in memory.
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "xds/client.h"
#include "xds/server.h"

#include <gtest/gtest.h>

#include <map>

namespace postern::xds {
namespace {

/// One direction of a call; messages arrive in a later turn.
class MemoryStream : public http::GrpcStream {
 public:
  MemoryStream(event::Loop& loop, std::shared_ptr<http::GrpcCallbacks> peer)
      : loop_(loop), peer_(std::move(peer)) {}
  void send(std::string_view message) override {
    loop_.post([peer = peer_, text = std::string(message)] {
      if (peer->on_message) peer->on_message(text);
    });
  }
  std::size_t unsentBytes() const override { return 0; }
  void close(http::GrpcStatus status) override {
    loop_.post([peer = peer_, status] {
      if (peer->on_close) peer->on_close(status);
    });
  }
  const net::PeerInfo& peer() const override { return info_; }
  const net::Address& remote() const override { return address_; }

 private:
  event::Loop& loop_;
  std::shared_ptr<http::GrpcCallbacks> peer_;
  net::PeerInfo info_;
  net::Address address_;
};

class MemoryChannel : public http::GrpcChannel {
 public:
  MemoryChannel(event::Loop& loop, Server& server) : loop_(loop), server_(server) {}
  std::unique_ptr<http::GrpcStream> call(std::string_view, const http::HeaderMap&,
                                         http::GrpcCallbacks callbacks) override {
    auto client = std::make_shared<http::GrpcCallbacks>(std::move(callbacks));
    auto server = std::make_shared<http::GrpcCallbacks>();
    *server = server_.accept(std::make_unique<MemoryStream>(loop_, client));
    return std::make_unique<MemoryStream>(loop_, server);
  }

 private:
  event::Loop& loop_;
  Server& server_;
};

struct Source : ResourceSource {
  base::ConfigResult<ProxyId> connected(const NodeInfo& info, const net::PeerInfo&) override {
    node = info;
    return 7;
  }
  void disconnected(ProxyId) override { ++gone; }
  std::vector<ServedResource> resources(ProxyId, std::string_view type_url) override {
    std::vector<ServedResource> out;
    if (type_url != api::kClusterType) return out;
    for (const auto& [name, version] : clusters) {
      envoy::config::cluster::v3::Cluster cluster;
      cluster.set_name(name);
      out.push_back({name, version, api::serialize(cluster)});
    }
    return out;
  }
  void acknowledged(ProxyId, std::string_view, std::string_view error) override {
    (error.empty() ? acks : nacks) += 1;
    last_error = error;
  }
  NodeInfo node;
  std::map<std::string, std::string> clusters;
  int acks = 0;
  int nacks = 0;
  int gone = 0;
  std::string last_error;
};

struct Xds : testing::Test {
  void turns() {
    for (int i = 0; i < 20; ++i) loop.runOnce();
  }
  event::Loop loop;
  Source source;
  Server server{source};
  std::vector<std::string> log;
  bool refuse = false;
  Client client{loop,
                {.id = "sidecar~10.0.0.1~a.b~b.svc.cluster.local", .metadata_json = R"({"A":1})"},
                [this] { return std::make_unique<MemoryChannel>(loop, server); },
                [this](std::string_view, const std::vector<Update>& updated,
                       const std::vector<std::string>& removed) -> base::ConfigResult<void> {
                  for (const auto& u : updated) log.push_back("+" + u.name + "@" + u.version);
                  for (const auto& name : removed) log.push_back("-" + name);
                  if (refuse) return base::failConfig("clusters[0].name", "bad");
                  return {};
                }};
};

TEST_F(Xds, SendsOnlyDifferences) {
  source.clusters = {{"a", "1"}, {"b", "1"}};
  client.subscribeAll(api::kClusterType);
  client.start();
  turns();
  EXPECT_EQ(log, (std::vector<std::string>{"+a@1", "+b@1"}));
  EXPECT_EQ(source.node.metadata_json, R"({"A":1})");
  EXPECT_EQ(source.acks, 1);

  log.clear();
  source.clusters = {{"b", "2"}};
  server.changed(7);
  server.changed(7);
  turns();
  EXPECT_EQ(log, (std::vector<std::string>{"+b@2", "-a"}));
}

TEST_F(Xds, RefusalIsReportedAndNotRepeated) {
  refuse = true;
  source.clusters = {{"a", "1"}};
  client.subscribeAll(api::kClusterType);
  client.start();
  turns();
  EXPECT_EQ(source.nacks, 1);
  EXPECT_EQ(source.last_error, "clusters[0].name: bad");
  server.changed(7);
  turns();
  EXPECT_EQ(log.size(), 1U);
}

TEST_F(Xds, NamesAreToldAbsentOnceAndArriveLater) {
  client.subscribe(api::kClusterType, {"x"});
  client.start();
  turns();
  EXPECT_EQ(log, std::vector<std::string>{"-x"});
  source.clusters = {{"x", "1"}, {"y", "1"}};
  server.changed(7);
  turns();
  EXPECT_EQ(log, (std::vector<std::string>{"-x", "+x@1"}));
  client.subscribe(api::kClusterType, {"y"});
  turns();
  EXPECT_EQ(log.back(), "+y@1");
}

}  // namespace
}  // namespace postern::xds
