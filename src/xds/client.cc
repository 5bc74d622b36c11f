#include "xds/client.h"

#include "base/random.h"
#include "envoy/service/discovery/v3/discovery.pb.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <map>

namespace postern::xds {
namespace {

namespace discovery = envoy::service::discovery::v3;

constexpr auto kBackoffFirst = std::chrono::milliseconds(500);
constexpr auto kBackoffMax = std::chrono::milliseconds(30'000);

struct Wanted {
  bool wildcard = false;
  std::set<std::string> names;
  std::map<std::string, std::string> held;  // accepted: name → version
  std::string version;                      // state of the world: the last accepted
  std::string nonce;                        // state of the world: of the last response
};

/// A resource's own name: state of the world does not send it beside the resource.
std::string nameOf(const google::protobuf::Any& resource) {
  const auto message = api::unpack(resource);
  if (!message) return "";
  const auto* type = (*message)->GetDescriptor();
  for (const char* name : {"name", "cluster_name"}) {
    const auto* field = type->FindFieldByName(name);
    if (field == nullptr || field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_STRING)
      continue;
    return (*message)->GetReflection()->GetString(**message, field);
  }
  return "";
}

}  // namespace

struct Client::Impl {
  Impl(event::Loop& l, NodeInfo n, Options o, Connect c, OnUpdate u)
      : loop(l),
        node(std::move(n)),
        options(std::move(o)),
        connect(std::move(c)),
        on_update(std::move(u)),
        retry(l, [this] { open(); }) {}

  void open();
  void closed();
  bool delta() const { return options.variant == Variant::kDelta; }
  template <class Request>
  void send(Request& request);
  void sendState(const std::string& type_url, const Wanted& subscription,
                 const std::string& error = {});
  void sendInitial(const std::string& type_url, const Wanted& subscription);
  void receive(std::string_view message);
  void receiveState(std::string_view message);

