#include "xds/server.h"

#include "base/log.h"
#include "envoy/service/discovery/v3/discovery.pb.h"
#include "xds/subscription.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace postern::xds {
namespace {

namespace discovery = envoy::service::discovery::v3;

NodeInfo nodeInfo(const envoy::config::core::v3::Node& node) {
  return {.id = node.id(),
          .cluster = node.cluster(),
          .region = node.locality().region(),
          .zone = node.locality().zone(),
          .sub_zone = node.locality().sub_zone(),
          .metadata_json = json::dump(api::toJson(node.metadata()))};
}

struct Connection {
  std::unique_ptr<http::GrpcStream> stream;
  Server::Variant variant = Server::Variant::kDelta;
  std::optional<Caller> caller;      // once admitted
  std::vector<std::string> waiting;  // messages that came before
  ResourceSource::ProxyId proxy = 0;
  bool known = false;
  bool refused = false;
  std::map<std::string, Subscription, std::less<>> types;
  std::uint64_t next_nonce = 1;

  Subscription* find(std::string_view type_url) {
    const auto found = types.find(type_url);
    return found == types.end() ? nullptr : &found->second;
  }
  void refuse(http::GrpcStatus status) {
    refused = true;
    waiting.clear();
    stream->close(std::move(status));
  }
};

/// True while a listener or route of the past may still be in use.
bool mayStillName(Connection& connection) {
  for (const auto type_url : {api::kListenerType, api::kRouteType}) {
    const Subscription* state = connection.find(type_url);
    if (state != nullptr && !state->nonce.empty()) return true;
  }
  return false;
}

void subscribeDelta(Subscription& state, const discovery::DeltaDiscoveryRequest& request) {
  const bool first = !state.subscribed;
  if (first) {
    state.subscribed = true;
    state.unanswered = true;
    for (const auto& [name, version] : request.initial_resource_versions()) {
      state.held[name] = version;
    }
    if (request.resource_names_subscribe().empty()) {
      state.wildcard = isWildcardType(request.type_url());
    }
  }
  for (const auto& name : request.resource_names_subscribe()) {
    if (name == "*") {
      state.wildcard = true;
      continue;
    }
    state.names.insert(name);
    if (!first) state.held.erase(name);  // subscribing again asks for it again
  }
  for (const auto& name : request.resource_names_unsubscribe()) {
    if (name == "*") {
      state.wildcard = false;
    } else {
      state.names.erase(name);
      if (!state.wildcard) state.held.erase(name);
    }
  }
}

/// The request's list replaces the names; a change is answered in full.
void subscribeFull(Subscription& state, const discovery::DiscoveryRequest& request) {
  std::set<std::string, std::less<>> names(request.resource_names().begin(),
                                           request.resource_names().end());
  const bool wildcard =
      names.contains("*") || (names.empty() && isWildcardType(request.type_url()));
  if (!state.subscribed || names != state.names || wildcard != state.wildcard) {
    state.subscribed = true;
    state.unanswered = true;
  }
  state.names = std::move(names);
  state.wildcard = wildcard;
}

}  // namespace

struct Server::Impl {
  explicit Impl(ResourceSource& s) : source(s) {}

  void admitted(std::uint64_t id, std::expected<Caller, http::GrpcStatus> verdict);
  void receive(Connection& connection, std::string_view message);
  void receiveDelta(Connection& connection, std::string_view message);
  void receiveFull(Connection& connection, std::string_view message);
  bool introduce(Connection& connection, const envoy::config::core::v3::Node& node);
  void answered(Connection& connection, Subscription& state, std::string_view type_url,
                std::string_view nonce, std::string_view error);
  void pushAll(Connection& connection);
  void push(Connection& connection, std::string_view type_url, Subscription& state, bool removals);
  void pushFull(Connection& connection, std::string_view type_url, Subscription& state);
  std::string nextNonce(Connection& connection, std::string_view type_url, Subscription& state);
  void drop(std::uint64_t id);

  ResourceSource& source;
  std::map<std::uint64_t, std::unique_ptr<Connection>> connections;
  std::uint64_t next_id = 1;
};

void Server::Impl::admitted(std::uint64_t id, std::expected<Caller, http::GrpcStatus> verdict) {
  const auto found = connections.find(id);
  if (found == connections.end()) return;
  Connection& connection = *found->second;
  if (connection.caller || connection.refused) return;
  if (!verdict) return connection.refuse(std::move(verdict).error());
  connection.caller = std::move(*verdict);
  for (const std::string& message : std::exchange(connection.waiting, {})) {
    if (connection.refused) return;
    receive(connection, message);
  }
}

