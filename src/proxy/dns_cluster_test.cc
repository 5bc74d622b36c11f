// When names are looked up again, and which of the answers become hosts.
#include "proxy/dns_cluster.h"

#include "api/message.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "proxy/config_build.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::proxy {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

/// Answers at once what it was told to.
class ScriptedResolver final : public net::Resolver {
 public:
  std::unique_ptr<Query> resolve(const std::string& name, net::DnsFamily family,
                                 Callback callback) override {
    asked.push_back(name);
    family_ = family;
    callback_ = std::move(callback);
    return std::make_unique<Query>();
  }
  void answer(base::Result<net::DnsAnswer> answer) { callback_(std::move(answer)); }
  net::DnsFamily family() const { return family_; }
  std::vector<std::string> asked;

 private:
  Callback callback_;
  net::DnsFamily family_ = net::DnsFamily::kAll;
};

class DnsClusterTest : public ::testing::Test {
 protected:
  void start(json fields = json::object()) {
    json endpoint = {
        {"endpoint",
         {{"address", {{"socket_address", {{"address", "app.example"}, {"port_value", 80}}}}}}}};
    json all = {{"name", "c"},
                {"type", "STRICT_DNS"},
                {"load_assignment",
                 {{"cluster_name", "c"}, {"endpoints", {{{"lb_endpoints", {endpoint}}}}}}}};
    all.update(fields);
    envoy::config::cluster::v3::Cluster message;
    const auto read = api::fromJson(all, message);
    ASSERT_TRUE(read) << read.error().message();
    auto built = buildCluster(message, "");
    ASSERT_TRUE(built) << built.error().message();
    cluster_ = std::make_unique<DnsCluster>(loop_, resolver_, random_, stats_, *built, [] {});
  }
  static net::DnsAnswer answerOf(std::initializer_list<const char*> addresses, int ttl_s = 30) {
    net::DnsAnswer out;
    for (const char* each : addresses) out.addresses.push_back(*net::Address::fromIp(each, 0));
    out.ttl = std::chrono::seconds(ttl_s);
    return out;
  }
  /// How often the name was asked for when so much time has passed.
  std::size_t askedAfter(milliseconds time) {
    clock_.advance(time);
    loop_.runOnce(milliseconds(0));
    return resolver_.asked.size();
  }
  std::vector<std::string> hosts() const {
    std::vector<std::string> out;
    for (const auto& locality : cluster_->assignment()->localities) {
      for (const Endpoint& each : locality.endpoints) out.push_back(each.address->toString());
    }
    return out;
  }

  base::ManualClock clock_;
  event::Loop loop_{clock_};
  base::Random random_{7};
  stats::Stats all_stats_;
  stats::Store& stats_ = all_stats_.makeStore();
  ScriptedResolver resolver_;
  std::unique_ptr<DnsCluster> cluster_;
};

TEST_F(DnsClusterTest, EachAddressIsAHostOrALogicalNameIsOne) {
  start();
  EXPECT_EQ(cluster_->assignment(), nullptr);
  resolver_.answer(answerOf({"10.0.0.2", "10.0.0.1"}));
  EXPECT_EQ(hosts(), (std::vector<std::string>{"10.0.0.1:80", "10.0.0.2:80"}));
  start({{"type", "LOGICAL_DNS"}});
  resolver_.answer(answerOf({"10.0.0.2", "10.0.0.1"}));
  EXPECT_EQ(hosts().size(), 1U);
}

TEST_F(DnsClusterTest, ANameThatIsGoneHasNoHostsALogicalOneKeepsItsAddress) {
  const auto gone = std::unexpected(base::Error{base::Errc::kNotFound, "name not found"});
  const auto failed = std::unexpected(base::Error{base::Errc::kUnavailable, "DNS failure"});
  start({{"dns_refresh_rate", "1s"}});
  resolver_.answer(answerOf({"10.0.0.1"}));
  askedAfter(milliseconds(1001));
  resolver_.answer(failed);  // who cannot be asked says nothing
  EXPECT_EQ(hosts().size(), 1U);
  askedAfter(milliseconds(1001));
  resolver_.answer(gone);
  EXPECT_EQ(hosts().size(), 0U);
  EXPECT_EQ(all_stats_.value("cluster.c.update_failure"), 1);
  EXPECT_EQ(all_stats_.value("cluster.c.update_success"), 2);
  askedAfter(milliseconds(1001));
  resolver_.answer(answerOf({"10.0.0.2"}));
  EXPECT_EQ(hosts(), std::vector<std::string>{"10.0.0.2:80"});
  start({{"type", "LOGICAL_DNS"}, {"dns_refresh_rate", "1s"}});
  resolver_.answer(answerOf({"10.0.0.1"}));
  askedAfter(milliseconds(1001));
  resolver_.answer(gone);
  EXPECT_EQ(hosts(), std::vector<std::string>{"10.0.0.1:80"});
}

TEST_F(DnsClusterTest, AsksAgainAfterTheRefreshRate) {
  start({{"dns_refresh_rate", "2s"}});
  resolver_.answer(answerOf({"10.0.0.1"}));
  EXPECT_EQ(askedAfter(milliseconds(1900)), 1U);
  EXPECT_EQ(askedAfter(milliseconds(200)), 2U);
  start();
  resolver_.answer(answerOf({"10.0.0.1"}));
  EXPECT_EQ(askedAfter(milliseconds(4900)), 3U);  // 5 s unless told otherwise
  EXPECT_EQ(askedAfter(milliseconds(200)), 4U);
}

TEST_F(DnsClusterTest, TheAnswersOwnTimeCountsWhereItShall) {
  start({{"respect_dns_ttl", true}, {"dns_refresh_rate", "2s"}});
  resolver_.answer(answerOf({"10.0.0.1"}, 30));
  EXPECT_EQ(askedAfter(milliseconds(29900)), 1U);
  EXPECT_EQ(askedAfter(milliseconds(200)), 2U);
}

TEST_F(DnsClusterTest, JitterIsAddedToTheWait) {
  start({{"dns_jitter", "1000s"}, {"dns_refresh_rate", "1s"}});
  std::size_t late = 0;
  for (int i = 0; i < 20; ++i) {
    const std::size_t before = resolver_.asked.size();
    resolver_.answer(answerOf({"10.0.0.1"}));
    if (askedAfter(milliseconds(1001)) == before) ++late;
    if (resolver_.asked.size() == before) askedAfter(milliseconds(1000 * 1000));
    ASSERT_EQ(resolver_.asked.size(), before + 1);
  }
  EXPECT_GT(late, 15U);
}

TEST_F(DnsClusterTest, AsksForTheFamilyThatIsWanted) {
  const std::pair<const char*, net::DnsFamily> families[] = {
      {"AUTO", net::DnsFamily::kAuto},
      {"V4_ONLY", net::DnsFamily::kV4Only},
      {"V6_ONLY", net::DnsFamily::kV6Only},
      {"V4_PREFERRED", net::DnsFamily::kV4Preferred},
      {"ALL", net::DnsFamily::kAll}};
  for (const auto& [name, family] : families) {
    start({{"dns_lookup_family", name}});
    EXPECT_EQ(resolver_.family(), family) << name;
  }
}

}  // namespace
}  // namespace postern::proxy
