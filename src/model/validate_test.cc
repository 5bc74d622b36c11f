#include "model/validate.h"

#include "json/json.h"
#include "model/findings.h"
#include "model/host.h"
#include "model/parse.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>

namespace postern::model {
namespace {

std::vector<base::ConfigError> check(const char* kind, const std::string& yaml) {
  auto object = json::parseYaml(yaml);
  EXPECT_TRUE(object.has_value());
  return validate(kind, *object);
}
bool hasError(const std::vector<base::ConfigError>& errors, const std::string& path) {
  for (const auto& error : errors) {
    if (error.path == path) return true;
  }
  return false;
}
std::string gateway(const std::string& servers) {
  return "metadata: {name: g, namespace: default}\nspec: {selector: {a: b}, servers: [" + servers +
         "]}\n";
}
std::string server(const std::string& number, const std::string& protocol,
                   const std::string& name) {
  return "{port: {number: " + number + ", protocol: " + protocol + ", name: " + name +
         "}, hosts: [a.example.com]}";
}

TEST(ValidateTest, GatewayPorts) {
  EXPECT_TRUE(check("Gateway", gateway(server("80", "HTTP", "http"))).empty());
  for (const char* bad : {"0", "70000", "15090", "-1"}) {
    EXPECT_TRUE(hasError(check("Gateway", gateway(server(bad, "HTTP", "http"))),
                         "spec.servers[0].port.number"))
        << bad;
  }
  EXPECT_TRUE(hasError(check("Gateway", gateway(server("80", "FTP", "x"))),
                       "spec.servers[0].port.protocol"));
  EXPECT_TRUE(hasError(
      check("Gateway", gateway(server("80", "HTTP", "x") + "," + server("80", "TCP", "y"))),
      "spec.servers[1].port.protocol"));
}

TEST(ValidateTest, VirtualServiceHostsAndWeights) {
  const std::string head = "metadata: {name: v, namespace: default}\nspec:\n";
  const std::string http =
      "  http: [{route: [{destination: {host: a}, weight: -1}, {destination: {host: b}, weight: "
      "5}]}]\n";
  const auto errors = check("VirtualService", head + "  hosts: [x.com, x.com]\n" + http);
  EXPECT_TRUE(hasError(errors, "spec.hosts[1]"));
  EXPECT_TRUE(hasError(errors, "spec.http[0].route[0].weight"));
  EXPECT_TRUE(hasError(check("VirtualService", head + http), "spec.hosts"));
  EXPECT_TRUE(
      hasError(check("VirtualService", head + "  hosts: [a]\n  http: [{}]\n"), "spec.http[0]"));
  EXPECT_TRUE(hasError(
      check("VirtualService", head + "  hosts: [a]\n  http: [{match: [{uri: {regex: '('}}], route: "
                                     "[{destination: {host: b}}]}]\n"),
      "spec.http[0].match[0].uri.regex"));
}

struct Refused {
  const char* kind;
  const char* spec;
  const char* path;
};

TEST(ValidateTest, NamesTheFieldOfEachMistake) {
  const char* const to = "route: [{destination: {host: a}}]";
  const Refused table[] = {
      {"Gateway", "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [short]}]}",
       "spec.servers[0].hosts[0]"},
      {"Gateway", "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['a*.b']}]}",
       "spec.servers[0].hosts[0]"},
      {"Gateway",
       "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*'], bind: x}]}",
       "spec.servers[0].bind"},
      {"Gateway",
       "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*'], tls: {mode: "
       "SIMPLE}}]}",
       "spec.servers[0].tls"},
      {"Gateway",
       "{servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: "
       "SIMPLE}}]}",
       "spec.servers[0].tls.credentialName"},
      {"Gateway", "{servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*']}]}",
       "spec.servers[0].tls"},
      {"VirtualService", "timeout: 0s, @", "spec.http[0].timeout"},
      {"VirtualService", "timeout: 1us, @", "spec.http[0].timeout"},
      {"VirtualService", "redirect: {scheme: ftp}", "spec.http[0].redirect.scheme"},
      {"VirtualService", "redirect: {uri: /a, redirectCode: 200}",
       "spec.http[0].redirect.redirectCode"},
      {"VirtualService", "redirect: {prefixRewrite: /a}", "spec.http[0].redirect.prefixRewrite"},
      {"VirtualService", "directResponse: {status: 600}", "spec.http[0].directResponse.status"},
      {"VirtualService", "redirect: {uri: /a}, @", "spec.http[0]"},
      {"VirtualService", "fault: {}, @", "spec.http[0].fault"},
      {"VirtualService", "fault: {abort: {httpStatus: 99}}, @",
       "spec.http[0].fault.abort.httpStatus"},
      {"VirtualService", "fault: {delay: {percentage: {value: 101}, fixedDelay: 1s}}, @",
       "spec.http[0].fault.delay.percentage.value"},
      {"VirtualService", "retries: {attempts: 0, retryOn: 5xx}, @",
       "spec.http[0].retries.attempts"},
      {"VirtualService", "retries: {attempts: 1, retryOn: 'sometimes'}, @",
       "spec.http[0].retries.retryOn"},
      {"VirtualService", "headers: {response: {set: {Host: x}}}, @",
       "spec.http[0].headers.response.set[Host]"},
      {"VirtualService", "headers: {request: {set: {':path': x}}}, @",
       "spec.http[0].headers.request.set[:path]"},
      {"VirtualService", "headers: {request: {add: {'a b': x}}}, @",
       "spec.http[0].headers.request.add[a b]"},
      {"VirtualService", "rewrite: {authority: x}, headers: {request: {set: {Host: y}}}, @",
       "spec.http[0].rewrite.authority"},
      {"VirtualService", "match: [{method: {prefix: ''}}], @",
       "spec.http[0].match[0].method.prefix"},
      {"VirtualService", "route: [{destination: {host: a, subset: No_Label}}]",
       "spec.http[0].route[0].destination.subset"},
      {"VirtualService", "route: [{destination: {host: a, port: {number: 70000}}}]",
       "spec.http[0].route[0].destination.port.number"},
      {"DestinationRule", "{host: a, trafficPolicy: {}}", "spec.trafficPolicy"},
      {"DestinationRule", "{host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}}",
       "spec.trafficPolicy.connectionPool.tcp.maxConnections"},
      {"DestinationRule", "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 0}}]}}",
       "spec.trafficPolicy.portLevelSettings[0].port.number"},
      {"DestinationRule", "{host: a, exportTo: ['*', x]}", "spec.exportTo[0]"},
      {"ServiceEntry",
       "{hosts: [a.b], ports: [{number: 1, name: x, protocol: TCP}], resolution: STATIC, "
       "endpoints: "
       "[{address: a.b}]}",
       "spec.endpoints[0].address"},
      {"ServiceEntry",
       "{hosts: [a.b], ports: [{number: 1, name: x, protocol: TCP}], resolution: DNS, addresses: "
       "[10.0.0.0/8]}",
       "spec.addresses[0]"},
      {"ServiceEntry",
       "{hosts: [a.b, c.d], ports: [{number: 1, name: x, protocol: TCP}], resolution: DNS}",
       "spec.ports[0].protocol"},
      {"ServiceEntry",
       "{hosts: [a.b], ports: [{number: 1, name: x}], resolution: STATIC, endpoints: [{address: "
       "1.1.1.1, ports: {y: 5}}]}",
       "spec.endpoints[0].ports[y]"},
      {"Sidecar", "{egress: [{hosts: ['./*']}, {hosts: ['*/*'], port: {number: 80}}]}",
       "spec.egress[0]"},
      {"Sidecar", "{egress: [{hosts: ['a.b']}]}", "spec.egress[0].hosts[0]"},
  };
  for (const Refused& each : table) {
    std::string spec = each.spec;
    if (std::string_view(each.kind) == "VirtualService") {
      if (const auto at = spec.find('@'); at != std::string::npos) spec.replace(at, 1, to);
      spec = "{hosts: [a.b], http: [{" + spec + "}]}";
    }
    const auto errors =
        check(each.kind, "metadata: {name: x, namespace: default}\nspec: " + spec + "\n");
    EXPECT_TRUE(hasError(errors, each.path))
        << spec << " lacks " << each.path
        << (errors.empty() ? "" : ", says " + errors[0].message());
  }
}

TEST(ValidateTest, SniHostsMustBeOfTheService) {
  const std::string spec =
      "spec: {hosts: ['*.a.org'], tls: [{match: [{sniHosts: [%]}], route: [{destination: {host: "
      "b}}]}]}\n";
  const auto with = [&](const char* host) {
    std::string text = "metadata: {name: x, namespace: default}\n" + spec;
    text.replace(text.find('%'), 1, host);
    return check("VirtualService", text);
  };
  EXPECT_TRUE(with("x.a.org").empty());
  EXPECT_TRUE(hasError(with("x.b.org"), "spec.tls[0].match[0].sniHosts[0]"));
}

TEST(ValidateTest, WrongTypesNeverThrow) {
  for (const char* kind :
       {"Gateway", "VirtualService", "ServiceEntry", "DestinationRule", "Sidecar"}) {
    for (const char* yaml : {"1", "[]", "{spec: 5}",
                             "{spec: {hosts: {a: 1}, servers: [3, {port: "
                             "x}], http: [1, {match: 5, route: [7]}], ports: [null]}}"}) {
      check(kind, yaml);
      findings(kind, *json::parseYaml(yaml), nullptr);
    }
  }
}

TEST(ParseTest, DurationsProtocolsAndHosts) {
  EXPECT_EQ(parseDuration("1h30m"), "5400s");
  EXPECT_EQ(parseDuration("250ms"), "0.25s");
  EXPECT_EQ(parseDuration("5"), "");
  EXPECT_EQ(parseDuration("x"), "");
  EXPECT_EQ(parseDuration("2562047h"), "9223369200s");
  EXPECT_EQ(parseDuration("2562048h"), "");
  EXPECT_EQ(protocolOf("", "http-web", 80), Protocol::kHttp);
  EXPECT_EQ(protocolOf("", "web", 3306), Protocol::kTcp);
  EXPECT_EQ(protocolOf("kubernetes.io/h2c", "tcp", 1), Protocol::kHttp2);
  EXPECT_EQ(protocolOf("", "web", 80), Protocol::kUnknown);
  EXPECT_EQ(completeHost("a", "ns", "cluster.local"), "a.ns.svc.cluster.local");
  EXPECT_EQ(hostIntersection("*", "a.b"), "a.b");
  EXPECT_EQ(hostIntersection("*.b", "a.c"), "");
}

}  // namespace
}  // namespace postern::model
