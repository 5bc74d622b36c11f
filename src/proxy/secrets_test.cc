// Secrets over ADS: what waits for them, what a refusal leaves, what a dump shows. The directories
// of files are watched.
#include "proxy/secrets.h"

#include "api/message.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "proxy/config_store.h"
#include "proxy/directory_watch.h"
#include "tls/x509.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

#include <unistd.h>

namespace postern::proxy {
namespace {

using nlohmann::json;
namespace ssl = envoy::extensions::transport_sockets::tls::v3;

constexpr const char* kTls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.";

json sds(const std::string& name) {
  return {{"name", name},
          {"sds_config",
           {{"ads", json::object()},
            {"initial_fetch_timeout", "10s"},
            {"resource_api_version", "V3"}}}};
}

json socketOf(const char* type, json common) {
  return {{"name", "tls"},
          {"typed_config",
           {{"@type", std::string(kTls) + type}, {"common_tls_context", std::move(common)}}}};
}

json listenerWith(json common) {
  json filter = {
      {"name", "tcp"},
      {"typed_config",
       {{"@type", "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"},
        {"stat_prefix", "t"},
        {"cluster", "c"}}}};
  json chain = {{"filters", {filter}},
                {"transport_socket", socketOf("DownstreamTlsContext", std::move(common))}};
  return {{"name", "l"},
          {"address", {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", 0}}}}},
          {"filter_chains", {chain}}};
}

class Secrets : public ::testing::Test {
 protected:
  Secrets() {
    store_ = std::make_unique<ConfigStore>(
        loop_, stats_.makeStore(), ConfigStore::Options{},
        [this](std::shared_ptr<const Snapshot> snapshot) { snapshot_ = std::move(snapshot); },
        [this](std::string_view type_url, const std::set<std::string>& names) {
          wanted_[std::string(type_url)] = names;
        });
    store_->expect({}, {});
    tls::CertificateRequest request;
    request.common_name = "server";
    pair_ = *tls::issue(*tls::makeRoot("root", std::chrono::hours(1)), request);
  }

  template <class T>
  std::string give(std::string_view type_url, const json& value) {
    T message;
    const auto read = api::fromJson(value, message);
    EXPECT_TRUE(read) << read.error().message();
    google::protobuf::Any any;
    api::pack(message, any);
    const std::vector<xds::Update> updates = {{value["name"], std::to_string(++version_), &any}};
    const auto taken = store_->update(type_url, updates, {});
    return taken ? "" : taken.error().message();
  }
  std::string listener(json common) {
    return give<envoy::config::listener::v3::Listener>(api::kListenerType,
                                                       listenerWith(std::move(common)));
  }
  std::string secret(const std::string& name, const std::string& chain, const std::string& key) {
    return give<ssl::Secret>(api::kSecretType, {{"name", name},
                                                {"tls_certificate",
                                                 {{"certificate_chain", {{"inline_string", chain}}},
                                                  {"private_key", {{"inline_string", key}}}}}});
  }
  std::string context() const {
    const auto& chain = snapshot_->listeners.at("l").config->chains.front();
    return chain->tls->server() == nullptr ? "" : "there";
  }

  stats::Stats stats_;
  base::ManualClock clock_;
  event::Loop loop_{clock_};
  std::unique_ptr<ConfigStore> store_;
  std::shared_ptr<const Snapshot> snapshot_ = std::make_shared<Snapshot>();
  std::map<std::string, std::set<std::string>> wanted_;
  tls::KeyPair pair_;
  int version_ = 0;
};

TEST_F(Secrets, AListenerWaitsForItsSecret) {
  EXPECT_EQ(listener({{"tls_certificate_sds_secret_configs", {sds("pair")}}}), "");
  EXPECT_EQ(wanted_[std::string(api::kSecretType)], std::set<std::string>{"pair"});
  EXPECT_FALSE(snapshot_->listeners.contains("l"));
  EXPECT_EQ(secret("pair", pair_.certificate_pem, pair_.private_key_pem), "");
  ASSERT_TRUE(snapshot_->listeners.contains("l"));
  EXPECT_EQ(context(), "there");
  EXPECT_EQ(stats_.value("sds.pair.update_success"), 1);
}

TEST_F(Secrets, ARefusedSecretChangesNothing) {
  EXPECT_EQ(listener({{"tls_certificate_sds_secret_configs", {sds("pair")}}}), "");
  EXPECT_EQ(secret("pair", pair_.certificate_pem, pair_.private_key_pem), "");
  const auto chain = snapshot_->listeners.at("l").config->chains.front();
  const auto before = chain->tls->server();
  const std::string error = secret("pair", pair_.certificate_pem, *tls::makePrivateKey());
  EXPECT_NE(error.find("pair: tls_certificate.private_key: Failed to load private key"),
            std::string::npos)
      << error;
  EXPECT_EQ(chain->tls->server(), before);
  EXPECT_EQ(stats_.value("sds.pair.update_rejected"), 1);
  // A good one again: the same chain, another context.
  EXPECT_EQ(secret("pair", pair_.certificate_pem, pair_.private_key_pem), "");
  EXPECT_EQ(snapshot_->listeners.at("l").config->chains.front(), chain);
  EXPECT_NE(chain->tls->server(), before);
}

TEST_F(Secrets, AnUnknownStaticSecretIsRefused) {
  const std::string error =
      listener({{"tls_certificate_sds_secret_configs", {{{"name", "nowhere"}}}}});
  EXPECT_NE(
      error.find("filter_chains[0].transport_socket.typed_config.common_tls_context."
                 "tls_certificate_sds_secret_configs[0].name: Unknown static secret: nowhere"),
      std::string::npos)
      << error;
}

TEST_F(Secrets, ANameNeedsAnAuthority) {
  const auto cluster = [this](json validation) {
    json socket = socketOf("UpstreamTlsContext", {{"validation_context", std::move(validation)}});
    socket["typed_config"]["sni"] = "a.test";
    socket["typed_config"]["auto_sni_san_validation"] = true;
    return give<envoy::config::cluster::v3::Cluster>(
        api::kClusterType, {{"name", "c"}, {"type", "STATIC"}, {"transport_socket", socket}});
  };
  const std::string refused = cluster({{"verify_certificate_hash", {std::string(64, 'a')}}});
  EXPECT_NE(refused.find("transport_socket.typed_config.auto_sni_san_validation: "
                         "'auto_sni_san_validation' was configured without configuring a trusted "
                         "CA"),
            std::string::npos)
      << refused;
  EXPECT_EQ(cluster({{"trusted_ca", {{"inline_string", pair_.certificate_pem}}}}), "");
}

TEST_F(Secrets, ASecretOfAnotherKindIsRefused) {
  EXPECT_EQ(listener({{"tls_certificates",
                       {{{"certificate_chain", {{"inline_string", pair_.certificate_pem}}},
                         {"private_key", {{"inline_string", pair_.private_key_pem}}}}}},
                      {"validation_context_sds_secret_config", sds("roots")}}),
            "");
  const std::string error = secret("roots", pair_.certificate_pem, pair_.private_key_pem);
  EXPECT_NE(error.find("the secret roots is of another kind"), std::string::npos) << error;
}

TEST_F(Secrets, FieldsThatAreNotHonouredAreRefused) {
  const auto refused = [&](const char* field, json value) {
    json common = {{"tls_certificate_sds_secret_configs", {sds("pair")}}};
    common[field] = std::move(value);
    return listener(std::move(common));
  };
  const std::string at = "l: filter_chains[0].transport_socket.typed_config.common_tls_context.";
  EXPECT_EQ(refused("key_log", {{"path", "/tmp/keys"}}), at + "key_log: is not supported");
  EXPECT_EQ(refused("custom_handshaker", {{"name", "x"}}),
            at + "custom_handshaker: is not supported");
}

TEST_F(Secrets, DumpsShowNoKeys) {
  envoy::config::listener::v3::Listener message;
  json value = listenerWith({{"tls_certificates",
                              {{{"certificate_chain", {{"inline_string", "public"}}},
                                {"private_key", {{"inline_string", "private"}}},
                                {"password", {{"inline_bytes", "c2VjcmV0"}}}}}}});
  ASSERT_TRUE(api::fromJson(value, message));
  redactSecrets(message);
  const std::string shown = api::toJson(message).dump();
  EXPECT_NE(shown.find("public"), std::string::npos);
  EXPECT_EQ(shown.find("\"private\""), std::string::npos) << shown;
  EXPECT_EQ(shown.find("c2VjcmV0"), std::string::npos) << shown;
  EXPECT_NE(shown.find("[redacted]"), std::string::npos);
}

class DirectoryWatchTest : public ::testing::Test {
 protected:
  DirectoryWatchTest() { std::filesystem::create_directories(watched()); }
  ~DirectoryWatchTest() override { std::filesystem::remove_all(folder_); }
  std::string watched() const { return (folder_ / "certs").string(); }
  /// As files are replaced: one of another directory comes here.
  bool toldOfAMove() {
    loop_.runOnce(std::chrono::milliseconds(0));  // what a removed watch says of itself
    told_.clear();
    std::ofstream(folder_ / "new") << "new";
    std::filesystem::rename(folder_ / "new", folder_ / "certs" / "file");
    for (int i = 0; i < 200 && told_.empty(); ++i) loop_.runOnce(std::chrono::milliseconds(5));
    return !told_.empty();
  }

  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("postern_watch_test_" + std::to_string(::getpid()));
  event::Loop loop_;
  std::set<std::string> told_;
  DirectoryWatch watch_{loop_, [this](const std::string& directory) { told_.insert(directory); }};
};

TEST_F(DirectoryWatchTest, TwoSpellingsOfADirectoryAreWatchedEach) {
  const std::string other = watched() + "/";
  watch_.watch({watched(), other});
  EXPECT_TRUE(toldOfAMove());
  EXPECT_EQ(told_, (std::set<std::string>{watched(), other}));
  watch_.watch({watched()});
  EXPECT_TRUE(toldOfAMove());
  EXPECT_EQ(told_, std::set<std::string>{watched()});
  watch_.watch({});
  EXPECT_FALSE(toldOfAMove());
}

TEST_F(DirectoryWatchTest, ADirectoryThatWentAndCameIsWatchedAgain) {
  watch_.watch({watched()});
  std::filesystem::remove_all(watched());
  loop_.runOnce(std::chrono::milliseconds(5));
  watch_.watch({watched()});  // not there
  std::filesystem::create_directories(watched());
  watch_.watch({watched()});
  EXPECT_TRUE(toldOfAMove());
}

}  // namespace
}  // namespace postern::proxy
