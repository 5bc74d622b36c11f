// The whole proxy with several workers while everything happens at once: connections come and go
// over HTTP/1, HTTP/2 and TLS, listeners, routes, clusters, endpoints and secrets are exchanged,
// the admin port is asked, the sockets go to a next process, and both end under load. Nothing fails
// meanwhile; ThreadSanitizer (preset tsan) says the rest.
#include "api/message.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "http/client.h"
#include "proxy/server.h"
#include "proxy/server_fixture_test.h"
#include "tls/x509.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include <unistd.h>

namespace postern::proxy {
namespace {

using Bootstrap = envoy::config::bootstrap::v3::Bootstrap;

constexpr int kUpdates = 60;
constexpr std::chrono::milliseconds kWait{5};
const std::string kTypes = "type.googleapis.com/envoy.extensions.";

/// An origin on a thread of its own, HTTP/1 and HTTP/2.
class OriginThread {
 public:
  OriginThread() {
    auto socket = net::listenSocket(net::Address::loopback(0));
    POSTERN_CHECK(socket.has_value());
    port_ = net::localAddress(socket->get()).port();
    thread_ = std::thread([this, fd = std::move(*socket)]() mutable {
      auto server = http::Server::make(
          loop_, {}, [](http::Request request, std::unique_ptr<http::Responder> responder) {
            responder->respond(200, {}, request.body + std::string(2000, 'o'));
          });
      server->listen(std::move(fd));
      loop_.run();
    });
  }
  ~OriginThread() {
    loop_.post([this] { loop_.stop(); });
    thread_.join();
  }
  std::uint16_t port() const { return port_; }

 private:
  event::Loop loop_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

/// A proxy whose main thread is a thread of its own.
class ServerThread {
 public:
  ServerThread(std::shared_ptr<const Bootstrap> bootstrap, Options options)
      : thread_([this, bootstrap = std::move(bootstrap), options = std::move(options)] {
          run(bootstrap, options);
        }) {}
  ~ServerThread() {
    loop_.post([this] { loop_.stop(); });
    thread_.join();
  }
  bool live() const { return live_; }
  bool ended() const { return ended_; }
  /// After live().
  net::Address address(const std::string& listener) const { return addresses_.at(listener); }
  void post(base::Function<void(Server&)> work) {
    loop_.post([this, work = std::move(work)] { work(*server_); });
  }

 private:
  void run(const std::shared_ptr<const Bootstrap>& bootstrap, const Options& options) {
    auto made = Server::make(loop_, {bootstrap, {}}, options);
    EXPECT_TRUE(made) << made.error().message();
    if (made) {
      server_ = std::move(*made);
      event::Timer watch(loop_, [&] { look(watch); });
      watch.arm({});
      loop_.run();
      server_.reset();
    }
    ended_ = true;
  }
  void look(event::Timer& again) {
    if (server_->state() != ServerState::kLive) return again.arm(kWait);
    for (const auto& [name, entry] : server_->store().snapshot().listeners)
      addresses_[name] = entry.config->address;
    addresses_["admin"] = *server_->adminAddress();
    live_ = true;
  }

  event::Loop loop_;
  std::unique_ptr<Server> server_;
  std::map<std::string, net::Address> addresses_;
  std::atomic<bool> live_ = false;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

/// Clients of one kind on a thread of their own: each asks again as soon as it is answered.
class LoadThread {
 public:
  enum class Churn : bool { kNo, kYes };
  LoadThread(std::string name, http::Client::Options options, Churn churn)
      : name_(std::move(name)),
        options_(std::move(options)),
        churn_(churn),
        thread_([this] { run(); }) {}
  ~LoadThread() {
    stop_ = true;
    thread_.join();
  }
  int answers() const { return answers_; }
  /// From now on failures are expected: the proxy ends.
  void forgive() { forgiving_ = true; }
  std::string failures() {
    const std::lock_guard lock(mutex_);
    return failures_;
  }

