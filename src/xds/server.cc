#include "xds/server.h"

#include "base/log.h"
#include "envoy/service/discovery/v3/discovery.pb.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>

namespace postern::xds {
namespace {

namespace discovery = envoy::service::discovery::v3;

constexpr std::size_t kNamesMax = 100'000;

struct TypeState {
  bool wildcard = false;
  std::set<std::string> names;              // subscribed by name
  std::map<std::string, std::string> held;  // name → version; "" when told that it does not exist
  std::string nonce;                        // of the unacknowledged response, or empty
  bool subscribed = false;
  bool unanswered = false;  // a first subscription is answered even by nothing
};

/// Names as removed what the proxy holds, or asked for by name, and does not exist (once).
void reportAbsent(TypeState& state, const std::set<std::string>& present,
                  discovery::DeltaDiscoveryResponse& response) {
  for (auto held = state.held.begin(); held != state.held.end();) {
    if (present.contains(held->first) || held->second.empty()) {
      ++held;
      continue;
    }
    response.add_removed_resources(held->first);
    held = state.held.erase(held);
  }
  for (const auto& name : state.names) {
    if (present.contains(name) || state.held.contains(name)) continue;
    const auto& told = response.removed_resources();
    if (std::find(told.begin(), told.end(), name) == told.end()) {
      response.add_removed_resources(name);
    }
    state.held[name] = "";
  }
}

NodeInfo nodeInfo(const envoy::config::core::v3::Node& node) {
  return {.id = node.id(),
          .cluster = node.cluster(),
          .region = node.locality().region(),
          .zone = node.locality().zone(),
          .sub_zone = node.locality().sub_zone(),
          .metadata_json = json::dump(api::toJson(node.metadata()))};
}

}  // namespace

struct Server::Impl {
  struct Connection {
    std::unique_ptr<http::GrpcStream> stream;
    ResourceSource::ProxyId proxy = 0;
    bool known = false;
    std::map<std::string, TypeState, std::less<>> types;
    std::uint64_t next_nonce = 1;
  };

  explicit Impl(ResourceSource& s) : source(s) {}

  void receive(Connection& connection, std::string_view message);
  bool introduce(Connection& connection, const discovery::DeltaDiscoveryRequest& request);
  void subscribe(TypeState& state, const discovery::DeltaDiscoveryRequest& request);
  void pushAll(Connection& connection);
  void push(Connection& connection, std::string_view type_url, TypeState& state);
  void drop(std::uint64_t id);

  ResourceSource& source;
  std::map<std::uint64_t, std::unique_ptr<Connection>> connections;
  std::uint64_t next_id = 1;
};

bool Server::Impl::introduce(Connection& connection,
                             const discovery::DeltaDiscoveryRequest& request) {
  if (connection.known) return true;
  if (request.node().id().empty()) {
    connection.stream->close({3, "the first request must name the node"});
    return false;
  }
  auto proxy = source.connected(nodeInfo(request.node()), connection.stream->peer());
  if (!proxy) {
    connection.stream->close({7, proxy.error().message()});
    return false;
  }
  connection.proxy = *proxy;
  connection.known = true;
  return true;
}

void Server::Impl::subscribe(TypeState& state, const discovery::DeltaDiscoveryRequest& request) {
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

void Server::Impl::receive(Connection& connection, std::string_view message) {
  discovery::DeltaDiscoveryRequest request;
  if (!api::parseBytes(message, request)) {
    connection.stream->close({3, "malformed DeltaDiscoveryRequest"});
    return;
  }
  if (!introduce(connection, request)) return;
  TypeState& state = connection.types[request.type_url()];
  if (state.names.size() + static_cast<std::size_t>(request.resource_names_subscribe_size()) >
      kNamesMax) {
    connection.stream->close({8, "too many subscribed resources"});
    return;
  }
  if (!request.response_nonce().empty() && request.response_nonce() == state.nonce) {
    state.nonce.clear();
    source.acknowledged(connection.proxy, request.type_url(), request.error_detail().message());
  }
  subscribe(state, request);
  pushAll(connection);
}

void Server::Impl::pushAll(Connection& connection) {
  if (!connection.known) return;
  for (const auto type_url : kPushOrder) {
    const auto found = connection.types.find(type_url);
    if (found != connection.types.end()) push(connection, type_url, found->second);
  }
  for (auto& [type_url, state] : connection.types) {
    if (std::find(kPushOrder.begin(), kPushOrder.end(), type_url) == kPushOrder.end()) {
      push(connection, type_url, state);
    }
  }
}

void Server::Impl::push(Connection& connection, std::string_view type_url, TypeState& state) {
  if (!state.subscribed || !state.nonce.empty()) return;  // the acknowledgement pushes again
  discovery::DeltaDiscoveryResponse response;
  std::set<std::string> present;
  for (auto& resource : source.resources(connection.proxy, type_url)) {
    if (!state.wildcard && !state.names.contains(resource.name)) continue;
    present.insert(resource.name);
    const auto held = state.held.find(resource.name);
    if (held != state.held.end() && held->second == resource.version) continue;
    auto& out = *response.add_resources();
    out.set_name(resource.name);
    out.set_version(resource.version);
    out.mutable_resource()->set_type_url(std::string(type_url));
    out.mutable_resource()->set_value(std::move(resource.bytes));
    state.held[resource.name] = resource.version;
  }
  reportAbsent(state, present, response);
  if (response.resources().empty() && response.removed_resources().empty() && !state.unanswered) {
    return;
  }
  state.unanswered = false;
  state.nonce = std::to_string(connection.next_nonce++);
  response.set_nonce(state.nonce);
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

http::GrpcCallbacks Server::accept(std::unique_ptr<http::GrpcStream> stream) {
  const std::uint64_t id = impl_->next_id++;
  auto connection = std::make_unique<Impl::Connection>();
  connection->stream = std::move(stream);
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
    withConnection([&](Impl& impl, Impl::Connection& c) { impl.receive(c, message); });
  };
  callbacks.on_half_close = [withConnection] {
    withConnection([](Impl&, Impl::Connection& c) { c.stream->close(); });
  };
  callbacks.on_close = [weak, id](const http::GrpcStatus&) {
    if (const auto impl = weak.lock()) impl->drop(id);
  };
  return callbacks;
}

void Server::registerAt(http::GrpcServer& server) {
  server.addMethod(std::string(kDeltaMethod),
                   [this](std::unique_ptr<http::GrpcStream> stream, const http::HeaderMap&) {
                     return accept(std::move(stream));
                   });
}

void Server::changed(ResourceSource::ProxyId proxy) {
  for (auto& [id, connection] : impl_->connections) {
    if (connection->known && connection->proxy == proxy) impl_->pushAll(*connection);
  }
}

}  // namespace postern::xds