bool Server::Impl::introduce(Connection& connection, const envoy::config::core::v3::Node& node) {
  if (connection.known) return true;
  if (node.id().empty()) {
    connection.refuse({http::kGrpcInvalidArgument, "the first request must name the node"});
    return false;
  }
  auto proxy = source.connected(nodeInfo(node), *connection.caller);
  if (!proxy) {
    connection.refuse(std::move(proxy).error());
    return false;
  }
  connection.proxy = *proxy;
  connection.known = true;
  return true;
}

void Server::Impl::receive(Connection& connection, std::string_view message) {
  if (connection.refused) return;
  if (!connection.caller) {
    if (connection.waiting.size() >= kWaitingMax) {
      return connection.refuse(
          {http::kGrpcResourceExhausted, "too many messages before the caller is known"});
    }
    connection.waiting.emplace_back(message);
    return;
  }
  if (connection.variant == Variant::kDelta) return receiveDelta(connection, message);
  receiveFull(connection, message);
}

void Server::Impl::answered(Connection& connection, Subscription& state, std::string_view type_url,
                            std::string_view nonce, std::string_view error) {
  if (nonce.empty() || nonce != state.nonce) return;
  state.nonce.clear();
  source.acknowledged(connection.proxy, type_url, error);
}

void Server::Impl::receiveDelta(Connection& connection, std::string_view message) {
  discovery::DeltaDiscoveryRequest request;
  if (!api::parseBytes(message, request)) {
    return connection.refuse({http::kGrpcInvalidArgument, "malformed DeltaDiscoveryRequest"});
  }
  if (!introduce(connection, request.node())) return;
  Subscription& state = connection.types[request.type_url()];
  if (state.names.size() + static_cast<std::size_t>(request.resource_names_subscribe_size()) >
      kNamesMax) {
    return connection.refuse({http::kGrpcResourceExhausted, "too many subscribed resources"});
  }
  answered(connection, state, request.type_url(), request.response_nonce(),
           request.error_detail().message());
  subscribeDelta(state, request);
  pushAll(connection);
}

void Server::Impl::receiveFull(Connection& connection, std::string_view message) {
  discovery::DiscoveryRequest request;
  if (!api::parseBytes(message, request)) {
    return connection.refuse({http::kGrpcInvalidArgument, "malformed DiscoveryRequest"});
  }
  if (!introduce(connection, request.node())) return;
  Subscription& state = connection.types[request.type_url()];
  if (static_cast<std::size_t>(request.resource_names_size()) > kNamesMax) {
    return connection.refuse({http::kGrpcResourceExhausted, "too many subscribed resources"});
  }
  // A nonce of a response that another one followed: the newer acknowledgement carries the names.
  if (state.subscribed && request.response_nonce() != state.nonce &&
      !request.response_nonce().empty() && !state.nonce.empty()) {
    return;
  }
  answered(connection, state, request.type_url(), request.response_nonce(),
           request.error_detail().message());
  subscribeFull(state, request);
  pushAll(connection);
}

void Server::Impl::pushAll(Connection& connection) {
  if (!connection.known || connection.refused) return;
  const bool full = connection.variant == Variant::kStateOfTheWorld;
  const auto one = [&](std::string_view type_url, Subscription& state) {
    if (full) {
      pushFull(connection, type_url, state);
    } else {
      push(connection, type_url, state, type_url != api::kClusterType);
    }
  };
  for (const auto type_url : kPushOrder) {
    if (Subscription* state = connection.find(type_url)) one(type_url, *state);
  }
  for (auto& [type_url, state] : connection.types) {
    if (std::find(kPushOrder.begin(), kPushOrder.end(), type_url) == kPushOrder.end()) {
      one(type_url, state);
    }
  }
  Subscription* clusters = full ? nullptr : connection.find(api::kClusterType);
  if (clusters != nullptr && !mayStillName(connection)) {
    push(connection, api::kClusterType, *clusters, true);
  }
}

std::string Server::Impl::nextNonce(Connection& connection, std::string_view type_url,
                                    Subscription& state) {
  state.unanswered = false;
  state.nonce = std::to_string(connection.next_nonce++);
  source.sent(connection.proxy, type_url);
  return state.nonce;
}

