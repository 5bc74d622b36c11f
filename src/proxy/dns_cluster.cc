#include "proxy/dns_cluster.h"

#include "proxy/logs.h"

#include <algorithm>

namespace postern::proxy {

namespace {

/// Most addresses taken of one name.
constexpr std::size_t kAddressesMax = 512;

}  // namespace

struct DnsCluster::Name {
  Name(event::Loop& loop, DnsCluster& owner, std::string n, std::uint16_t p)
      : name(std::move(n)), port(p), refresh(loop, [this, &owner] { owner.lookUp(*this); }) {}
  const std::string name;
  const std::uint16_t port;
  std::vector<net::Address> addresses;
  bool answered = false;
  std::unique_ptr<net::Resolver::Query> query;
  event::Timer refresh;
};

DnsCluster::DnsCluster(event::Loop& loop, net::Resolver& resolver, base::Random& random,
                       stats::Store& stats, std::shared_ptr<const Cluster> config,
                       base::Function<void()> changed)
    : resolver_(resolver),
      random_(random),
      config_(std::move(config)),
      stats_(stats.scope("cluster." + config_->stat_name + ".")),
      changed_(std::move(changed)) {
  for (const LocalityEndpoints& locality : config_->assignment.localities) {
    for (const Endpoint& endpoint : locality.endpoints) {
      if (endpoint.address) continue;
      names_.push_back(std::make_unique<Name>(loop, *this, endpoint.name, endpoint.port));
    }
  }
  unanswered_ = names_.size();
  if (unanswered_ == 0) {
    assignment_ = std::make_shared<LoadAssignment>(config_->assignment);
    return;
  }
  for (const auto& name : names_) lookUp(*name);
}

DnsCluster::~DnsCluster() = default;

void DnsCluster::lookUp(Name& name) {
  stats_.counter("update_attempt").add();
  name.query = resolver_.resolve(
      name.name, config_->dns_family,
      [this, &name](base::Result<net::DnsAnswer> answer) { answered(name, std::move(answer)); });
}

void DnsCluster::answered(Name& name, base::Result<net::DnsAnswer> answer) {
  base::Duration after = config_->dns_refresh;
  if (answer && config_->respect_dns_ttl && answer->ttl.count() > 0) after = answer->ttl;
  if (config_->dns_jitter.count() > 0) {
    after += std::chrono::milliseconds(
        random_.below(static_cast<std::uint64_t>(config_->dns_jitter.count())));
  }
  name.refresh.arm(after);
  bool changed = false;
  if (!name.answered) {
    name.answered = true;
    changed = --unanswered_ == 0;
  }
  // No address any more is an answer, too: the last ones may be somebody else's by now. A logical
  // name keeps the one it has.
  if (!answer && answer.error().code == base::Errc::kNotFound) {
    answer = net::DnsAnswer{};
    if (config_->type == Cluster::Type::kLogicalDns) answer->addresses = name.addresses;
  }
  if (!answer) {  // the last good answer stays in use
    stats_.counter("update_failure").add();
    kUpstreamLog.debug("cluster {}: {}: {}", config_->name, name.name, answer.error().message());
  } else {
    stats_.counter("update_success").add();
    auto& addresses = answer->addresses;
    if (addresses.size() > kAddressesMax) addresses.resize(kAddressesMax);
    for (net::Address& each : addresses) each.setPort(name.port);
    // A server that rotates its answers changes nothing.
    std::sort(addresses.begin(), addresses.end(),
              [](const auto& a, const auto& b) { return a.toString() < b.toString(); });
    changed = changed || addresses != name.addresses;
    name.addresses = std::move(addresses);
  }
  if (changed && unanswered_ == 0) publish();
}

void DnsCluster::publish() {
  auto out = std::make_shared<LoadAssignment>(config_->assignment);
  auto name = names_.begin();
  for (LocalityEndpoints& locality : out->localities) {
    std::vector<Endpoint> endpoints;
    for (Endpoint& endpoint : locality.endpoints) {
      if (endpoint.address) {
        endpoints.push_back(std::move(endpoint));
        continue;
      }
      for (const net::Address& address : (*name++)->addresses) {
        Endpoint resolved = endpoint;
        resolved.address = address;
        endpoints.push_back(std::move(resolved));
        // A logical name is one host, whichever address it has at the moment.
        if (config_->type == Cluster::Type::kLogicalDns) break;
      }
    }
    locality.endpoints = std::move(endpoints);
  }
  assignment_ = std::move(out);
  changed_();
}

}  // namespace postern::proxy
