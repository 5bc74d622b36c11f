#include "apiserver/server.h"

#include "base/strings.h"
#include "http/client.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>

#include <unistd.h>

namespace postern::apiserver {
namespace {

using json::Json;

/// A server on a free port of loopback and an admin's client to it, on one loop.
struct Fixture {
  std::string folder = ::testing::TempDir() + "postern-apiserver-" + std::to_string(::getpid());
  event::Loop loop;
  std::unique_ptr<Server> server;
  std::unique_ptr<http::Client> client;

  Fixture() { open(); }
  ~Fixture() {
    client.reset();
    server.reset();
    std::filesystem::remove_all(folder);
  }
  void open() {
    Options options;
    options.data_dir = folder;
    base::Fd listener = std::move(*net::listenSocket(net::Address::loopback(0)));
    net::Address address = net::localAddress(listener.get());
    options.server_url = "https://" + address.toString();
    options.listeners.push_back(std::move(listener));
    auto started = Server::start(loop, std::move(options));
    ASSERT_TRUE(started) << started.error().message();
    server = std::move(*started);
    Json user = (*json::parseYaml(server->adminKubeconfig()))["users"][0]["user"];
    tls::ClientOptions tls;
    tls.ca_pem = server->caPem();
    tls.certificate_chain_pem =
        *base::base64Decode(user["client-certificate-data"].get<std::string>());
    tls.private_key_pem = *base::base64Decode(user["client-key-data"].get<std::string>());
    connect(address, tls);
  }
  void connect(const net::Address& address, const tls::ClientOptions& tls) {
    http::Client::Options options;
    options.address = address;
    options.host = "127.0.0.1";
    options.tls = *tls::ClientContext::make(tls);
    client = http::Client::make(loop, std::move(options));
  }
  /// (status, body)
  std::pair<int, Json> ask(const std::string& method, const std::string& path,
                           const std::string& body = "") {
    http::ClientRequest request;
    request.method = method;
    request.path = path;
    request.body = body;
    if (!body.empty()) request.headers.add("content-type", "application/json");
    std::optional<base::Result<http::ClientResponse>> answer;
    auto call = client->fetch(std::move(request),
                              [&](base::Result<http::ClientResponse> r) { answer = std::move(r); });
    for (int i = 0; i < 2000 && !answer; ++i) loop.runOnce(std::chrono::milliseconds(5));
    if (!answer || !*answer) return {0, Json()};
    auto parsed = json::parse((*answer)->body);
    return {(*answer)->status, parsed ? *parsed : Json((*answer)->body)};
  }
};

constexpr const char* kMap =
    R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"a":"1"}})";
constexpr const char* kMaps = "/api/v1/namespaces/default/configmaps";

TEST(Server, KeepsWhatItAcknowledgedOverARestart) {
  Fixture f;
  EXPECT_EQ(f.ask("POST", kMaps, kMap).first, 201);
  auto [again, conflict] = f.ask("POST", kMaps, kMap);
  EXPECT_EQ(again, 409);
  EXPECT_EQ(conflict["reason"], "AlreadyExists");
  f.client.reset();
  f.server.reset();
  f.open();
  auto [status, object] = f.ask("GET", std::string(kMaps) + "/m");
  EXPECT_EQ(status, 200);
  EXPECT_EQ(object["data"]["a"], "1");
}

TEST(Server, WantsACredential) {
  Fixture f;
  tls::ClientOptions tls;
  tls.ca_pem = f.server->caPem();
  f.connect(*net::Address::parse(json::parseYaml(f.server->adminKubeconfig())
                                     ->at("clusters")[0]["cluster"]["server"]
                                     .get<std::string>()
                                     .substr(8)),
            tls);
  auto [status, body] = f.ask("GET", kMaps);
  EXPECT_TRUE(status == 401 || status == 403) << status;
}

constexpr const char* kPods = "/api/v1/namespaces/default/pods";

/// A pod that runs, as a node would have reported it.
void runPod(Fixture& f, const std::string& name, bool ready = true) {
  const Json pod = {{"metadata", {{"name", name}, {"labels", {{"app", "a"}}}}},
                    {"spec", {{"containers", Json::array({{{"name", "c"}, {"image", "i"}}})}}}};
  ASSERT_EQ(f.ask("POST", kPods, pod.dump()).first, 201);
  const std::string path = std::string(kPods) + "/" + name;
  const Json binding = {{"apiVersion", "v1"},
                        {"kind", "Binding"},
                        {"metadata", {{"name", name}}},
                        {"target", {{"kind", "Node"}, {"name", "here"}}}};
  auto [bound, status] = f.ask("POST", path + "/binding", binding.dump());
  ASSERT_EQ(bound, 201) << status;
  Json object = f.ask("GET", path).second;
  EXPECT_EQ(object["spec"]["nodeName"], "here");
  EXPECT_EQ(object["status"]["conditions"][0]["type"], "PodScheduled");
  object["status"]["phase"] = "Running";
  object["status"]["conditions"].push_back(
      {{"type", "Ready"}, {"status", ready ? "True" : "False"}});
  ASSERT_EQ(f.ask("PUT", path + "/status", object.dump()).first, 200);
  // A second binding is refused.
  auto [again, conflict] = f.ask("POST", path + "/binding", binding.dump());
  EXPECT_EQ(again, 409);
  EXPECT_EQ(conflict["message"], "Operation cannot be fulfilled on pods/binding \"" + name +
                                     "\": pod " + name + " is already assigned to node \"here\"");
}

