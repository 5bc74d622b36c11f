// The client against the server over streams in memory.
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/service/discovery/v3/discovery.pb.h"
#include "xds/client.h"
#include "xds/server.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <utility>

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
    *server =
        server_.accept(std::make_unique<MemoryStream>(loop_, client), Server::Variant::kDelta);
    return std::make_unique<MemoryStream>(loop_, server);
  }

 private:
  event::Loop& loop_;
  Server& server_;
};

struct Source : ResourceSource {
  std::expected<ProxyId, http::GrpcStatus> connected(const NodeInfo& info,
                                                     const Caller& who) override {
    if (info.id == "bad") return std::unexpected(http::GrpcStatus{3, "no such kind of node"});
    node = info;
    caller = who;
    return 7;
  }
  void disconnected(ProxyId) override { ++gone; }
  void resources(ProxyId, std::string_view type_url, const Visit& visit) override {
    const auto found = by_type.find(type_url);
    const auto& list = type_url == api::kClusterType ? clusters
                       : found == by_type.end()      ? none
                                                     : found->second;
    for (const auto& [name, version] : list) {
      envoy::config::cluster::v3::Cluster cluster;
      cluster.set_name(name);
      visit(name, version, api::serialize(cluster));
    }
  }
  void sent(ProxyId, std::string_view) override { ++responses; }
  void acknowledged(ProxyId, std::string_view, std::string_view error) override {
    (error.empty() ? acks : nacks) += 1;
    last_error = error;
  }
  NodeInfo node;
  Caller caller;
  const std::map<std::string, std::string> none;
  std::map<std::string, std::string> clusters;
  std::map<std::string, std::map<std::string, std::string>, std::less<>> by_type;
  int responses = 0;
  int acks = 0;
  int nacks = 0;
  int gone = 0;
  std::string last_error;
};

struct Xds : ::testing::Test {
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

/// The client's other end, written by hand.
struct Upstream : ::testing::Test {
  class Stream final : public http::GrpcStream {
   public:
    explicit Stream(std::vector<std::string>& sent) : sent_(sent) {}
    void send(std::string_view message) override { sent_.emplace_back(message); }
    std::size_t unsentBytes() const override { return 0; }
    void close(http::GrpcStatus) override {}
    const net::PeerInfo& peer() const override { return info_; }
    const net::Address& remote() const override { return address_; }

   private:
    std::vector<std::string>& sent_;
    net::PeerInfo info_;
    net::Address address_;
  };
  class Channel final : public http::GrpcChannel {
   public:
    explicit Channel(Upstream& upstream) : upstream_(upstream) {}
    std::unique_ptr<http::GrpcStream> call(std::string_view, const http::HeaderMap&,
                                           http::GrpcCallbacks callbacks) override {
      ++upstream_.calls;
      upstream_.client_side = std::move(callbacks);
      return std::make_unique<Stream>(upstream_.sent);
    }