  event::Loop& loop;
  NodeInfo node;
  Options options;
  Connect connect;
  OnUpdate on_update;
  event::Timer retry;
  std::chrono::milliseconds backoff = kBackoffFirst;
  base::Random random;
  std::map<std::string, Wanted, std::less<>> subscriptions;
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
    if (weak.expired() || mine != attempt) return;
    delta() ? receive(message) : receiveState(message);
  };
  callbacks.on_close = [this, weak, mine](const http::GrpcStatus&) {
    if (!weak.expired() && mine == attempt) closed();
  };
  auto opened =
      channel->call(delta() ? kDeltaMethod : kStreamMethod, options.metadata, std::move(callbacks));
  if (mine != attempt || retry.armed()) return;  // refused at once
  if (opened == nullptr) return closed();
  stream = std::move(opened);
  for (auto& [type_url, subscription] : subscriptions) subscription.nonce.clear();
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
  // Proxies that lost the same server must not come back together.
  retry.arm(backoff / 2 +
            std::chrono::milliseconds(random.below(static_cast<std::uint64_t>(backoff.count()))));
  backoff = std::min(backoff * 2, kBackoffMax);
}

template <class Request>
void Client::Impl::send(Request& request) {
  if (stream == nullptr || retry.armed()) return;
  if (!node_sent || options.node_in_each_request) {
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

void Client::Impl::sendInitial(const std::string& type_url, const Wanted& subscription) {
  if (!delta()) return sendState(type_url, subscription);
  if (!subscription.wildcard && subscription.names.empty()) return;  // may be read as all of them
  discovery::DeltaDiscoveryRequest request;
  request.set_type_url(type_url);
  if (subscription.wildcard) request.add_resource_names_subscribe("*");
  for (const auto& name : subscription.names) request.add_resource_names_subscribe(name);
  for (const auto& [name, version] : subscription.held) {
    (*request.mutable_initial_resource_versions())[name] = version;
  }
  send(request);
}

void Client::Impl::sendState(const std::string& type_url, const Wanted& subscription,
                             const std::string& error) {
  // No names mean all of them; a type of which nothing is wanted is not asked for.
  if (!subscription.wildcard && subscription.names.empty() && subscription.nonce.empty()) return;
  discovery::DiscoveryRequest request;
  request.set_type_url(type_url);
  request.set_version_info(subscription.version);
  request.set_response_nonce(subscription.nonce);
  if (!subscription.wildcard) {
    for (const auto& name : subscription.names) request.add_resource_names(name);
  }
  if (!error.empty()) {
    request.mutable_error_detail()->set_code(http::kGrpcInvalidArgument);
    request.mutable_error_detail()->set_message(error);
  }
  send(request);
}

void Client::Impl::receiveState(std::string_view message) {
  discovery::DiscoveryResponse response;
  if (!api::parseBytes(message, response)) {
    stream->close({http::kGrpcInvalidArgument, "malformed DiscoveryResponse"});
    return closed();
  }
  const auto found = subscriptions.find(response.type_url());
  if (found == subscriptions.end()) return;
  Wanted& subscription = found->second;
  backoff = kBackoffFirst;
  subscription.nonce = response.nonce();
  std::vector<Update> updated;
  std::set<std::string> present;
  for (const auto& resource : response.resources()) {
    updated.push_back({nameOf(resource), response.version_info(), &resource});
    present.insert(updated.back().name);
  }
  // Only a complete list of a type says what is gone; one that cannot be read may be any of them.
  const bool complete = subscription.wildcard && !present.contains("");
  std::vector<std::string> removed;
  for (const auto& [name, version] : subscription.held) {
    if (complete && !present.contains(name)) removed.push_back(name);
  }
  const auto accepted = on_update(response.type_url(), updated, removed);
  if (accepted) subscription.version = response.version_info();
  present.erase("");
  for (const auto& name : present) subscription.held[name] = response.version_info();
  for (const auto& name : removed) subscription.held.erase(name);
  sendState(found->first, subscription, accepted ? "" : accepted.error().message());
}

void Client::Impl::receive(std::string_view message) {
  discovery::DeltaDiscoveryResponse response;
  discovery::DeltaDiscoveryRequest answer;
  if (!api::parseBytes(message, response)) {
    stream->close({http::kGrpcInvalidArgument, "malformed DeltaDiscoveryResponse"});
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
    answer.mutable_error_detail()->set_code(http::kGrpcInvalidArgument);
    answer.mutable_error_detail()->set_message(accepted.error().message());
  }
  send(answer);
}

Client::Client(event::Loop& loop, NodeInfo node, Connect connect, OnUpdate on_update)
    : Client(loop, std::move(node), Options{}, std::move(connect), std::move(on_update)) {}

Client::Client(event::Loop& loop, NodeInfo node, Options options, Connect connect,
               OnUpdate on_update)
    : impl_(std::make_unique<Impl>(loop, std::move(node), std::move(options), std::move(connect),
                                   std::move(on_update))) {}

Client::~Client() = default;

void Client::start() { impl_->open(); }

bool Client::connected() const { return impl_->stream != nullptr && !impl_->retry.armed(); }

void Client::subscribeAll(std::string_view type_url) {
  auto& subscription = impl_->subscriptions[std::string(type_url)];
  if (subscription.wildcard) return;
  subscription.wildcard = true;
  if (!impl_->delta()) return impl_->sendState(std::string(type_url), subscription);
  discovery::DeltaDiscoveryRequest request;
  request.set_type_url(std::string(type_url));
  request.add_resource_names_subscribe("*");
  impl_->send(request);
}

void Client::subscribe(std::string_view type_url, const std::set<std::string>& names) {
  auto& subscription = impl_->subscriptions[std::string(type_url)];
  if (!impl_->delta()) {
    if (subscription.names == names) return;
    subscription.names = names;
    std::erase_if(subscription.held, [&](const auto& held) { return !names.contains(held.first); });
    return impl_->sendState(std::string(type_url), subscription);
  }
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
