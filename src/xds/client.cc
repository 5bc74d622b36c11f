#include "xds/client.h"

#include "base/log.h"
#include "envoy/service/discovery/v3/discovery.pb.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <map>

namespace postern::xds {
namespace {

namespace discovery = envoy::service::discovery::v3;

constexpr auto kBackoffFirst = std::chrono::milliseconds(500);
constexpr auto kBackoffMax = std::chrono::milliseconds(30'000);
constexpr int kInvalidArgument = 3;

struct Subscription {
  bool wildcard = false;
  std::set<std::string> names;
  std::map<std::string, std::string> held;  // accepted: name → version
};

}  // namespace

struct Client::Impl {
  Impl(event::Loop& l, NodeInfo n, Connect c, OnUpdate u)
      : loop(l),
        node(std::move(n)),
        connect(std::move(c)),
        on_update(std::move(u)),
        retry(l, [this] { open(); }) {}

  void open();
  void closed();
  void send(discovery::DeltaDiscoveryRequest& request);
  void sendInitial(const std::string& type_url, const Subscription& subscription);
  void receive(std::string_view message);

  event::Loop& loop;
  NodeInfo node;
  Connect connect;
  OnUpdate on_update;
  event::Timer retry;
  std::chrono::milliseconds backoff = kBackoffFirst;
  std::map<std::string, Subscription, std::less<>> subscriptions;
  std::unique_ptr<http::GrpcChannel> channel;
  std::unique_ptr<http::GrpcStream> stream;
  std::uint64_t attempt = 0;
  bool node_sent = false;
  // Callbacks of a stream that outlives this object find it gone.
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
};

void Client::Impl::open() {
  stream.reset();
  channel = connect();
  node_sent = false;
  const std::uint64_t mine = ++attempt;
  const std::weak_ptr<bool> weak = alive;
  if (channel == nullptr) return closed();
  http::GrpcCallbacks callbacks;
  callbacks.on_message = [this, weak, mine](std::string_view message) {
    if (!weak.expired() && mine == attempt) receive(message);
  };
  callbacks.on_close = [this, weak, mine](const http::GrpcStatus&) {
    if (!weak.expired() && mine == attempt) closed();
  };
  auto opened = channel->call(kDeltaMethod, {}, std::move(callbacks));
  if (mine != attempt || retry.armed()) return;  // refused at once
  if (opened == nullptr) return closed();
  stream = std::move(opened);
  for (const auto type_url : kPushOrder) {
    const auto found = subscriptions.find(type_url);
    if (found != subscriptions.end()) sendInitial(found->first, found->second);
  }
  for (const auto& [type_url, subscription] : subscriptions) {
    if (std::find(kPushOrder.begin(), kPushOrder.end(), type_url) == kPushOrder.end()) {
      sendInitial(type_url, subscription);
    }
  }
}

void Client::Impl::closed() {
  if (retry.armed()) return;
  ++attempt;  // nothing of the old stream is heard any more; it is destroyed at the next attempt
  retry.arm(backoff);
  backoff = std::min(backoff * 2, kBackoffMax);
}

void Client::Impl::send(discovery::DeltaDiscoveryRequest& request) {
  if (stream == nullptr || retry.armed()) return;
  if (!node_sent) {
    auto& out = *request.mutable_node();
    out.set_id(node.id);
    out.set_cluster(node.cluster);
    out.mutable_locality()->set_region(node.region);
    out.mutable_locality()->set_zone(node.zone);
    out.mutable_locality()->set_sub_zone(node.sub_zone);
    if (const auto metadata = json::parse(node.metadata_json)) {
      (void)api::fromJson(*metadata, *out.mutable_metadata());
    }
    out.set_user_agent_name("postern");
    node_sent = true;
  }
  stream->send(api::serialize(request));
}

void Client::Impl::sendInitial(const std::string& type_url, const Subscription& subscription) {
  discovery::DeltaDiscoveryRequest request;
  request.set_type_url(type_url);
  if (subscription.wildcard) request.add_resource_names_subscribe("*");
  for (const auto& name : subscription.names) request.add_resource_names_subscribe(name);
  for (const auto& [name, version] : subscription.held) {
    (*request.mutable_initial_resource_versions())[name] = version;
  }
  send(request);
}

void Client::Impl::receive(std::string_view message) {
  discovery::DeltaDiscoveryResponse response;
  discovery::DeltaDiscoveryRequest answer;
  if (!api::parseBytes(message, response)) {
    stream->close({kInvalidArgument, "malformed DeltaDiscoveryResponse"});
    return closed();
  }
  answer.set_type_url(response.type_url());
  answer.set_response_nonce(response.nonce());
  const auto found = subscriptions.find(response.type_url());
  if (found == subscriptions.end()) return send(answer);
  backoff = kBackoffFirst;
  std::vector<Update> updated;
  for (const auto& resource : response.resources()) {
    updated.push_back({resource.name(), resource.version(), &resource.resource()});
  }
  const std::vector<std::string> removed(response.removed_resources().begin(),
                                         response.removed_resources().end());
  if (const auto accepted = on_update(response.type_url(), updated, removed)) {
    for (const auto& update : updated) found->second.held[update.name] = update.version;
    for (const auto& name : removed) found->second.held.erase(name);
  } else {
    answer.mutable_error_detail()->set_code(kInvalidArgument);
    answer.mutable_error_detail()->set_message(accepted.error().message());
  }
  send(answer);
}

Client::Client(event::Loop& loop, NodeInfo node, Connect connect, OnUpdate on_update)
    : impl_(std::make_unique<Impl>(loop, std::move(node), std::move(connect),
                                   std::move(on_update))) {}

Client::~Client() = default;

void Client::start() { impl_->open(); }

bool Client::connected() const { return impl_->stream != nullptr && !impl_->retry.armed(); }

void Client::subscribeAll(std::string_view type_url) {
  auto& subscription = impl_->subscriptions[std::string(type_url)];
  if (subscription.wildcard) return;
  subscription.wildcard = true;
  discovery::DeltaDiscoveryRequest request;
  request.set_type_url(std::string(type_url));
  request.add_resource_names_subscribe("*");
  impl_->send(request);
}

void Client::subscribe(std::string_view type_url, const std::set<std::string>& names) {
  auto& subscription = impl_->subscriptions[std::string(type_url)];
  discovery::DeltaDiscoveryRequest request;
  request.set_type_url(std::string(type_url));
  for (const auto& name : names) {
    if (!subscription.names.contains(name)) request.add_resource_names_subscribe(name);
  }
  for (const auto& name : subscription.names) {
    if (names.contains(name)) continue;
    request.add_resource_names_unsubscribe(name);
    subscription.held.erase(name);
  }
  subscription.names = names;
  const bool same =
      request.resource_names_subscribe().empty() && request.resource_names_unsubscribe().empty();
  if (!same) impl_->send(request);
}

}  // namespace postern::xds
