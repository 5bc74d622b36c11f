// /clusters: hosts and their counters, added up over the workers.
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "proxy/admin.h"
#include "proxy/server.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>

namespace postern::proxy {

namespace {

using json = nlohmann::json;
/// Copies of one worker's hosts, by cluster and address.
using Hosts = std::map<std::string, std::map<std::string, Host>>;

Hosts copyHosts(Worker& worker) {
  Hosts out;
  worker.clusters().each([&](ClusterState& cluster) {
    auto& hosts = out[cluster.config().name];
    for (const HostPtr& host : cluster.hosts()) hosts.emplace(host->address.toString(), *host);
  });
  return out;
}

Hosts sum(const std::vector<Hosts>& all) {
  Hosts out;
  for (const Hosts& one : all) {
    for (const auto& [cluster, hosts] : one) {
      auto& into = out[cluster];
      for (const auto& [address, host] : hosts) {
        const auto [at, added] = into.emplace(address, host);
        if (added) continue;
        Host& to = at->second;
        to.cx_total += host.cx_total;
        to.cx_connect_fail += host.cx_connect_fail;
        to.cx_active += host.cx_active;
        to.rq_total += host.rq_total;
        to.rq_success += host.rq_success;
        to.rq_error += host.rq_error;
        to.rq_timeout += host.rq_timeout;
        to.rq_active += host.rq_active;
      }
    }
  }
  return out;
}

const char* healthFlags(Health health) {
  switch (health) {
    case Health::kHealthy:
      return "healthy";
    case Health::kDegraded:
      return "/degraded_eds_health";
    case Health::kUnhealthy:
      break;
  }
  return "/failed_eds_health";
}

struct Numbers {
  const char* name;
  bool gauge;
  std::int64_t value;
};

std::array<Numbers, 8> numbersOf(const Host& host) {
  const auto count = [](std::uint64_t value) { return static_cast<std::int64_t>(value); };
  return {{{"cx_active", true, host.cx_active},
           {"cx_connect_fail", false, count(host.cx_connect_fail)},
           {"cx_total", false, count(host.cx_total)},
           {"rq_active", true, host.rq_active},
           {"rq_error", false, count(host.rq_error)},
           {"rq_success", false, count(host.rq_success)},
           {"rq_timeout", false, count(host.rq_timeout)},
           {"rq_total", false, count(host.rq_total)}}};
}

const std::string& observedName(const Cluster& cluster) {
  return cluster.observed_name.empty() ? cluster.name : cluster.observed_name;
}

void addText(std::string& out, const Cluster& cluster, bool by_api,
             const std::map<std::string, Host>& hosts) {
  const std::string& name = cluster.name;
  out += fmt::format("{}::observability_name::{}\n", name, observedName(cluster));
  constexpr std::array kPriorities = {"default", "high"};
  for (std::size_t i = 0; i < kPriorities.size(); ++i) {
    const CircuitBreaker& breaker = cluster.breakers[i];
    const std::string prefix = fmt::format("{}::{}_priority::", name, kPriorities[i]);
    out += fmt::format("{}max_connections::{}\n", prefix, breaker.connections_max);
    out += fmt::format("{}max_pending_requests::{}\n", prefix, breaker.pending_max);
    out += fmt::format("{}max_requests::{}\n", prefix, breaker.requests_max);
    out += fmt::format("{}max_retries::{}\n", prefix, breaker.retries_max);
  }
  out += fmt::format("{}::added_via_api::{}\n", name, by_api);
  if (!cluster.eds_name.empty())
    out += fmt::format("{}::eds_service_name::{}\n", name, cluster.eds_name);
  for (const auto& [address, host] : hosts) {
    const std::string prefix = fmt::format("{}::{}::", name, address);
    for (const Numbers& each : numbersOf(host))
      out += fmt::format("{}{}::{}\n", prefix, each.name, each.value);
    out += fmt::format("{}hostname::{}\n", prefix, host.hostname);
    out += fmt::format("{}health_flags::{}\n", prefix, healthFlags(host.health));
    out += fmt::format("{}weight::{}\n", prefix, host.weight);
    out += fmt::format("{}region::{}\n", prefix, host.locality.region);
    out += fmt::format("{}zone::{}\n", prefix, host.locality.zone);
    out += fmt::format("{}sub_zone::{}\n", prefix, host.locality.sub_zone);
    out += fmt::format("{}canary::false\n", prefix);
    out += fmt::format("{}priority::{}\n", prefix, host.priority);
    out += fmt::format("{}success_rate::-1\n", prefix);
    out += fmt::format("{}local_origin_success_rate::-1\n", prefix);
  }
}

json thresholds(const Cluster& cluster) {
  json out = json::array();
  constexpr std::array kPriorities = {"DEFAULT", "HIGH"};
  for (std::size_t i = 0; i < kPriorities.size(); ++i) {
    const CircuitBreaker& breaker = cluster.breakers[i];
    out.push_back({{"priority", kPriorities[i]},
                   {"max_connections", breaker.connections_max},
                   {"max_pending_requests", breaker.pending_max},
                   {"max_requests", breaker.requests_max},
                   {"max_retries", breaker.retries_max}});
  }
  return {{"thresholds", std::move(out)}};
}

json statusOf(const Cluster& cluster, bool by_api, const std::map<std::string, Host>& hosts) {
  json statuses = json::array();
  for (const auto& [address, host] : hosts) {
    json stats = json::array();
    for (const Numbers& each : numbersOf(host)) {
      stats.push_back({{"name", each.name}, {"value", std::to_string(each.value)}});
      if (each.gauge) stats.back()["type"] = "GAUGE";
    }
    const char* health = host.health == Health::kHealthy    ? "HEALTHY"
                         : host.health == Health::kDegraded ? "DEGRADED"
                                                            : "UNHEALTHY";
    statuses.push_back({{"address", addressJson(host.address)},
                        {"stats", std::move(stats)},
                        {"health_status", {{"eds_health_status", health}}},
                        {"weight", host.weight},
                        {"hostname", host.hostname},
                        {"priority", host.priority},
                        {"locality",
                         {{"region", host.locality.region},
                          {"zone", host.locality.zone},
                          {"sub_zone", host.locality.sub_zone}}}});
  }
  json out = {{"name", cluster.name},
              {"added_via_api", by_api},
              {"observability_name", observedName(cluster)},
              {"circuit_breakers", thresholds(cluster)},
              {"host_statuses", std::move(statuses)}};
  if (!cluster.eds_name.empty()) out["eds_service_name"] = cluster.eds_name;
  return out;
}

}  // namespace

void answerClusters(Server& server, const http::Request& request,
                    std::unique_ptr<http::Responder> responder) {
  const bool as_json = request.parameter("format") == "json";
  RE2::Options options;
  options.set_log_errors(false);
  const auto filter = std::make_shared<const RE2>(request.parameter("filter"), options);
  if (!filter->ok())
    return respondText(*responder, 400, "Invalid re2 regex: " + filter->error() + "\n");
  // A worker's hosts are its own: each copies them, the main thread adds them up.
  server.ask<Hosts>(copyHosts, [&server, as_json, filter,
                                responder = std::shared_ptr<http::Responder>(std::move(responder))](
                                   const std::vector<Hosts>& answers) {
    const Hosts hosts = sum(answers);
    static const std::map<std::string, Host> kNone;
    json statuses = json::array();
    std::string text;
    for (const auto& [name, entry] : server.store().snapshot().clusters) {
      if (!RE2::PartialMatch(name, *filter)) continue;
      const auto record = server.store().clusters().find(name);
      const bool by_api = record != server.store().clusters().end() && !record->second.is_static;
      const auto found = hosts.find(name);
      const auto& of_cluster = found == hosts.end() ? kNone : found->second;
      if (as_json) {
        statuses.push_back(statusOf(*entry.config, by_api, of_cluster));
      } else {
        addText(text, *entry.config, by_api, of_cluster);
      }
    }
    if (as_json) return respondJson(*responder, {{"cluster_statuses", std::move(statuses)}});
    respondText(*responder, 200, std::move(text));
  });
}

}  // namespace postern::proxy
