// For tests of the HTTP side: a worker with one listener and one cluster, an origin that answers by
// script, clients that send bytes as written. All on one loop.
#pragma once

#include "api/message.h"
#include "base/strings.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "net/socket.h"
#include "proxy/config_store.h"
#include "proxy/worker.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <deque>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <unistd.h>

namespace postern::proxy {

inline bool pumpUntil(event::Loop& loop, base::Function<bool()> done,
                      std::chrono::milliseconds most = std::chrono::seconds(5)) {
  const auto end = std::chrono::steady_clock::now() + most;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    loop.runOnce(std::chrono::milliseconds(5));
  }
  return true;
}

inline int statusOf(std::string_view answer) {
  return answer.size() < 12 ? 0 : base::parseInteger<int>(answer.substr(9, 3)).value_or(0);
}

/// Reads and writes raw bytes.
class Peer : public net::TransportObserver {
 public:
  explicit Peer(std::unique_ptr<net::Transport> transport) : transport_(std::move(transport)) {
    transport_->setObserver(this);
  }
  void onConnected() override { flush(); }
  void onReadable() override {
    while (!paused_) {
      base::Buffer in;
      const net::IoResult result = transport_->read(in, 1 << 20);
      received_ += in.toString();
      if (result.status != net::IoStatus::kOk) {
        ended_ = ended_ || result.status != net::IoStatus::kAgain;
        break;
      }
    }
    onBytes();
  }
  void onWritable() override { flush(); }
  void onError(base::Error) override { ended_ = true; }
  void send(std::string_view bytes) {
    out_.append(bytes);
    flush();
  }
  void close() { transport_.reset(); }
  void pause() { paused_ = true; }
  void goOn() {
    paused_ = false;
    if (transport_ != nullptr) transport_->resumeRead();
  }
  /// What the other side has not taken.
  std::size_t unsent() const { return out_.size(); }
  bool ended() const { return ended_; }
  const std::string& received() const { return received_; }

 protected:
  virtual void onBytes() {}
  void flush() {
    if (transport_ != nullptr) transport_->write(out_);
  }
  std::unique_ptr<net::Transport> transport_;
  base::Buffer out_;
  std::string received_;
  bool ended_ = false;
  bool paused_ = false;
};

class Client : public Peer {
 public:
  Client(event::Loop& loop, std::uint16_t port)
      : Peer(net::connectTransport(loop, net::Address::loopback(port))), loop_(loop) {}
  bool waitFor(std::string_view text) {
    return pumpUntil(loop_, [this, text] { return received_.find(text) != std::string::npos; });
  }
  bool waitForBytes(std::size_t count) {
    return pumpUntil(loop_, [this, count] { return received_.size() >= count; });
  }
  /// Headers and what content-length says, or the end of the connection.
  bool waitForAnswer(std::size_t more = 0) {
    return pumpUntil(loop_, [this, more] {
      if (ended_) return true;
      const std::size_t head = received_.find("\r\n\r\n");
      if (head == std::string::npos) return false;
      std::size_t length = more;
      const std::size_t at = received_.find("content-length: ");
      if (at < head) length = std::strtoul(received_.c_str() + at + 16, nullptr, 10);
      return received_.size() >= head + 4 + length;
    });
  }

 private:
  event::Loop& loop_;
};

/// Answers the requests it gets, in order, whatever connection they come on.
class Origin {
 public:
  enum class Then : bool { kNothing, kEcho };
  explicit Origin(event::Loop& loop) : loop_(loop) {
    auto socket = net::listenSocket(net::Address::loopback(0));
    EXPECT_TRUE(socket);
    port_ = net::localAddress(socket->get()).port();
    acceptor_ = std::make_unique<net::Acceptor>(
        loop, std::move(*socket), [this](base::Fd fd, const net::Address&) {
          peers_.push_back(
              std::make_unique<Connection>(*this, net::makeSocketTransport(loop_, std::move(fd))));
          if (paused_) peers_.back()->pause();
        });
  }
  std::uint16_t port() const { return port_; }
  /// "": close instead. Without an answer a request hangs.
  void answer(std::string bytes, Then then = Then::kNothing) {
    answers_.emplace_back(std::move(bytes), then);
  }
  /// To a request that hangs; connections are counted from 0 as they came.
  void answerOn(std::size_t connection, std::string_view bytes) {
    peers_.at(connection)->send(bytes);
  }
  std::size_t requestsOn(std::size_t connection) const { return peers_.at(connection)->requests(); }
  void stop() { acceptor_.reset(); }
  /// Connections to come read nothing until goOn().
  void pause() { paused_ = true; }
  void goOn() {
    paused_ = false;
    for (auto& each : peers_) each->goOn();
  }
  std::size_t unsent() const { return peers_.empty() ? 0 : peers_.front()->unsent(); }
  void closeAll() {
    for (auto& each : peers_) each->close();
  }
  std::size_t requests() const { return requests_.size(); }
  std::string request(std::size_t index) const {
    return index < requests_.size() ? requests_[index] : "(none)";
  }
  std::size_t connections() const { return peers_.size(); }
  std::size_t closed() const {
    return static_cast<std::size_t>(std::count_if(peers_.begin(), peers_.end(),
                                                  [](const auto& each) { return each->ended(); }));
  }

