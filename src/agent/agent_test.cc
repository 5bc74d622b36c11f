#include "agent/bootstrap.h"
#include "agent/environment.h"
#include "agent/proxy_process.h"
#include "agent/status_server.h"
#include "api/message.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "http/client.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

#include <unistd.h>

namespace postern::agent {
namespace {

class AgentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/postern-agent-XXXXXX";
    folder_ = ::mkdtemp(name);
    paths_.config_dir = folder_;
    paths_.pod_info_dir = folder_;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ + "/" + name) << text;
  }
  base::ConfigResult<AgentOptions> read(std::vector<std::string_view> arguments,
                                        std::vector<std::string> more = {}) const {
    std::vector<std::string> variables = {"POD_NAME=echo-1", "POD_NAMESPACE=default",
                                          "INSTANCE_IP=10.244.0.7"};
    variables.insert(variables.end(), more.begin(), more.end());
    return readEnvironment(arguments, variables, paths_);
  }
  std::string folder_;
  Paths paths_;
};

TEST_F(AgentTest, MakesTheNodeOfEnvironmentAndFiles) {
  write("labels", "app=\"echo\"\nquoted=\"a \\\"b\\\"\"\n");
  auto options = read({"sidecar", "--domain", "default.svc.cluster.local"},
                      {"ISTIO_META_CLUSTER_ID=Kubernetes", "SERVICE_ACCOUNT=echo",
                       "ISTIO_METAJSON_LABELS={\"more\":\"1\"}"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->nodeId(), "sidecar~10.244.0.7~echo-1.default~default.svc.cluster.local");
  auto meta = json::parse(options->metadata_json);
  ASSERT_TRUE(meta);
  EXPECT_EQ(json::stringAt(*meta, "LABELS.app"), "echo");
  EXPECT_EQ(json::stringAt(*meta, "LABELS.quoted"), "a \"b\"");
  EXPECT_EQ(json::stringAt(*meta, "LABELS.more"), "1");
  EXPECT_EQ(json::stringAt(*meta, "CLUSTER_ID"), "Kubernetes");
  EXPECT_EQ(json::stringAt(*meta, "SERVICE_ACCOUNT"), "echo");
  EXPECT_EQ(json::stringAt(*meta, "INSTANCE_IPS"), "10.244.0.7");
}

TEST_F(AgentTest, TakesIstiosWayOfSaying) {
  auto options = read({"proxy", "router", "--proxyLogLevel=debug", "--concurrency", "4"});
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->type, "router");
  EXPECT_EQ(options->proxy_log_level, "debug");
  EXPECT_EQ(options->concurrency, 4);
}

TEST_F(AgentTest, NamesWhatIsWrong) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"POD_NAME="}, "POD_NAME: must be set in the environment"},
      {{"DISCOVERY_ADDRESS=istiod"}, "DISCOVERY_ADDRESS: \"istiod\" is not host:port"},
      {{"ISTIO_METAJSON_X={"}, "ISTIO_METAJSON_X: "},
      {{"TERMINATION_DRAIN_DURATION_SECONDS=soon"},
       "TERMINATION_DRAIN_DURATION_SECONDS: \"soon\" is not a duration"}};
  for (const auto& [variables, text] : cases) {
    auto options = read({"sidecar"}, variables);
    ASSERT_FALSE(options) << text;
    EXPECT_TRUE(options.error().message().starts_with(text)) << options.error().message();
  }
  EXPECT_FALSE(read({"sidecar", "--nonsense", "1"}));
  EXPECT_FALSE(read({"waypoint"}));
}

TEST_F(AgentTest, BootstrapIsAnEnvoyBootstrap) {
  auto options = read({"gateway"});
  ASSERT_TRUE(options);
  envoy::config::bootstrap::v3::Bootstrap message;
  auto parsed = api::fromJson(makeBootstrap(*options), message);
  ASSERT_TRUE(parsed) << parsed.error().message();
  EXPECT_EQ(message.static_resources().clusters_size(), 2);
  EXPECT_EQ(message.node().id(), options->nodeId());
}

TEST_F(AgentTest, ProxyIsStartedAgainAfterACrash) {
  event::Loop loop;
  const std::string count = folder_ + "/count";
  auto process = ProxyProcess::start(loop, {"/bin/sh", "-c",
                                            "echo x >> " + count + "; [ $(wc -l < " + count +
                                                ") -ge 2 ] && exec sleep 60; exit 3"});
  ASSERT_TRUE(process);
  for (int i = 0; i < 500 && (*process)->restarts() == 0; ++i)
    loop.runOnce(std::chrono::milliseconds(10));
  EXPECT_EQ((*process)->restarts(), 1U);
  EXPECT_TRUE((*process)->running());
  bool ended = false;
  (*process)->stop(std::chrono::seconds(1), [&] { ended = true; });
  for (int i = 0; i < 500 && !ended; ++i) loop.runOnce(std::chrono::milliseconds(10));
  EXPECT_TRUE(ended);
  EXPECT_FALSE((*process)->running());
}

