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
  std::string folder = testing::TempDir() + "postern-apiserver-" + std::to_string(::getpid());
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

}  // namespace
}  // namespace postern::apiserver