/// A budget as its controller would have filled it in.
void makeBudget(Fixture& f, long long allowed, long long healthy, long long desired) {
  const std::string budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
  const Json pdb = {
      {"metadata", {{"name", "b"}}},
      {"spec", {{"minAvailable", 1}, {"selector", {{"matchLabels", {{"app", "a"}}}}}}}};
  ASSERT_EQ(f.ask("POST", budgets, pdb.dump()).first, 201);
  Json object = f.ask("GET", budgets + "/b").second;
  object["status"] = {{"disruptionsAllowed", allowed},
                      {"currentHealthy", healthy},
                      {"desiredHealthy", desired},
                      {"expectedPods", 2},
                      {"observedGeneration", object["metadata"]["generation"]}};
  ASSERT_EQ(f.ask("PUT", budgets + "/b/status", object.dump()).first, 200);
}

std::string evictionOf(const std::string& name) {
  return Json{{"apiVersion", "policy/v1"}, {"kind", "Eviction"}, {"metadata", {{"name", name}}}}
      .dump();
}

TEST(Eviction, WithoutABudgetIsADelete) {
  Fixture f;
  runPod(f, "p");
  const std::string path = std::string(kPods) + "/p";
  auto [code, status] = f.ask("POST", path + "/eviction", evictionOf("p"));
  EXPECT_EQ(code, 201);
  EXPECT_EQ(status["status"], "Success");
  const Json pod = f.ask("GET", path).second;
  EXPECT_FALSE(json::stringAt(pod, "metadata.deletionTimestamp").empty());
  EXPECT_EQ(pod["status"]["conditions"].back()["type"], "DisruptionTarget");
  EXPECT_EQ(f.ask("POST", path + "/eviction", evictionOf("other")).first, 400);
  EXPECT_EQ(f.ask("POST", std::string(kPods) + "/q/eviction", evictionOf("q")).first, 404);
  EXPECT_EQ(f.ask("GET", path + "/eviction").first, 405);
}

TEST(Eviction, TakesFromTheBudgetUntilItIsEmpty) {
  Fixture f;
  runPod(f, "p");
  runPod(f, "q");
  makeBudget(f, 1, 2, 1);
  EXPECT_EQ(f.ask("POST", std::string(kPods) + "/p/eviction", evictionOf("p")).first, 201);
  const Json budget =
      f.ask("GET", "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b").second;
  EXPECT_EQ(budget["status"]["disruptionsAllowed"], 0);
  EXPECT_TRUE(budget["status"]["disruptedPods"].contains("p"));
  auto [code, status] = f.ask("POST", std::string(kPods) + "/q/eviction", evictionOf("q"));
  EXPECT_EQ(code, 429);
  EXPECT_EQ(status["reason"], "TooManyRequests");
  EXPECT_EQ(status["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
  EXPECT_EQ(status["details"]["causes"][0]["reason"], "DisruptionBudget");
  EXPECT_TRUE(
      json::stringAt(f.ask("GET", std::string(kPods) + "/q").second, "metadata.deletionTimestamp")
          .empty());
}

TEST(Eviction, UnreadyPodGoesWhenEnoughAreHealthy) {
  Fixture f;
  runPod(f, "p", false);
  makeBudget(f, 0, 1, 1);
  EXPECT_EQ(f.ask("POST", std::string(kPods) + "/p/eviction", evictionOf("p")).first, 201);
}

TEST(Eviction, DryRunAndFailedPreconditionsChangeNothing) {
  Fixture f;
  runPod(f, "p");
  makeBudget(f, 1, 2, 1);
  const std::string path = std::string(kPods) + "/p";
  EXPECT_EQ(f.ask("POST", path + "/eviction?dryRun=All", evictionOf("p")).first, 201);
  Json eviction = *json::parse(evictionOf("p"));
  eviction["deleteOptions"]["preconditions"]["uid"] = "another";
  EXPECT_EQ(f.ask("POST", path + "/eviction", eviction.dump()).first, 409);
  EXPECT_TRUE(json::stringAt(f.ask("GET", path).second, "metadata.deletionTimestamp").empty());
  EXPECT_EQ(f.ask("GET", "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b")
                .second["status"]["disruptionsAllowed"],
            1);
}

TEST(PodStreams, NoNodeAgentIsToldAsABackendThatCannotBeDialled) {
  Fixture f;
  runPod(f, "p");
  auto [code, status] = f.ask("GET", std::string(kPods) + "/p/log");
  EXPECT_EQ(code, 500);
  EXPECT_TRUE(json::stringAt(status, "message").starts_with("error dialing backend: ")) << status;
  EXPECT_EQ(f.ask("GET", std::string(kPods) + "/q/log").first, 404);
}

}  // namespace
}  // namespace postern::apiserver