void Server::Impl::push(Connection& connection, std::string_view type_url, Subscription& state,
                        bool removals) {
  if (!state.subscribed || !state.nonce.empty()) return;  // the acknowledgement pushes again
  discovery::DeltaDiscoveryResponse response;
  std::set<std::string, std::less<>> present;
  Subscription* assignments =
      type_url == api::kClusterType ? connection.find(api::kEndpointType) : nullptr;
  source.resources(connection.proxy, type_url,
                   [&](std::string_view name, std::string_view version, std::string_view bytes) {
                     if (!state.wants(name)) return;
                     present.emplace(name);
                     if (state.has(name, version)) return;
                     // A replaced cluster waits for its endpoints again, though it subscribed to
                     // them before.
                     if (assignments != nullptr && state.held.contains(name)) {
                       assignments->forget(name);
                     }
                     auto& out = *response.add_resources();
                     out.set_name(std::string(name));
                     out.set_version(std::string(version));
                     out.mutable_resource()->set_type_url(std::string(type_url));
                     out.mutable_resource()->set_value(std::string(bytes));
                     state.held[std::string(name)] = version;
                   });
  if (removals) {
    for (std::string& name : state.takeAbsent(present)) {
      response.add_removed_resources(std::move(name));
    }
  }
  if (response.resources().empty() && response.removed_resources().empty() && !state.unanswered) {
    return;
  }
  response.set_nonce(nextNonce(connection, type_url, state));
  response.set_type_url(std::string(type_url));
  connection.stream->send(api::serialize(response));
}

void Server::Impl::pushFull(Connection& connection, std::string_view type_url,
                            Subscription& state) {
  if (!state.subscribed || !state.nonce.empty()) return;
  discovery::DiscoveryResponse response;
  std::map<std::string, std::string, std::less<>> now;
  std::string all;
  source.resources(connection.proxy, type_url,
                   [&](std::string_view name, std::string_view version, std::string_view bytes) {
                     if (!state.wants(name)) return;
                     now[std::string(name)] = version;
                     all.append(name).append("\n").append(version).append("\n");
                     auto& out = *response.add_resources();
                     out.set_type_url(std::string(type_url));
                     out.set_value(std::string(bytes));
                   });
  if (now == state.held && !state.unanswered) return;
  state.held = std::move(now);
  response.set_version_info(std::to_string(std::hash<std::string>{}(all)));
  response.set_nonce(nextNonce(connection, type_url, state));
  response.set_type_url(std::string(type_url));
  connection.stream->send(api::serialize(response));
}

void Server::Impl::drop(std::uint64_t id) {
  const auto found = connections.find(id);
  if (found == connections.end()) return;
  const auto connection = std::move(found->second);
  connections.erase(found);
  if (connection->known) source.disconnected(connection->proxy);
}

Server::Server(ResourceSource& source) : impl_(std::make_shared<Impl>(source)) {}

Server::~Server() = default;

std::size_t Server::connections() const { return impl_->connections.size(); }

http::GrpcCallbacks Server::accept(std::unique_ptr<http::GrpcStream> stream, Variant variant,
                                   const http::HeaderMap& headers, const Admit& admit) {
  const std::uint64_t id = impl_->next_id++;
  auto connection = std::make_unique<Connection>();
  connection->stream = std::move(stream);
  connection->variant = variant;
  if (!admit) connection->caller = Caller{};
  impl_->connections.emplace(id, std::move(connection));
  const std::weak_ptr<Impl> weak = impl_;
  const auto withConnection = [weak, id](auto&& work) {
    const auto impl = weak.lock();
    if (impl == nullptr) return;
    const auto found = impl->connections.find(id);
    if (found != impl->connections.end()) work(*impl, *found->second);
  };
  http::GrpcCallbacks callbacks;
  callbacks.on_message = [withConnection](std::string_view message) {
    withConnection([&](Impl& impl, Connection& c) { impl.receive(c, message); });
  };
  callbacks.on_half_close = [withConnection] {
    withConnection([](Impl&, Connection& c) { c.stream->close(); });
  };
  callbacks.on_close = [weak, id](const http::GrpcStatus&) {
    if (const auto impl = weak.lock()) impl->drop(id);
  };
  if (admit) {
    admit(headers, [weak, id](std::expected<Caller, http::GrpcStatus> verdict) {
      if (const auto impl = weak.lock()) impl->admitted(id, std::move(verdict));
    });
  }
  return callbacks;
}

void Server::registerAt(http::GrpcServer& server, Admit admit) {
  const auto add = [&](std::string_view method, Variant variant) {
    server.addMethod(std::string(method),
                     [this, variant, admit](std::unique_ptr<http::GrpcStream> stream,
                                            const http::HeaderMap& headers) {
                       return accept(std::move(stream), variant, headers, admit);
                     });
  };
  add(kDeltaMethod, Variant::kDelta);
  add(kStreamMethod, Variant::kStateOfTheWorld);
}

void Server::changed(ResourceSource::ProxyId proxy) {
  for (auto& [id, connection] : impl_->connections) {
    if (connection->known && connection->proxy == proxy) impl_->pushAll(*connection);
  }
}

}  // namespace postern::xds
