#include "network/dns_message.h"
#include "network/dns_names.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::network {
namespace {

std::shared_ptr<const json::Json> dnsObject(std::string_view yaml) {
  return std::make_shared<const json::Json>(*json::parseYaml(yaml));
}

DnsNames names() {
  return DnsNames(
      {{dnsObject("{metadata: {namespace: shop, name: web}, spec: {clusterIP: 10.96.0.50}}"),
        dnsObject("{metadata: {namespace: shop, name: db}, spec: {clusterIP: None}}")},
       {dnsObject(
           "{metadata: {namespace: shop, labels: {kubernetes.io/service-name: db}}, endpoints: "
           "[{addresses: [10.244.0.9], hostname: db-0}]}")},
       {"Api.Example.com"}});
}

TEST(DnsNames, AnswersServicesHeadlessAndExternals) {
  const DnsNames all = names();
  EXPECT_EQ(all.find("web.shop.svc.cluster.local")->addresses.at(0), "10.96.0.50");
  EXPECT_EQ(all.find("db.shop.svc.cluster.local")->addresses.at(0), "10.244.0.9");
  EXPECT_EQ(all.find("db-0.db.shop.svc.cluster.local")->addresses.at(0), "10.244.0.9");
  const std::string ip = all.find("api.example.com")->addresses.at(0);
  EXPECT_EQ(all.externalByAddress().at(ip), "api.example.com");
  EXPECT_EQ(names().find("api.example.com")->addresses.at(0), ip);
  EXPECT_FALSE(all.find("nobody.shop.svc.cluster.local")->exists);
  EXPECT_FALSE(all.find("example.org"));
}

TEST(DnsNames, ReadsAddressesInNames) {
  EXPECT_EQ(addressInName("frontpage.127.3.0.1.xip.io"), "127.3.0.1");
  EXPECT_EQ(addressInName("1.2.3.4.nip.io"), "1.2.3.4");
  EXPECT_FALSE(addressInName("a.1.2.3.xip.io"));
  EXPECT_FALSE(addressInName("1.2.3.4.notnip.io"));
}

const std::string kQuery(
    "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03WEB\x01x\x00\x00\x01\x00\x01", 23);

TEST(DnsMessage, AnswersWithTheQuestionAndRecords) {
  const auto query = parseDnsQuery(kQuery);
  ASSERT_TRUE(query);
  EXPECT_EQ(query->name, "web.x");
  EXPECT_EQ(query->type, kDnsTypeA);
  const std::string out = dnsResponse(*query, DnsCode::kNoError, {dnsA("10.0.0.1")}, 5);
  EXPECT_EQ(out.size(), kQuery.size() + 16);
  EXPECT_EQ(out.substr(0, 8), std::string("\x12\x34\x85\x80\x00\x01\x00\x01", 8));
  EXPECT_EQ(out.substr(out.size() - 4), std::string("\x0a\x00\x00\x01", 4));
}

TEST(DnsMessage, CutsWhatDoesNotFitAndRefusesBrokenQueries) {
  const auto query = parseDnsQuery(kQuery);
  const std::string out =
      dnsResponse(*query, DnsCode::kNoError, std::vector<DnsRecord>(100, dnsA("10.0.0.1")), 5);
  EXPECT_LE(out.size(), kDnsUdpBytesMax);
  EXPECT_NE(out[2] & 0x02, 0);
  for (std::size_t n = 0; n < kQuery.size(); ++n) EXPECT_FALSE(parseDnsQuery(kQuery.substr(0, n)));
}

}  // namespace
}  // namespace postern::network