   private:
    Upstream& upstream_;
  };
  Client make(Client::Options options) {
    return {loop,
            {.id = "n"},
            std::move(options),
            [this] { return std::make_unique<Channel>(*this); },
            [this](std::string_view, const std::vector<Update>&,
                   const std::vector<std::string>& gone) -> base::ConfigResult<void> {
              removed.insert(removed.end(), gone.begin(), gone.end());
              return {};
            }};
  }
  base::ManualClock clock;
  event::Loop loop{clock};
  int calls = 0;
  http::GrpcCallbacks client_side;
  std::vector<std::string> sent;
  std::vector<std::string> removed;
};

TEST_F(Upstream, AResourceThatCannotBeReadRemovesNothing) {
  Client client = make({.variant = Client::Variant::kStateOfTheWorld});
  client.subscribeAll(api::kClusterType);
  client.start();
  envoy::service::discovery::v3::DiscoveryResponse response;
  response.set_type_url(std::string(api::kClusterType));
  for (const char* name : {"a", "b"}) {
    envoy::config::cluster::v3::Cluster cluster;
    cluster.set_name(name);
    api::pack(cluster, *response.add_resources());
  }
  client_side.on_message(api::serialize(response));
  response.mutable_resources(1)->set_value("\xff\xff");
  client_side.on_message(api::serialize(response));
  EXPECT_EQ(removed, std::vector<std::string>{});
  response.mutable_resources()->RemoveLast();
  client_side.on_message(api::serialize(response));
  EXPECT_EQ(removed, std::vector<std::string>{"b"});
}

TEST_F(Upstream, ATypeOfWhichNothingIsWantedIsNotAskedForAgain) {
  Client client = make({});
  client.subscribe(api::kRouteType, {"r"});
  client.subscribe(api::kEndpointType, {"e"});
  client.start();
  client.subscribe(api::kRouteType, {});
  sent.clear();
  client_side.on_close({});
  clock.advance(std::chrono::minutes(5));
  loop.runOnce();
  ASSERT_EQ(calls, 2);
  ASSERT_EQ(sent.size(), 1U);
  envoy::service::discovery::v3::DeltaDiscoveryRequest request;
  ASSERT_TRUE(api::parseBytes(sent[0], request));
  EXPECT_EQ(request.type_url(), api::kEndpointType);
}

/// A peer that speaks the messages itself: it keeps responses until told to acknowledge.
template <class Request, class Response>
struct Peer {
  Peer(event::Loop& on, Server& server, Server::Variant variant, const Server::Admit& admit = {})
      : loop(on), mine(std::make_shared<http::GrpcCallbacks>()) {
    mine->on_message = [this](std::string_view message) {
      ASSERT_TRUE(api::parseBytes(message, responses.emplace_back()));
    };
    mine->on_close = [this](const http::GrpcStatus& status) { closed = status; };
    theirs = std::make_shared<http::GrpcCallbacks>(
        server.accept(std::make_unique<MemoryStream>(loop, mine), variant, {}, admit));
  }
  Request request(std::string_view type_url) {
    Request out;
    out.set_type_url(std::string(type_url));
    if (std::exchange(first, false)) out.mutable_node()->set_id(id);
    return out;
  }
  void send(const Request& request) {
    const std::string bytes = api::serialize(request);
    theirs->on_message(bytes);
    turns();
  }
  void ack(const Response& response) {
    Request out = request(response.type_url());
    out.set_response_nonce(response.nonce());
    send(out);
  }
  void turns() {
    for (int i = 0; i < 10; ++i) loop.runOnce();
  }
  event::Loop& loop;
  std::string id = "router~10.0.0.1~a.b~b.svc.cluster.local";
  bool first = true;
  std::vector<Response> responses;
  std::optional<http::GrpcStatus> closed;
  std::shared_ptr<http::GrpcCallbacks> mine;
  std::shared_ptr<http::GrpcCallbacks> theirs;
};
using FullPeer = Peer<envoy::service::discovery::v3::DiscoveryRequest,
                      envoy::service::discovery::v3::DiscoveryResponse>;
using DeltaPeer = Peer<envoy::service::discovery::v3::DeltaDiscoveryRequest,
                       envoy::service::discovery::v3::DeltaDiscoveryResponse>;

TEST_F(Xds, StateOfTheWorldSendsTheWholeTypeWhenItChanged) {
  source.clusters = {{"a", "1"}, {"b", "1"}};
  FullPeer peer(loop, server, Server::Variant::kStateOfTheWorld);
  peer.send(peer.request(api::kClusterType));
  ASSERT_EQ(peer.responses.size(), 1U);
  EXPECT_EQ(peer.responses[0].resources_size(), 2);
  EXPECT_FALSE(peer.responses[0].version_info().empty());
  auto ack = peer.request(api::kClusterType);
  ack.set_response_nonce(peer.responses[0].nonce());
  ack.set_version_info(peer.responses[0].version_info());
  peer.send(ack);
  EXPECT_EQ(source.acks, 1);
  server.changed(7);
  peer.turns();
  EXPECT_EQ(peer.responses.size(), 1U);  // nothing is different

  source.clusters = {{"b", "1"}};
  server.changed(7);
  peer.turns();
  ASSERT_EQ(peer.responses.size(), 2U);
  EXPECT_EQ(peer.responses[1].resources_size(), 1);
  EXPECT_NE(peer.responses[1].version_info(), peer.responses[0].version_info());
}

TEST_F(Xds, StateOfTheWorldAnswersByNameAndIgnoresStaleNonces) {
  source.by_type[std::string(api::kRouteType)] = {{"80", "1"}, {"90", "1"}};
  FullPeer peer(loop, server, Server::Variant::kStateOfTheWorld);
  auto ask = peer.request(api::kRouteType);
  ask.add_resource_names("80");
  peer.send(ask);
  ASSERT_EQ(peer.responses.size(), 1U);
  EXPECT_EQ(peer.responses[0].resources_size(), 1);

  auto stale = peer.request(api::kRouteType);
  stale.set_response_nonce("never sent");
  peer.send(stale);
  EXPECT_EQ(peer.responses.size(), 1U);

  auto more = peer.request(api::kRouteType);
  more.set_response_nonce(peer.responses[0].nonce());
  more.add_resource_names("80");
  more.add_resource_names("90");
  peer.send(more);
  ASSERT_EQ(peer.responses.size(), 2U);
  EXPECT_EQ(peer.responses[1].resources_size(), 2);
}

TEST_F(Xds, AClusterLeavesAfterTheRoutesThatNamedIt) {
  source.clusters = {{"old", "1"}};
  source.by_type[std::string(api::kRouteType)] = {{"80", "to old"}};
  DeltaPeer peer(loop, server, Server::Variant::kDelta);
  peer.send(peer.request(api::kClusterType));
  peer.ack(peer.responses.back());
  auto ask = peer.request(api::kRouteType);
  ask.add_resource_names_subscribe("80");
  peer.send(ask);
  peer.ack(peer.responses.back());

  source.clusters = {{"new", "1"}};
  source.by_type[std::string(api::kRouteType)] = {{"80", "to new"}};
  server.changed(7);
  peer.turns();
  ASSERT_EQ(peer.responses.size(), 4U);
  EXPECT_EQ(peer.responses[2].type_url(), api::kClusterType);
  EXPECT_EQ(peer.responses[2].removed_resources_size(), 0);
  EXPECT_EQ(peer.responses[3].type_url(), api::kRouteType);
  const auto route = peer.responses[3];
  peer.ack(peer.responses[2]);
  EXPECT_EQ(peer.responses.size(), 4U);
  peer.ack(route);
  ASSERT_EQ(peer.responses.size(), 5U);
  EXPECT_EQ(peer.responses[4].removed_resources(0), "old");
}

TEST_F(Xds, AReplacedClusterGetsItsEndpointsAgain) {
  source.clusters = {{"a", "1"}};
  source.by_type[std::string(api::kEndpointType)] = {{"a", "1"}};
  DeltaPeer peer(loop, server, Server::Variant::kDelta);
  peer.send(peer.request(api::kClusterType));
  peer.ack(peer.responses.back());
  auto ask = peer.request(api::kEndpointType);
  ask.add_resource_names_subscribe("a");
  peer.send(ask);
  peer.ack(peer.responses.back());
  source.clusters = {{"a", "2"}};
  server.changed(7);
  peer.turns();
  ASSERT_EQ(peer.responses.size(), 4U);
  EXPECT_EQ(peer.responses[3].type_url(), api::kEndpointType);
  EXPECT_EQ(peer.responses[3].resources_size(), 1);
}

TEST_F(Xds, MessagesWaitUntilTheCallerIsKnown) {
  source.clusters = {{"a", "1"}};
  Server::Verdict verdict;
  DeltaPeer peer(loop, server, Server::Variant::kDelta,
                 [&](const http::HeaderMap&, Server::Verdict v) { verdict = std::move(v); });
  peer.send(peer.request(api::kClusterType));
  EXPECT_TRUE(peer.responses.empty());
  verdict(Caller{.local = false, .ns = "b", .service_account = "sa", .pod = "a"});
  peer.turns();
  ASSERT_EQ(peer.responses.size(), 1U);
  EXPECT_EQ(source.caller.service_account, "sa");
}

TEST_F(Xds, RefusedCallersAndUnknownNodesGetAStatus) {
  DeltaPeer stranger(loop, server, Server::Variant::kDelta,
                     [&](const http::HeaderMap&, const Server::Verdict& verdict) {
                       verdict(std::unexpected(http::GrpcStatus{16, "no token"}));
                     });
  stranger.turns();
  ASSERT_TRUE(stranger.closed);
  EXPECT_EQ(stranger.closed->code, 16);

  DeltaPeer unknown(loop, server, Server::Variant::kDelta);
  unknown.id = "bad";
  unknown.send(unknown.request(api::kClusterType));
  ASSERT_TRUE(unknown.closed);
  EXPECT_EQ(unknown.closed->code, 3);
  EXPECT_EQ(unknown.closed->message, "no such kind of node");

  DeltaPeer hasty(loop, server, Server::Variant::kDelta,
                  [](const http::HeaderMap&, const Server::Verdict&) {});
  for (std::size_t i = 0; i <= Server::kWaitingMax; ++i) {
    hasty.send(hasty.request(api::kClusterType));
  }
  ASSERT_TRUE(hasty.closed);
  EXPECT_EQ(hasty.closed->code, 8);
}

}  // namespace
}  // namespace postern::xds