 private:
  static constexpr std::size_t kAtOnce = 4;
  struct Slot {
    std::unique_ptr<http::Client> client;
    std::unique_ptr<http::Client::Call> call;
    bool done = true;
    int asked = 0;
  };
  void run() {
    event::Loop loop;
    std::array<Slot, kAtOnce> slots;
    while (!stop_) {
      for (Slot& slot : slots) {
        if (slot.done) ask(loop, slot);
      }
      loop.runOnce(std::chrono::milliseconds(10));
    }
    for (Slot& slot : slots) slot.call.reset();
  }
  void ask(event::Loop& loop, Slot& slot) {
    slot.call.reset();
    if (slot.client == nullptr || (churn_ == Churn::kYes && slot.asked % 3 == 0))
      slot.client = http::Client::make(loop, options_);
    slot.done = false;
    http::ClientRequest request;
    constexpr const char* kPaths[] = {"/direct", "/one", "/two"};
    request.path = kPaths[slot.asked++ % 3];
    if (slot.asked % 4 == 0) {
      request.method = "POST";
      request.body = std::string(20'000, 'b');
    }
    slot.call = slot.client->fetch(std::move(request), [this, &slot](const auto& result) {
      slot.done = true;
      if (result && result->status == 200) {
        ++answers_;
      } else if (!forgiving_) {
        const std::lock_guard lock(mutex_);
        failures_ += name_ + ": " +
                     (result ? std::to_string(result->status) + " " + result->body
                             : std::string(result.error().text)) +
                     "\n";
      }
    });
  }

  const std::string name_;
  const http::Client::Options options_;
  const Churn churn_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> forgiving_ = false;
  std::atomic<int> answers_ = 0;
  std::mutex mutex_;
  std::string failures_;
  std::thread thread_;
};

class ServerThreadsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("postern_threads_test_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    root_ = *tls::makeRoot("root", std::chrono::hours(1));
    grpc_ = http::GrpcServer::make(loop_, {});
    control_.registerAt(*grpc_);
    auto socket = net::listenSocket(net::Address::unixPath((folder_ / "xds").string()));
    ASSERT_TRUE(socket);
    grpc_->listen(std::move(*socket));
    put(0);
  }
  void TearDown() override {
    grpc_.reset();
    std::filesystem::remove_all(folder_);
  }

  bool until(const std::function<bool()>& what, int seconds = 60) {
    for (int i = 0; i < seconds * 1000 / static_cast<int>(kWait.count()); ++i) {
      if (what()) return true;
      loop_.runOnce(kWait);
    }
    return false;
  }

