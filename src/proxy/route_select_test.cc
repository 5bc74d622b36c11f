#include "proxy/route_select.h"

#include "api/message.h"
#include "envoy/config/route/v3/route.pb.h"
#include "proxy/config_http.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace postern::proxy {
namespace {

using nlohmann::json;

base::ConfigResult<RouteTable> build(const json& value) {
  envoy::config::route::v3::RouteConfiguration message;
  auto read = api::fromJson(value, message);
  if (!read) return std::unexpected(read.error());
  return buildRoutes(message, "route");
}

json forward(json match, const std::string& name) {
  return {{"name", name}, {"match", std::move(match)}, {"route", {{"cluster", "c"}}}};
}

/// One route may come without its list: braces around a single value mean the value itself.
RouteTable tableOf(json routes, json extra = json::object()) {
  if (routes.is_object()) routes = json::array({routes});
  json host = {{"name", "h"}, {"domains", {"*"}}, {"routes", routes}};
  extra["virtual_hosts"] = json::array({host});
  auto table = build(extra);
  EXPECT_TRUE(table) << table.error().message();
  return std::move(*table);
}

std::string chosen(const RouteTable& table, const http::HeaderMap& headers,
                   std::uint64_t random = 0) {
  const VirtualHost* host = findHost(table, headers.authority());
  if (host == nullptr) return "(no host)";
  const Route* route = findRoute(table, *host, headers, random);
  return route == nullptr ? "(no route)" : route->name;
}

std::string byPath(const RouteTable& table, std::string_view path) {
  return chosen(table, {{":method", "GET"}, {":authority", "a"}, {":path", path}});
}

TEST(RouteSelect, ChoosesTheMostSpecificDomain) {
  json hosts = json::array();
  for (const char* domain : {"*", "*.com", "*.b.com", "a.b.com", "a.*", "a.b.*", "x.y:8080"}) {
    hosts.push_back({{"name", domain},
                     {"domains", {domain}},
                     {"routes", {forward({{"prefix", "/"}}, domain)}}});
  }
  auto table = build({{"virtual_hosts", hosts}});
  ASSERT_TRUE(table) << table.error().message();
  auto at = [&](std::string_view authority) {
    return chosen(*table, {{":method", "GET"}, {":authority", authority}, {":path", "/"}});
  };
  EXPECT_EQ(at("A.b.COM"), "a.b.com");
  EXPECT_EQ(at("x.b.com"), "*.b.com");
  EXPECT_EQ(at("x.com"), "*.com");
  EXPECT_EQ(at(".com"), "*");
  EXPECT_EQ(at("a.org"), "a.*");
  EXPECT_EQ(at("a.b.org"), "a.b.*");
  EXPECT_EQ(at("x.y:8080"), "x.y:8080");
  EXPECT_EQ(at("x.y"), "*");
  EXPECT_EQ(at(std::string(300, 'a') + ".com"), "*");
}

TEST(RouteSelect, IgnoresThePortWhenAsked) {
  json host = {
      {"name", "h"}, {"domains", {"a.b", "[::1]"}}, {"routes", {forward({{"prefix", "/"}}, "r")}}};
  auto table = build({{"virtual_hosts", {host}}, {"ignore_port_in_host_matching", true}});
  ASSERT_TRUE(table);
  for (const char* authority : {"a.b", "a.b:80", "[::1]", "[::1]:80"}) {
    EXPECT_EQ(chosen(*table, {{":authority", authority}, {":path", "/"}}), "r") << authority;
  }
}

TEST(RouteSelect, MatchesPaths) {
  const RouteTable table = tableOf({
      forward({{"path", "/exact"}}, "exact"),
      forward({{"path_separated_prefix", "/a"}}, "separated"),
      forward({{"safe_regex", {{"regex", "/r[0-9]+"}}}}, "regex"),
      forward({{"prefix", "/Case"}, {"case_sensitive", false}}, "case"),
      forward({{"connect_matcher", json::object()}}, "connect"),
      forward({{"prefix", "/p"}}, "prefix"),
  });
  EXPECT_EQ(byPath(table, "/exact"), "exact");
  EXPECT_EQ(byPath(table, "/exact?q=1"), "exact");
  EXPECT_EQ(byPath(table, "/exact/"), "(no route)");
  EXPECT_EQ(byPath(table, "/a"), "separated");
  EXPECT_EQ(byPath(table, "/a/b"), "separated");
  EXPECT_EQ(byPath(table, "/a?x"), "separated");
  EXPECT_EQ(byPath(table, "/ab"), "(no route)");
  EXPECT_EQ(byPath(table, "/r42?x=/"), "regex");
  EXPECT_EQ(byPath(table, "/r42x"), "(no route)");
  EXPECT_EQ(byPath(table, "/cASE/1"), "case");
  EXPECT_EQ(byPath(table, "/p?x"), "prefix");
  EXPECT_EQ(chosen(table, {{":method", "CONNECT"}, {":authority", "a:1"}}), "connect");
}

TEST(RouteSelect, MatchesHeaders) {
  struct Case {
    json matcher;
    const char* value;  // null: absent
    bool hit;
  };
  auto by = [](json s) { return json{{"name", "X-H"}, {"string_match", std::move(s)}}; };
  auto with = [](json m, const char* key) {
    m[key] = true;
    return m;
  };
  const Case cases[] = {
      {by({{"exact", "v"}}), "v", true},
      {by({{"exact", "v"}}), "w", false},
      {by({{"exact", "v"}}), nullptr, false},
      {by({{"exact", "V"}, {"ignore_case", true}}), "v", true},
      {by({{"prefix", "ab"}}), "abc", true},
      {by({{"suffix", "bc"}}), "abc", true},
      {by({{"contains", "b"}}), "abc", true},
      {by({{"contains", "B"}, {"ignore_case", true}}), "abc", true},
      {by({{"safe_regex", {{"regex", "a.c"}}}}), "abc", true},
      {by({{"safe_regex", {{"regex", "a.c"}}}}), "abcd", false},
      {with(by({{"exact", "v"}}), "invert_match"), "w", true},
      {with(by({{"exact", "v"}}), "invert_match"), nullptr, false},
      {with(with(by({{"exact", "v"}}), "invert_match"), "treat_missing_header_as_empty"), nullptr,
       true},
      {{{"name", "x-h"}, {"range_match", {{"start", 1}, {"end", 3}}}}, "2", true},
      {{{"name", "x-h"}, {"range_match", {{"start", 1}, {"end", 3}}}}, "3", false},
      {{{"name", "x-h"}, {"range_match", {{"start", 1}, {"end", 3}}}}, "x", false},
      {{{"name", "x-h"}, {"present_match", true}}, "", true},
      {{{"name", "x-h"}, {"present_match", true}}, nullptr, false},
      {{{"name", "x-h"}, {"present_match", false}}, nullptr, true},
      {{{"name", "x-h"}, {"present_match", true}, {"invert_match", true}}, nullptr, true},
      {{{"name", "x-h"}, {"exact_match", "v"}}, "v", true},
      {{{"name", ":method"}, {"exact_match", "GET"}}, nullptr, true},
  };
  for (const Case& each : cases) {
    const RouteTable table =
        tableOf({forward({{"prefix", "/"}, {"headers", {each.matcher}}}, "hit")});
    http::HeaderMap headers{{":method", "GET"}, {":authority", "a"}, {":path", "/"}};
    if (each.value != nullptr) headers.add("x-h", each.value);
    EXPECT_EQ(chosen(table, headers) == "hit", each.hit)
        << each.matcher.dump() << " " << (each.value == nullptr ? "(absent)" : each.value);
  }
}

TEST(RouteSelect, MatchesEachOfSeveralHeadersOfOneName) {
  auto matches = [](const char* value) {
    json match = {{"prefix", "/"},
                  {"headers", {{{"name", "x"}, {"string_match", {{"exact", value}}}}}}};
    const RouteTable table = tableOf({forward(match, "hit")});
    const http::HeaderMap headers{{":authority", "a"}, {":path", "/"}, {"x", "a"}, {"x", "b"}};
    return chosen(table, headers) == "hit";
  };
  EXPECT_TRUE(matches("a"));
  EXPECT_TRUE(matches("b"));
  EXPECT_FALSE(matches("a,b"));
}

TEST(RouteSelect, MatchesQueryParametersAndFractions) {
  const RouteTable table = tableOf({
      forward({{"prefix", "/"},
               {"query_parameters", {{{"name", "a"}, {"string_match", {{"exact", "1"}}}}}}},
              "value"),
      forward({{"prefix", "/"}, {"query_parameters", {{{"name", "b"}, {"present_match", true}}}}},
              "present"),
      forward({{"prefix", "/"},
               {"runtime_fraction",
                {{"default_value", {{"numerator", 30}, {"denominator", "HUNDRED"}}}}}},
              "share"),
      forward({{"prefix", "/"}}, "rest"),
  });
  EXPECT_EQ(byPath(table, "/?x=2&a=1"), "value");
  EXPECT_EQ(byPath(table, "/?a=2&b"), "present");
  const http::HeaderMap plain{{":authority", "a"}, {":path", "/"}};
  EXPECT_EQ(chosen(table, plain, 129), "share");
  EXPECT_EQ(chosen(table, plain, 130), "rest");
}

TEST(RouteSelect, AThousandRoutesKeepTheirOrder) {
  json routes = json::array();
  for (int i = 0; i < 500; ++i) {
    routes.push_back(forward({{"prefix", fmt::format("/api/{}/", i)}}, fmt::format("prefix{}", i)));
    routes.push_back(forward({{"path", fmt::format("/api/{}/x", i)}}, fmt::format("path{}", i)));
  }
  routes.insert(routes.begin(), forward({{"path", "/api/7/x"}}, "before"));
  routes.push_back(forward({{"safe_regex", {{"regex", "/api/.*"}}}}, "regex"));
  routes.push_back(forward({{"prefix", "/"}}, "rest"));
  const RouteTable table = tableOf(routes);
  EXPECT_TRUE(table.hosts[0].index.used);
  EXPECT_EQ(byPath(table, "/api/7/x"), "before");
  EXPECT_EQ(byPath(table, "/api/8/x"), "prefix8");  // the prefix stands first
  EXPECT_EQ(byPath(table, "/api/499/y?z"), "prefix499");
  EXPECT_EQ(byPath(table, "/api/499"), "regex");
  EXPECT_EQ(byPath(table, "/other"), "rest");
}

TEST(RouteSelect, MorePrefixLengthsThanListsStillMatch) {
  json routes = json::array();
  for (int i = 0; i < 100; ++i) {
    json match = {{"prefix", "/" + std::string(static_cast<std::size_t>(i), 'a')},
                  {"headers", {{{"name", "x"}, {"string_match", {{"exact", std::to_string(i)}}}}}}};
    routes.push_back(forward(match, std::to_string(i)));
  }
  const RouteTable table = tableOf(routes);
  const http::HeaderMap headers{
      {":authority", "a"}, {":path", "/" + std::string(99, 'a')}, {"x", "42"}};
  EXPECT_EQ(chosen(table, headers), "42");
}

TEST(RouteSelect, ChoosesClustersByWeight) {
  json weighted = {{"clusters", {{{"name", "a"}, {"weight", 1}}, {{"name", "b"}, {"weight", 3}}}}};
  const RouteTable table =
      tableOf({{{"match", {{"prefix", "/"}}}, {"route", {{"weighted_clusters", weighted}}}}});
  const auto& action = std::get<ForwardAction>(table.hosts[0].routes[0].action);
  int counts[2] = {};
  for (std::uint64_t i = 0; i < 100; ++i) ++counts[chooseCluster(action, i).name == "b" ? 1 : 0];
  EXPECT_EQ(counts[0], 25);
  EXPECT_EQ(counts[1], 75);
}

TEST(RouteConfig, RefusesWhatItDoesNotHonourByPath) {
  auto refused = [](json route) {
    json host = {{"name", "h"}, {"domains", {"*"}}, {"routes", {std::move(route)}}};
    auto table = build({{"virtual_hosts", {host}}});
    return table ? std::string("accepted") : table.error().message();
  };
  const std::string at = "route.virtual_hosts[0].routes[0].";
  EXPECT_EQ(refused({{"match", {{"prefix", "/"}}},
                     {"route",
                      {{"cluster", "c"}, {"hedge_policy", {{"hedge_on_per_try_timeout", true}}}}}}),
            at + "route.hedge_policy: is not supported");
  EXPECT_EQ(refused({{"match", {{"prefix", "/"}}}}),
            "route.virtual_hosts[0].routes[0]: needs one of route, redirect, direct_response");
  EXPECT_TRUE(
      refused({{"match", {{"safe_regex", {{"regex", "("}}}}}, {"route", {{"cluster", "c"}}}})
          .starts_with(at + "match.safe_regex.regex: is not a valid"));
  json header = {{"header", {{"key", "x"}, {"value", "%NOT_AN_OPERATOR%"}}}};
  EXPECT_EQ(refused({{"match", {{"prefix", "/"}}},
                     {"route", {{"cluster", "c"}}},
                     {"request_headers_to_add", {header}}}),
            at + "request_headers_to_add[0].header.value: '%NOT_AN_OPERATOR%' is not a supported "
                 "operator");
}

TEST(RouteConfig, RefusesADomainOfTwoHosts) {
  json a = {{"name", "a"}, {"domains", {"x.y"}}};
  json b = {{"name", "b"}, {"domains", {"X.y"}}};
  auto table = build({{"virtual_hosts", {a, b}}});
  ASSERT_FALSE(table);
  EXPECT_EQ(table.error().message(),
            "route.virtual_hosts[1].domains: \"x.y\" is claimed by two virtual hosts");
}

}  // namespace
}  // namespace postern::proxy
