#include "http/server.h"
#include "kube/client.h"
#include "kube/controller.h"
#include "kube/informer.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <fstream>
#include <future>
#include <thread>

namespace postern::kube {
namespace {

using json::Json;
using std::chrono::milliseconds;

/// A scripted API server on its own thread: lists what it is told and streams watch events.
class ScriptedApi {
 public:
  ScriptedApi() {
    base::Fd listener = std::move(*net::listenSocket(net::Address::loopback(0)));
    url_ = "http://" + net::localAddress(listener.get()).toString();
    thread_ = std::thread([this, fd = std::move(listener)]() mutable {
      auto server = http::Server::make(
          loop_, {}, [this](http::Request request, std::unique_ptr<http::Responder> r) {
            handle(request, std::move(r));
          });
      server->listen(std::move(fd));
      loop_.run();
      watches_.clear();
      server.reset();
    });
  }
  ~ScriptedApi() {
    loop_.stop();
    thread_.join();
  }
  ClientConfig config() const {
    ClientConfig out;
    out.server = url_;
    out.token = "secret";
    return out;
  }
  void set(const std::string& name, const std::string& value) {
    std::promise<void> done;
    loop_.post([&] {
      objects_[name] = object(name, value);
      send("MODIFIED", objects_[name]);
      done.set_value();
    });
    done.get_future().wait();
  }
  void remove(const std::string& name) {
    loop_.post([this, name] {
      Json gone = objects_[name];
      objects_.erase(name);
      send("DELETED", gone);
    });
  }
  /// Ends all watches with 410, as after a compaction.
  void expire() {
    loop_.post([this] {
      for (auto& watch : watches_)
        watch->write(R"({"type":"ERROR","object":{"kind":"Status","code":410}})"
                     "\n");
      for (auto& watch : watches_) watch->end();
      watches_.clear();
    });
  }
  std::atomic<int> lists{0};
  std::atomic<int> watched{0};

 private:
  Json object(const std::string& name, const std::string& value) {
    return {{"kind", "ConfigMap"},
            {"apiVersion", "v1"},
            {"metadata",
             {{"name", name}, {"namespace", "a"}, {"resourceVersion", std::to_string(++version_)}}},
            {"data", {{"v", value}}}};
  }
  void send(const char* type, const Json& object) {
    for (auto& watch : watches_)
      watch->write(json::dump({{"type", type}, {"object", object}}) + "\n");
  }
  void handle(http::Request& request, std::unique_ptr<http::Responder> responder) {
    if (request.headers.value("authorization") != "Bearer secret")
      return responder->respond(401, {}, "no");
    if (request.path == "/api/v1/namespaces/a/configmaps/absent") {
      return responder->respond(
          404, {},
          R"({"kind":"Status","reason":"NotFound","message":"configmaps \"absent\" not found"})");
    }
    if (request.parameter("watch") == "true") {
      responder->start(200, {{"content-type", "application/json"}});
      watches_.push_back(std::move(responder));
      ++watched;
      return;
    }
    ++lists;
    Json items = Json::array();
    for (const auto& [name, each] : objects_) items.push_back(each);
    responder->respond(200, {},
                       json::dump({{"metadata", {{"resourceVersion", std::to_string(version_)}}},
                                   {"items", items}}));
  }

  std::string url_;
  event::Loop loop_;
  std::thread thread_;
  std::map<std::string, Json> objects_;
  std::vector<std::unique_ptr<http::Responder>> watches_;
  int version_ = 1;
};

template <class F>
bool eventually(F done) {
  for (int i = 0; i < 1000 && !done(); ++i) std::this_thread::sleep_for(milliseconds(5));
  return done();
}

TEST(Client, GivesTheStatusOfAFailure) {
  ScriptedApi api;
  auto client = Client::make(api.config());
  ASSERT_TRUE(client) << client.error().message();
  auto absent = (*client)->get(types::kConfigMap, "a", "absent");
  ASSERT_FALSE(absent);
  EXPECT_TRUE(absent.error().notFound());
  EXPECT_EQ(absent.error().message, "configmaps \"absent\" not found");
}

TEST(Client, RefusesCleartextBeyondLoopback) {
  ClientConfig config;
  config.server = "http://10.1.2.3:80";
  EXPECT_FALSE(Client::make(config));
}

TEST(Informer, FollowsChangesAndListsAgainAfterExpiry) {
  ScriptedApi api;
  api.set("one", "1");
  auto client = Client::make(api.config());
  auto informer = Informer::start(**client, types::kConfigMap, "a");
  ASSERT_TRUE(informer->waitSynced(milliseconds(5000)));
  ASSERT_TRUE(informer->get("a", "one"));
  std::atomic<int> events{0};
  informer->addHandler([&](const InformerEvent&) { ++events; });
  ASSERT_TRUE(eventually([&] { return events == 1 && api.watched == 1; }));
  api.set("two", "2");
  ASSERT_TRUE(eventually([&] { return informer->get("a", "two") != nullptr; }));
  api.expire();
  ASSERT_TRUE(eventually([&] { return api.lists >= 2 && api.watched >= 2; }));
  api.remove("one");
  ASSERT_TRUE(eventually([&] { return informer->get("a", "one") == nullptr; }));
  EXPECT_EQ(informer->list().size(), 1u);
  informer.reset();
}

TEST(Controller, RetriesWithBackOffAndNeverRunsAKeyTwiceAtOnce) {
  std::atomic<int> runs{0};
  std::atomic<int> inside{0};
  std::atomic<bool> overlapped{false};
  auto controller = Controller::start(
      "test",
      [&](const std::string&) {
        if (++inside > 1) overlapped = true;
        std::this_thread::sleep_for(milliseconds(2));
        --inside;
        return ++runs < 5 ? Outcome::retry() : Outcome::done();
      },
      4);
  controller->enqueue("a/b");
  controller->enqueue("a/b");
  EXPECT_TRUE(eventually([&] { return runs >= 5; }));
  controller.reset();
  EXPECT_FALSE(overlapped);
}

TEST(ClientConfig, ReadsAKubeconfig) {
  std::string path = ::testing::TempDir() + "/postern-kubeconfig";
  std::ofstream(path) << R"(
apiVersion: v1
current-context: b
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: Y2E=}}]
users: [{name: u, user: {token: t}}]
contexts:
- {name: a, context: {cluster: absent}}
- {name: b, context: {cluster: c, user: u, namespace: n}}
)";
  auto config = ClientConfig::fromKubeconfig(path);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->ca_pem, "ca");
  EXPECT_EQ(config->token, "t");
  EXPECT_EQ(config->default_namespace, "n");
  EXPECT_FALSE(ClientConfig::fromKubeconfig(path, "a"));
  EXPECT_FALSE(ClientConfig::fromKubeconfig(path, "z"));
}

}  // namespace
}  // namespace postern::kube