  // ---- configuration: each version changes something of every type ----
  void put(int version) {
    putCluster("one", false, version);
    putCluster("two", true, version);
    putSecret(version);
    putRoutes(version);
    const std::string type(api::kListenerType);
    source_.put<envoy::config::listener::v3::Listener>(type, "web",
                                                       listener("web", version, false));
    source_.put<envoy::config::listener::v3::Listener>(type, "safe", listener("safe", 0, true));
    source_.by_type[type].erase("extra" + std::to_string((version + 2) % 3));
    const std::string extra = "extra" + std::to_string(version % 3);
    source_.put<envoy::config::listener::v3::Listener>(type, extra,
                                                       listener(extra, 0, version % 2 == 0));
    control_.changed(1);
  }
  void putCluster(const std::string& name, bool h2, int version) {
    json cluster = {{"name", name},
                    {"type", "EDS"},
                    {"connect_timeout", version % 5 == 0 ? "4s" : "5s"},
                    {"eds_cluster_config", {{"eds_config", ads()}}}};
    if (h2) cluster["typed_extension_protocol_options"] = http2Options();
    source_.put<envoy::config::cluster::v3::Cluster>(api::kClusterType, name, cluster);
    json endpoints = json::array();
    for (int i = 0; i <= version % 2; ++i) {
      const auto& origin = origins_.at(static_cast<std::size_t>(i));
      endpoints.push_back({{"endpoint", {{"address", socketAddress(origin.port())}}}});
    }
    source_.put<envoy::config::endpoint::v3::ClusterLoadAssignment>(
        api::kEndpointType, name,
        {{"cluster_name", name}, {"endpoints", {{{"lb_endpoints", endpoints}}}}});
  }
  void putSecret(int version) {
    if (version % 7 != 0) return;
    tls::CertificateRequest request;
    request.common_name = "server" + std::to_string(version);
    const tls::KeyPair pair = *tls::issue(root_, request);
    source_.put<envoy::extensions::transport_sockets::tls::v3::Secret>(
        api::kSecretType, "server",
        {{"name", "server"},
         {"tls_certificate",
          {{"certificate_chain", {{"inline_string", pair.certificate_pem}}},
           {"private_key", {{"inline_string", pair.private_key_pem}}}}}});
  }
  void putRoutes(int version) {
    json direct = {{"match", {{"path", "/direct"}}},
                   {"direct_response",
                    {{"status", 200}, {"body", {{"inline_string", std::to_string(version)}}}}}};
    json one = {{"match", {{"prefix", "/one"}}}, {"route", {{"cluster", "one"}}}};
    json two = {{"match", {{"prefix", "/"}}}, {"route", {{"cluster", "two"}}}};
    json host = {{"name", "v"}, {"domains", {"*"}}, {"routes", {direct, one, two}}};
    source_.put<envoy::config::route::v3::RouteConfiguration>(
        api::kRouteType, "r", {{"name", "r"}, {"virtual_hosts", {host}}});
  }
  json listener(const std::string& name, int version, bool tls) const {
    json router = {{"name", "router"},
                   {"typed_config", {{"@type", kTypes + "filters.http.router.v3.Router"}}}};
    json log = {{"name", "file"},
                {"typed_config",
                 {{"@type", kTypes + "access_loggers.file.v3.FileAccessLog"},
                  {"path", (folder_ / "access.log").string()}}}};
    json manager = {
        {"@type", kTypes + "filters.network.http_connection_manager.v3.HttpConnectionManager"},
        {"stat_prefix", name + std::to_string(version % 3)},
        {"access_log", json::array({log})},
        {"rds", {{"route_config_name", "r"}, {"config_source", ads()}}},
        {"http_filters", json::array({router})}};
    json chain = {{"filters", json::array({{{"name", "http"}, {"typed_config", manager}}})}};
    if (tls) {
      json secret = {{"name", "server"}, {"sds_config", ads()}};
      chain["transport_socket"] = {
          {"name", "tls"},
          {"typed_config",
           {{"@type", kTypes + "transport_sockets.tls.v3.DownstreamTlsContext"},
            {"common_tls_context",
             {{"alpn_protocols", {"h2", "http/1.1"}},
              {"tls_certificate_sds_secret_configs", json::array({secret})}}}}}};
    }
    return {{"name", name}, {"address", socketAddress(0)}, {"filter_chains", json::array({chain})}};
  }
  static json http2Options() {
    return {{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
             {{"@type", kTypes + "upstreams.http.v3.HttpProtocolOptions"},
              {"explicit_http_config", {{"http2_protocol_options", json::object()}}}}}};
  }
  std::shared_ptr<const Bootstrap> bootstrap() const {
    json endpoint = {
        {"endpoint", {{"address", {{"pipe", {{"path", (folder_ / "xds").string()}}}}}}}};
    json cluster = {{"name", "xds-grpc"},
                    {"type", "STATIC"},
                    {"typed_extension_protocol_options", http2Options()},
                    {"load_assignment",
                     {{"cluster_name", "xds-grpc"},
                      {"endpoints", {{{"lb_endpoints", json::array({endpoint})}}}}}}};
    json grpc = {{"envoy_grpc", {{"cluster_name", "xds-grpc"}}}};
    json all = {{"node", {{"id", "threads"}}},
                {"admin", {{"address", socketAddress(0)}}},
                {"static_resources", {{"clusters", json::array({cluster})}}},
                {"dynamic_resources",
                 {{"lds_config", ads()},
                  {"cds_config", ads()},
                  {"ads_config",
                   {{"api_type", "DELTA_GRPC"},
                    {"transport_api_version", "V3"},
                    {"grpc_services", json::array({grpc})}}}}}};
    auto out = std::make_shared<Bootstrap>();
    const auto read = api::fromJson(all, *out);
    EXPECT_TRUE(read) << read.error().message();
    return out;
  }
  static Options options(std::uint32_t epoch, std::uint32_t concurrency) {
    Options out;
    out.concurrency = concurrency;
    out.base_id = static_cast<std::uint32_t>(::getpid());
    out.restart_epoch = epoch;
    out.hot_restart_asked = true;
    out.drain_time = std::chrono::seconds(1);
    out.drain_immediately = true;
    return out;
  }

