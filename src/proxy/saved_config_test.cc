#include "proxy/saved_config.h"

#include "api/message.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::proxy {
namespace {

template <class T>
ResourceText text(const char* from) {
  T message;
  const auto read = api::fromJson(*postern::json::parse(from), message);
  EXPECT_TRUE(read) << read.error().message();
  ResourceText out;
  api::pack(message, out.message);
  out.version = "7";
  return out;
}

std::vector<DynamicResources> sample() {
  DynamicResources clusters;
  clusters.type_url = api::kClusterType;
  clusters.resources.emplace_back(
      "a", text<envoy::config::cluster::v3::Cluster>(R"({"name":"a","connect_timeout":"1s"})"));
  return {clusters};
}

std::string savedError(const std::string& bytes, const std::string& node = "n") {
  const auto read = decodeSaved(bytes, node);
  return read ? "" : read.error().message();
}

TEST(SavedConfig, ComesBackAsItWas) {
  const auto back = decodeSaved(encodeSaved("n", sample()), "n");
  ASSERT_TRUE(back) << back.error().message();
  ASSERT_EQ(back->size(), 1U);
  EXPECT_EQ((*back)[0].type_url, api::kClusterType);
  ASSERT_EQ((*back)[0].resources.size(), 1U);
  EXPECT_EQ((*back)[0].resources[0].first, "a");
  EXPECT_EQ((*back)[0].resources[0].second.version, "7");
  EXPECT_EQ((*back)[0].resources[0].second.message.value(),
            sample()[0].resources[0].second.message.value());
}

TEST(SavedConfig, RefusesEveryDamage) {
  const std::string whole = encodeSaved("n", sample());
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(savedError(whole.substr(0, size)), "") << size;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_NE(savedError(changed), "") << i;
  }
  EXPECT_EQ(savedError(whole, "m"), "is that of another node");
}

TEST(SavedConfig, LeavesOutWhatHoldsAKey) {
  constexpr const char* kListener = R"({"name":"l","filter_chains":[{"transport_socket":{"name":"t",
    "typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    "common_tls_context":{"tls_certificates":[{"certificate_chain":{"inline_string":"PUBLIC"},
    "private_key":{"inline_string":"SECRET"}}]}}}}]})";
  DynamicResources listeners;
  listeners.type_url = api::kListenerType;
  listeners.resources.emplace_back("l", text<envoy::config::listener::v3::Listener>(kListener));
  EXPECT_TRUE(holdsPrivateKey(listeners.resources[0].second.message));
  EXPECT_EQ(encodeSaved("n", {listeners}).find("SECRET"), std::string::npos);
  std::string by_file = kListener;
  by_file.replace(by_file.find("\"inline_string\":\"SECRET\""), 24, "\"filename\":\"/key\"");
  EXPECT_FALSE(
      holdsPrivateKey(text<envoy::config::listener::v3::Listener>(by_file.c_str()).message));
  // What cannot be looked into is not kept.
  google::protobuf::Any unknown;
  unknown.set_type_url("type.googleapis.com/not.Known");
  EXPECT_TRUE(holdsPrivateKey(unknown));
}

}  // namespace
}  // namespace postern::proxy