TEST_F(AgentTest, KillsAProxyThatDoesNotEnd) {
  event::Loop loop;
  const std::string ready = folder_ + "/ready";
  auto process = ProxyProcess::start(
      loop, {"/bin/sh", "-c", "trap '' TERM; : > " + ready + "; while :; do sleep 0.05; done"});
  ASSERT_TRUE(process);
  for (int i = 0; i < 500 && ::access(ready.c_str(), F_OK) != 0; ++i)
    loop.runOnce(std::chrono::milliseconds(10));
  bool ended = false;
  (*process)->stop(std::chrono::milliseconds(50), [&] { ended = true; });
  for (int i = 0; i < 500 && !ended; ++i) loop.runOnce(std::chrono::milliseconds(10));
  EXPECT_TRUE(ended);
}

/// A status server beside a web server that stands for proxy admin and application at once.
class StatusTest : public AgentTest {
 protected:
  void serve(const std::string& probers) {
    auto socket = net::listenSocket(net::Address::loopback(0));
    ASSERT_TRUE(socket);
    const std::uint16_t port = net::localAddress(socket->get()).port();
    backend_ = http::Server::make(
        loop_, {}, [this](http::Request request, std::unique_ptr<http::Responder> responder) {
          if (request.path == "/ready") return responder->respond(ready_, {}, "LIVE\n");
          if (request.path == "/stats/prometheus") return responder->respond(200, {}, "up 1\n");
          responder->respond(request.path == "/alive" ? 204 : 500, {}, "");
        });
    backend_->listen(std::move(*socket));
    auto options = read({"sidecar"});
    ASSERT_TRUE(options);
    options_ = *options;
    options_.admin_port = port;
    options_.agent_port = 0;
    options_.ready_port = 0;
    std::string text = probers;
    for (std::size_t at; (at = text.find("PORT")) != std::string::npos;)
      text.replace(at, 4, std::to_string(port));
    options_.probers_json = text;
    auto process = ProxyProcess::start(loop_, {"/bin/sleep", "60"});
    ASSERT_TRUE(process);
    process_ = std::move(*process);
    auto status = StatusServer::start(loop_, options_, *process_, [this] { quit_ = true; });
    ASSERT_TRUE(status) << status.error().message();
    status_ = std::move(*status);
  }
  int ask(const std::string& path, const std::string& method = "GET") {
    http::Client::Options options;
    options.address = net::Address::loopback(status_->addresses().front().port());
    options.host = "pod";
    auto client = http::Client::make(loop_, std::move(options));
    http::ClientRequest request;
    request.method = method;
    request.path = path;
    int status = -1;
    auto call = client->fetch(std::move(request), [&](base::Result<http::ClientResponse> response) {
      status = response ? response->status : 0;
      body_ = response ? response->body : "";
    });
    for (int i = 0; i < 500 && status < 0; ++i) loop_.runOnce(std::chrono::milliseconds(10));
    return status;
  }
  event::Loop loop_;
  AgentOptions options_;
  std::unique_ptr<http::Server> backend_;
  std::unique_ptr<ProxyProcess> process_;
  std::unique_ptr<StatusServer> status_;
  std::string body_;
  int ready_ = 200;
  bool quit_ = false;
};

TEST_F(StatusTest, IsReadyWhenTheProxyIs) {
  serve("");
  EXPECT_EQ(ask("/healthz/ready"), 200);
  ready_ = 503;
  EXPECT_EQ(ask("/healthz/ready"), 503);
  ready_ = 200;
  status_->drain();
  EXPECT_EQ(ask("/healthz/ready"), 503);
}

TEST_F(StatusTest, PassesProbesOnToTheApplication) {
  serve(R"({"/app-health/a/livez":{"httpGet":{"path":"/alive","port":PORT}},
            "/app-health/a/readyz":{"httpGet":{"path":"/dead","port":PORT}},
            "/app-health/b/livez":{"tcpSocket":{"port":PORT}},
            "/app-health/b/readyz":{"tcpSocket":{"port":1}}})");
  EXPECT_EQ(ask("/app-health/a/livez"), 204);
  EXPECT_EQ(ask("/app-health/a/readyz"), 500);
  EXPECT_EQ(ask("/app-health/b/livez"), 200);
  EXPECT_EQ(ask("/app-health/b/readyz"), 500);
  EXPECT_EQ(ask("/app-health/c/livez"), 404);
}

TEST_F(StatusTest, MergesMetricsAndEndsOnDemand) {
  serve("");
  EXPECT_EQ(ask("/stats/prometheus"), 200);
  EXPECT_NE(body_.find("up 1\n"), std::string::npos);
  EXPECT_NE(body_.find("postern_agent_proxy_restarts_total 0"), std::string::npos);
  EXPECT_EQ(ask("/quitquitquit"), 405);
  EXPECT_FALSE(quit_);
  EXPECT_EQ(ask("/quitquitquit", "POST"), 200);
  EXPECT_TRUE(quit_);
}

TEST_F(StatusTest, RefusesMalformedProbers) {
  serve("");
  for (const char* text : {"[", "{\"/x\":{}}", "{\"/x\":{\"httpGet\":{\"port\":70000}}}"}) {
    options_.probers_json = text;
    EXPECT_FALSE(StatusServer::start(loop_, options_, *process_, nullptr)) << text;
  }
}

}  // namespace
}  // namespace postern::agent