  // ---- load ----
  void startLoad(const ServerThread& server) {
    using Churn = LoadThread::Churn;
    tls::ClientOptions trusting{.verify = false, .alpn = {"h2", "http/1.1"}};
    const auto h2_over_tls = *tls::ClientContext::make(trusting);
    trusting.alpn = {"http/1.1"};
    const auto h1_over_tls = *tls::ClientContext::make(trusting);
    const auto add = [&](const char* name, const char* listener, http::Protocol protocol,
                         std::shared_ptr<const tls::ClientContext> tls, Churn churn) {
      http::Client::Options options;
      options.address = server.address(listener);
      options.host = "test";
      options.protocol = protocol;
      options.tls = std::move(tls);
      load_.push_back(std::make_unique<LoadThread>(name, std::move(options), churn));
    };
    add("HTTP/1", "web", http::Protocol::kHttp1, nullptr, Churn::kYes);
    add("HTTP/2", "web", http::Protocol::kHttp2, nullptr, Churn::kNo);
    add("TLS HTTP/1", "safe", http::Protocol::kAuto, h1_over_tls, Churn::kYes);
    add("TLS HTTP/2", "safe", http::Protocol::kAuto, h2_over_tls, Churn::kYes);
  }
  std::string failures() {
    std::string out;
    for (const auto& each : load_) out += each->failures();
    return out.substr(0, 2000);
  }
  /// Until each kind of client has had so many answers more.
  bool served(int more) {
    std::vector<int> wanted;
    for (const auto& each : load_) wanted.push_back(each->answers() + more);
    return until([&] {
      for (std::size_t i = 0; i < load_.size(); ++i) {
        if (load_[i]->answers() < wanted[i]) return false;
      }
      return true;
    });
  }

  // ---- the admin port ----
  int admin(const ServerThread& server, const char* path, const char* method = "GET") {
    http::Client::Options options;
    options.address = server.address("admin");
    options.host = "test";
    auto client = http::Client::make(loop_, options);
    http::ClientRequest request;
    request.method = method;
    request.path = path;
    int status = -1;
    auto call = client->fetch(std::move(request), [&](const base::Result<http::ClientResponse>& r) {
      status = r ? r->status : 0;
    });
    until([&] { return status >= 0; });
    return status;
  }
  void askAdmin(const ServerThread& server) {
    for (const char* path :
         {"/config_dump", "/stats", "/stats/prometheus", "/clusters", "/listeners?format=json",
          "/server_info", "/certs", "/memory", "/ready"})
      EXPECT_EQ(admin(server, path), 200) << path;
    for (const char* path : {"/reset_counters", "/reopen_logs", "/logging?level=warning"})
      EXPECT_EQ(admin(server, path, "POST"), 200) << path;
  }
  void change(const ServerThread& server) {
    for (int i = 0; i < kUpdates; ++i) {
      put(++version_);
      until([turn = 0]() mutable { return ++turn > 2; });
      if (i % 10 == 0) askAdmin(server);
    }
  }

  std::filesystem::path folder_;
  event::Loop loop_;
  Source source_;
  xds::Server control_{source_};
  std::unique_ptr<http::GrpcServer> grpc_;
  std::array<OriginThread, 2> origins_;
  tls::KeyPair root_;
  int version_ = 0;
  std::vector<std::unique_ptr<LoadThread>> load_;
};

TEST_F(ServerThreadsTest, ServesWhileAllOfItChanges) {
  auto first = std::make_unique<ServerThread>(bootstrap(), options(0, 3));
  ASSERT_TRUE(until([&] { return first->live(); }));
  startLoad(*first);
  ASSERT_TRUE(served(20)) << failures();
  change(*first);
  EXPECT_TRUE(served(20)) << failures();

  // The sockets go to a process with fewer workers; what it is told meanwhile it takes, too.
  ServerThread second(bootstrap(), options(1, 2));
  ASSERT_TRUE(until([&] {
    put(++version_);
    return second.live();
  }));
  EXPECT_EQ(second.address("web").port(), first->address("web").port());
  EXPECT_EQ(second.address("admin").port(), first->address("admin").port());
  EXPECT_TRUE(until([&] { return first->ended(); }));
  first.reset();
  change(second);
  EXPECT_TRUE(served(20)) << failures();
  EXPECT_EQ(failures(), "");
  EXPECT_EQ(source_.last_error, "");

  // The end, while they still ask.
  for (const auto& each : load_) each->forgive();
  second.post([](Server& server) { server.shutDown(); });
  EXPECT_TRUE(until([&] { return second.ended(); }));
}

}  // namespace
}  // namespace postern::proxy
