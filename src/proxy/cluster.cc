#include "proxy/cluster.h"

#include <random>

namespace postern::proxy {

namespace {
constexpr auto kDnsRefresh = std::chrono::seconds(5);
}

ClusterState::ClusterState(event::Loop& loop, net::Resolver& resolver, const Cluster& config)
    : loop_(loop),
      resolver_(resolver),
      config_(config),
      addresses_(config.endpoints.size()),
      queries_(config.endpoints.size()),
      refresh_(loop, [this] { lookUp(); }) {
  for (std::size_t i = 0; i < config.endpoints.size(); ++i) {
    const Endpoint& endpoint = config.endpoints[i];
    if (auto address = net::Address::fromIp(endpoint.host, endpoint.port))
      addresses_[i] = {*address};
  }
  if (config.type == Cluster::Type::kStrictDns) lookUp();
}

void ClusterState::lookUp() {
  for (std::size_t i = 0; i < config_.endpoints.size(); ++i) {
    queries_[i] = resolver_.resolve(config_.endpoints[i].host, net::DnsFamily::kV4Preferred,
                                    [this, i](base::Result<net::DnsAnswer> answer) {
                                      if (!answer) return;  // The last good answer stays in use.
                                      for (net::Address& each : answer->addresses)
                                        each.setPort(config_.endpoints[i].port);
                                      addresses_[i] = std::move(answer->addresses);
                                    });
  }
  refresh_.arm(kDnsRefresh);
}

std::optional<net::Address> ClusterState::pick(const std::optional<net::Address>& original) {
  if (config_.type == Cluster::Type::kOriginalDst) return original;
  std::size_t total = 0;
  for (const auto& each : addresses_) total += each.size();
  if (total == 0) return std::nullopt;
  std::size_t index = next_++ % total;
  for (const auto& each : addresses_) {
    if (index < each.size()) return each[index];
    index -= each.size();
  }
  return std::nullopt;
}

std::unique_ptr<net::Transport> ClusterState::connect(const net::Address& to) {
  net::ConnectOptions options;
  options.bind = config_.source;
  return net::connectTransport(loop_, to, options);
}

ClusterManager::ClusterManager(event::Loop& loop, const Config& config)
    : resolver_(net::makeResolver(loop)) {
  for (const Cluster& each : config.clusters)
    clusters_.emplace(each.name, std::make_unique<ClusterState>(loop, *resolver_, each));
}

ClusterState* ClusterManager::find(const std::string& name) {
  auto it = clusters_.find(name);
  return it == clusters_.end() ? nullptr : it->second.get();
}

const std::string& ClusterManager::choose(const std::vector<WeightedCluster>& clusters) {
  thread_local std::minstd_rand random{std::random_device{}()};
  std::uint64_t total = 0;
  for (const WeightedCluster& each : clusters) total += each.weight;
  std::uint64_t at = total == 0 ? 0 : random() % total;
  for (const WeightedCluster& each : clusters) {
    if (at < each.weight) return each.name;
    at -= each.weight;
  }
  return clusters.front().name;
}

}  // namespace postern::proxy