 private:
  class Connection final : public Peer {
   public:
    Connection(Origin& origin, std::unique_ptr<net::Transport> transport)
        : Peer(std::move(transport)), origin_(origin) {}
    void onBytes() override {
      for (;;) {
        if (echo_) {
          send(received_);
          received_.clear();
          return;
        }
        const std::size_t head = received_.find("\r\n\r\n");
        if (head == std::string::npos) return;
        std::size_t length = 0;
        const std::size_t at = received_.find("content-length: ");
        if (at < head) length = std::strtoul(received_.c_str() + at + 16, nullptr, 10);
        if (received_.size() < head + 4 + length) return;
        ++requests_;
        origin_.requests_.push_back(received_.substr(0, head + 4 + length));
        received_.erase(0, head + 4 + length);
        if (origin_.answers_.empty()) return;
        auto [bytes, then] = origin_.answers_.front();
        origin_.answers_.pop_front();
        if (bytes.empty()) {
          ended_ = true;
          return close();
        }
        echo_ = then == Then::kEcho;
        send(bytes);
      }
    }

    std::size_t requests() const { return requests_; }

   private:
    Origin& origin_;
    std::size_t requests_ = 0;
    bool echo_ = false;
  };
  event::Loop& loop_;
  std::uint16_t port_ = 0;
  std::unique_ptr<net::Acceptor> acceptor_;
  std::deque<std::pair<std::string, Then>> answers_;
  std::vector<std::string> requests_;
  std::vector<std::unique_ptr<Connection>> peers_;
  bool paused_ = false;
};

class HttpFixture : public ::testing::Test {
 protected:
  using json = nlohmann::json;

  HttpFixture() : origin_(loop_) {
    char path[] = "/tmp/postern_http_XXXXXX";
    const int fd = ::mkstemp(path);
    if (fd >= 0) ::close(fd);
    log_path_ = path;
    json router = {
        {"name", "router"},
        {"typed_config",
         {{"@type", "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}}};
    manager_ = {
        {"@type",
         "type.googleapis.com/"
         "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"},
        {"stat_prefix", "in"},
        {"http_filters", json::array({router})}};
    vhost_ = {{"name", "h"}, {"domains", {"*"}}};
    cluster_ = {{"name", "app"}, {"type", "STATIC"}, {"connect_timeout", "1s"}};
    format_ = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n";
  }
  ~HttpFixture() override { ::unlink(log_path_.c_str()); }

  static json address(std::uint16_t port) {
    return {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", port}}}};
  }

  /// Puts an HTTP filter before the others.
  void addFilter(const json& filter) {
    json& filters = manager_["http_filters"];
    filters.insert(filters.begin(), filter);
  }

  /// `origin`: its port; 0: that of origin_.
  void start(json routes, std::uint16_t origin = 0) {
    if (routes.is_object()) routes = json::array({routes});
    vhost_["routes"] = std::move(routes);
    manager_["route_config"]["virtual_hosts"] = json::array({vhost_});
    manager_["access_log"] = json::array(
        {{{"name", "file"},
          {"typed_config",
           {{"@type", "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"},
            {"path", log_path_},
            {"log_format", {{"text_format_source", {{"inline_string", format_}}}}}}}}});
    json filter = {{"name", "f"}, {"typed_config", manager_}};
    json chain = {{"filters", json::array({filter})}};
    json listener = {
        {"name", "in"}, {"address", address(0)}, {"filter_chains", json::array({chain})}};
    listener.update(listener_);
    json endpoint = {{"endpoint", {{"address", address(origin != 0 ? origin : origin_.port())}}}};
    json locality = {{"lb_endpoints", json::array({endpoint})}};
    cluster_["load_assignment"] = {{"cluster_name", "app"}, {"endpoints", json::array({locality})}};
    json config = {
        {"static_resources",
         {{"listeners", json::array({listener})}, {"clusters", json::array({cluster_})}}}};
    envoy::config::bootstrap::v3::Bootstrap message;
    const auto read = api::fromJson(config, message);
    ASSERT_TRUE(read) << read.error().message();
    worker_ = std::make_unique<Worker>(loop_, stats_.makeStore());
    store_ = std::make_unique<ConfigStore>(
        loop_, stats_.makeStore(), ConfigStore::Options{},
        [this](std::shared_ptr<const Snapshot> snapshot) { worker_->update(std::move(snapshot)); },
        nullptr);
    const auto added = store_->addStatic(message);
    ASSERT_TRUE(added) << added.error().message();
    store_->expect({}, {});
  }
  std::uint16_t port() const { return worker_->addresses().front().port(); }
  bool waitUntil(base::Function<bool()> done) { return pumpUntil(loop_, std::move(done)); }

  /// One request on a connection of its own. `more`: bytes to wait for where no length is given.
  std::string exchange(std::string_view request, std::size_t more = 0) {
    Client client(loop_, port());
    client.send(request);
    EXPECT_TRUE(client.waitForAnswer(more)) << client.received();
    return client.received();
  }
  /// With what changes from run to run replaced.
  static std::string withoutDate(std::string answer) {
    const auto replace = [&](std::string_view name, std::string_view value) {
      const std::size_t at = answer.find(name);
      if (at == std::string::npos) return;
      const std::size_t begin = at + name.size();
      answer.replace(begin, answer.find("\r\n", begin) - begin, value);
    };
    replace("\r\ndate: ", "D");
    replace("\r\nx-envoy-upstream-service-time: ", "N");
    return answer;
  }
  /// The access log, once it is written.
  std::string log() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(120);
    while (std::chrono::steady_clock::now() < end) loop_.runOnce(std::chrono::milliseconds(5));
    std::stringstream all;
    all << std::ifstream(log_path_).rdbuf();
    return all.str();
  }

  stats::Stats stats_;
  event::Loop loop_;
  Origin origin_;
  json manager_;
  json vhost_;
  json cluster_;
  json listener_ = json::object();  // fields beside what start() writes
  std::string format_;
  std::string log_path_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<ConfigStore> store_;
};

}  // namespace postern::proxy
