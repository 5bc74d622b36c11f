// For tests of listeners: a worker and what it listens on, scripted origins, clients on real
// sockets. All on one loop.
#pragma once

#include "api/message.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "proxy/config_store.h"
#include "proxy/listener_state.h"
#include "proxy/worker.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <unistd.h>

namespace postern::proxy {

using nlohmann::json;

inline std::string readFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline json typed(const char* type, json fields = json::object()) {
  fields["@type"] = std::string("type.googleapis.com/envoy.extensions.filters.") + type;
  return {{"name", type}, {"typed_config", std::move(fields)}};
}

inline json socketAddress(const std::string& ip, int port) {
  return {{"socket_address", {{"address", ip}, {"port_value", port}}}};
}

inline json tcpChain(const std::string& cluster, json match = json::object(),
                     json more = json::object()) {
  more["stat_prefix"] = cluster;
  more["cluster"] = cluster;
  return {{"name", cluster},
          {"filter_chain_match", std::move(match)},
          {"filters", {typed("network.tcp_proxy.v3.TcpProxy", std::move(more))}}};
}

/// A client that speaks on one loop with the worker.
class SocketPeer {
 public:
  SocketPeer(event::Loop& loop, const net::Address& to, const net::Address& from = {})
      : loop_(loop) {
    fd_ = base::Fd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (from.length() != 0) {
      EXPECT_EQ(::bind(fd_.get(), from.sockaddrPtr(), from.length()), 0);
    }
    const bool connected = ::connect(fd_.get(), to.sockaddrPtr(), to.length()) == 0;
    EXPECT_TRUE(connected) << to.toString();
  }
  SocketPeer(event::Loop& loop, base::Fd fd) : loop_(loop), fd_(std::move(fd)) {}
  void send(std::string_view bytes) {
    EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  net::Address local() const { return net::localAddress(fd_.get()); }
  int fd() const { return fd_.get(); }
  /// How the end came that receive() told.
  bool wasReset() const { return was_reset_; }
  void endSending() { ::shutdown(fd_.get(), SHUT_WR); }
  /// What comes until the end or `size` bytes; "(open)" if neither happens for a while.
  std::string receive(std::size_t size = 1 << 20) {
    std::string out;
    for (int i = 0; i < 200; ++i) {
      loop_.runOnce(std::chrono::milliseconds(5));
      char bytes[4096];
      const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (got > 0) out.append(bytes, static_cast<std::size_t>(got));
      was_reset_ = got < 0 && errno == ECONNRESET;
      if (got == 0 || (got < 0 && errno != EAGAIN)) return out + "(end)";
      if (out.size() >= size) return out;
    }
    return out + "(open)";
  }

 private:
  event::Loop& loop_;
  base::Fd fd_;
  bool was_reset_ = false;
};

class AcceptTest : public ::testing::Test {
 protected:
  /// An echo that says its name first and ends when the client does.
  json echo(const std::string& name) { return echo(name, name); }
  json echo(const std::string& greeting, const std::string& name) {
    auto socket = net::listenSocket(net::Address::loopback(0));
    EXPECT_TRUE(socket);
    const int port = net::localAddress(socket->get()).port();
    echoes_.push_back(std::make_unique<net::Acceptor>(
        loop_, std::move(*socket), [this, greeting](base::Fd fd, const net::Address&) {
          (void)::send(fd.get(), greeting.data(), greeting.size(), MSG_NOSIGNAL);
          kept_.push_back(std::move(fd));
        }));
    json endpoint = {{"endpoint", {{"address", socketAddress("127.0.0.1", port)}}}};
    return {{"name", name},
            {"type", "STATIC"},
            {"load_assignment",
             {{"cluster_name", name}, {"endpoints", {{{"lb_endpoints", {endpoint}}}}}}}};
  }
  /// `{x}` is a list for g++ and `x` itself for clang.
  static json list(json value) {
    return value.is_array() ? std::move(value) : json::array({std::move(value)});
  }
  json listener(json chains, json filters = json::array()) {
    return {{"name", "in"},
            {"address", socketAddress("127.0.0.1", 0)},
            {"listener_filters", list(std::move(filters))},
            {"filter_chains", list(std::move(chains))}};
  }
  /// Builds and serves; the error of a configuration that is refused.
  std::string tryStart(json listeners, json clusters, ConfigStore::Options options = {}) {
    envoy::config::bootstrap::v3::Bootstrap message;
    const auto read = api::fromJson(
        {{"static_resources",
          {{"listeners", list(std::move(listeners))}, {"clusters", list(std::move(clusters))}}}},
        message);
    if (!read) return read.error().message();
    WorkerOptions worker;
    worker.drain_time = drain_time_;
    worker.limit = limit_;
    worker.descriptor_max = descriptor_max_;
    worker_ = std::make_unique<Worker>(loop_, stats_.makeStore(), worker);
    store_ = std::make_unique<ConfigStore>(
        loop_, stats_.makeStore(), std::move(options),
        [this](std::shared_ptr<const Snapshot> snapshot) { worker_->update(std::move(snapshot)); },
        nullptr);
    const auto added = store_->addStatic(message);
    if (!added) return added.error().message();
    store_->expect({}, {});
    return "";
  }
  void start(json listeners, json clusters, ConfigStore::Options options = {}) {
    ASSERT_EQ(tryStart(std::move(listeners), std::move(clusters), std::move(options)), "");
  }
  /// What the last connection to an origin received so far, or all of it with "(end)".
  std::string atOrigin(std::size_t size = 1 << 20) {
    for (int i = 0; i < 200 && kept_.empty(); ++i) loop_.runOnce(std::chrono::milliseconds(5));
    if (kept_.empty()) return "(none)";
    SocketPeer server(loop_, base::Fd(::dup(kept_.back().get())));
    return server.receive(size);
  }
  /// A new version of a listener by discovery; the error, or "".
  std::string update(const json& message) {
    envoy::config::listener::v3::Listener listener;
    const auto read = api::fromJson(message, listener);
    if (!read) return read.error().message();
    google::protobuf::Any any;
    api::pack(listener, any);
    const auto taken = store_->update(api::kListenerType,
                                      {{listener.name(), std::to_string(++version_), &any}}, {});
    return taken ? "" : taken.error().message();
  }
  net::Address address() { return worker_->addresses().front(); }

  stats::Stats stats_;
  event::Loop loop_;
  std::vector<std::unique_ptr<net::Acceptor>> echoes_;
  std::vector<base::Fd> kept_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<ConfigStore> store_;
  std::chrono::milliseconds drain_time_{std::chrono::seconds(600)};
  std::shared_ptr<ConnectionLimit> limit_;
  int descriptor_max_ = std::numeric_limits<int>::max();
  int version_ = 0;
};

}  // namespace postern::proxy
