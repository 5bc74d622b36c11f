#include "proxy/cluster.h"

#include "proxy/balancer.h"
#include "proxy/upstream_proxy_protocol.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <unordered_set>

#include <netinet/in.h>
#include <netinet/tcp.h>

namespace postern::proxy {

namespace {

/// True when connections to the host, made before, are what its socket asks for now.
bool sameSecurity(const Host& host, const ClusterSocket* socket, const std::string& hostname) {
  if (host.security != (socket == nullptr ? std::string_view() : socket->fingerprint)) return false;
  const bool named = socket != nullptr && socket->tls != nullptr && socket->tls->sniOfHost();
  return !named || host.hostname == hostname;
}

bool sameSockets(const Cluster& a, const Cluster& b) {
  return std::equal(a.sockets.begin(), a.sockets.end(), b.sockets.begin(), b.sockets.end(),
                    [](const ClusterSocket& one, const ClusterSocket& other) {
                      return one.fingerprint == other.fingerprint && one.criteria == other.criteria;
                    });
}

/// Most destinations an original-destination cluster remembers statistics for.
constexpr std::size_t kOriginalsMax = 16384;
/// How often removed clusters are looked at.
constexpr std::chrono::seconds kForgetInterval{1};
/// Scopes of statistics below "cluster.<name>.".
constexpr std::string_view kScopesBelow[] = {"", "ssl.", "client_ssl_socket_factory.", "udp."};

}  // namespace

ClusterState::ClusterState(event::Loop& loop, base::Random& random, stats::Store& stats,
                           ClusterEntry entry, bool counts_members)
    : loop_(loop),
      random_(random),
      store_(stats),
      entry_(std::move(entry)),
      name_(entry_.config->name),
      observed_name_(entry_.config->observed_name),
      counts_members_(counts_members),
      stats_(stats.scope("cluster." + entry_.config->stat_name + ".")),
      cleanup_(loop, [this] { forgetOriginals(); }) {
  showBreakers();
  rebuild();
}

ClusterState::~ClusterState() = default;

const LoadAssignment& ClusterState::assignment() const {
  return entry_.assignment != nullptr ? *entry_.assignment : entry_.config->assignment;
}

void ClusterState::update(ClusterEntry entry) {
  store_.scope(stats_.scope.prefix());  // shown again after a removal
  if (entry.config->type != entry_.config->type ||
      (entry.config->type == Cluster::Type::kOriginalDst &&
       !sameSockets(*entry.config, *entry_.config))) {
    originals_.clear();
    replaceHosts({});
  }
  entry_ = std::move(entry);
  showBreakers();
  for (auto& [text, host] : originals_) {
    const ClusterSocket* socket = socketFor(config(), {});
    if (socket != nullptr) host->tls = socket->tls;
    host->greets = socket != nullptr && socket->greets;
  }
  rebuild();
}

void ClusterState::retire() {
  originals_.clear();
  replaceHosts({});
}

// ---- hosts ----

void ClusterState::rebuild() {
  // The hosts of an original-destination cluster come with the connections, and stay with them.
  if (config().type == Cluster::Type::kOriginalDst) return;
  std::unordered_map<std::string, HostPtr> before;
  for (const HostPtr& host : hosts_) before.emplace(host->address.toString(), host);
  std::unordered_set<std::string> taken;
  std::vector<HostPtr> hosts;
  for (const LocalityEndpoints& locality : assignment().localities) {
    for (const Endpoint& endpoint : locality.endpoints) {
      if (!endpoint.address) continue;  // a name that is not resolved
      std::string key = endpoint.address->toString();
      auto old = before.find(key);
      // One address is one host: the first to name it decides.
      if (!taken.insert(std::move(key)).second) continue;
      const ClusterSocket* socket = socketFor(config(), endpoint.socket_criteria);
      const std::string& hostname = endpoint.hostname.empty() ? endpoint.name : endpoint.hostname;
      // Connections that were made under another identity, or another trust, are not for this one.
      if (old != before.end() && !sameSecurity(*old->second, socket, hostname)) old = before.end();
      HostPtr host = old != before.end() ? old->second : std::make_shared<Host>();
      host->socket_criteria = endpoint.socket_criteria;
      host->tls = socket == nullptr ? nullptr : socket->tls;
      host->security = socket == nullptr ? "" : socket->fingerprint;
      host->greets = socket != nullptr && socket->greets;
      host->address = *endpoint.address;
      host->hostname = hostname;
      host->locality = locality.locality;
      host->weight = endpoint.weight;
      host->priority = locality.priority;
      host->health = endpoint.health;
      hosts.push_back(std::move(host));
    }
  }
  replaceHosts(std::move(hosts));
}

void ClusterState::replaceHosts(std::vector<HostPtr> hosts) {
  std::vector<HostPtr> before = std::exchange(hosts_, std::move(hosts));
  bool changed = before.size() != hosts_.size();
  const std::unordered_set<HostPtr> now(hosts_.begin(), hosts_.end());
  for (const HostPtr& host : before) {
    if (now.contains(host)) continue;
    changed = true;
    host->removed = true;
    if (on_removed_ != nullptr && *on_removed_) (*on_removed_)(host);
  }
  if (changed && counts_members_) stats_.membership_change.add();
  std::vector<std::uint32_t> weights;
  for (const HostPtr& host : hosts_) {
    std::uint32_t weight = 0;
    for (const LocalityEndpoints& each : assignment().localities) {
      if (each.locality == host->locality && each.priority == host->priority) weight = each.weight;
    }
    weights.push_back(weight);
  }
  const Cluster& cluster = config();
  balancer_ = std::make_unique<Balancer>(
      BalancerOptions{cluster.balancer, cluster.choice_count, cluster.panic_percent,
                      assignment().overprovisioning_percent, cluster.locality_weighted},
      random_, hosts_, weights);
  countMembers(balancer_->healthy(), balancer_->degraded());
}

void ClusterState::countMembers(std::size_t healthy, std::size_t degraded) {
  // Original destinations differ from worker to worker; endpoints do not.
  if (!counts_members_ && config().type != Cluster::Type::kOriginalDst) return;
  stats_.membership_total.set(static_cast<std::int64_t>(hosts_.size()));
  stats_.membership_healthy.set(static_cast<std::int64_t>(healthy));
  stats_.membership_degraded.set(static_cast<std::int64_t>(degraded));
}

HostPtr ClusterState::pick(const PickRequest& request) {
  if (config().type == Cluster::Type::kOriginalDst) {
    if (request.original == nullptr || !request.original->isIp()) {
      stats_.upstream_cx_none_healthy.add();
      return nullptr;
    }
    return originalHost(*request.original);
  }
  HostPtr host;
  for (std::uint32_t i = 0; i < std::max(1U, request.attempts_max); ++i) {
    host = balancer_->pick();
    if (host == nullptr || request.avoid == nullptr) break;
    const auto& avoid = *request.avoid;
    if (std::find(avoid.begin(), avoid.end(), host.get()) == avoid.end()) break;
  }
  if (host == nullptr) stats_.upstream_cx_none_healthy.add();
  if (host != nullptr && balancer_->panicked()) stats_.lb_healthy_panic.add();
  return host;
}

HostPtr ClusterState::originalHost(const net::Address& original) {
  net::Address address = original;
  if (config().original_port_override) address.setPort(*config().original_port_override);
  const std::string key = address.toString();
  auto it = originals_.find(key);
  if (it != originals_.end()) return it->second;
  auto host = std::make_shared<Host>();
  host->address = address;
  if (const ClusterSocket* socket = socketFor(config(), {})) {
    host->tls = socket->tls;
    host->security = socket->fingerprint;
    host->greets = socket->greets;
  }
  if (originals_.size() < kOriginalsMax) {
    originals_.emplace(key, host);
    hosts_.push_back(host);
    stats_.membership_change.add();
    countMembers(hosts_.size(), 0);
    if (!cleanup_.armed()) cleanup_.arm(config().cleanup_interval);
  } else {
    host->removed = true;  // no list has it: its pool goes with its last request
  }
  return host;
}

void ClusterState::forgetOriginals() {
  // A host without connections goes; its pools, which hold it, go with it.
  bool changed = false;
  for (auto it = originals_.begin(); it != originals_.end();) {
    const HostPtr& host = it->second;
    const bool idle = host->cx_active == 0 && host->rq_active == 0;
    if (!idle) {
      ++it;
      continue;
    }
    host->removed = true;
    if (on_removed_ != nullptr && *on_removed_) (*on_removed_)(host);
    hosts_.erase(std::find(hosts_.begin(), hosts_.end(), host));
    it = originals_.erase(it);
    changed = true;
  }
  if (changed) stats_.membership_change.add();
  countMembers(hosts_.size(), 0);
  if (!originals_.empty()) cleanup_.arm(config().cleanup_interval);
}

// ---- connecting ----

const ClusterSocket* socketFor(const Cluster& cluster, const SocketCriteria& criteria) {
  for (const ClusterSocket& each : cluster.sockets) {
    const bool fits =
        std::all_of(each.criteria.begin(), each.criteria.end(), [&](const auto& want) {
          const auto it = criteria.find(want.first);
          return it != criteria.end() && it->second == want.second;
        });
    if (fits) return &each;
  }
  return nullptr;
}

std::unique_ptr<net::Transport> ClusterState::secure(std::unique_ptr<net::Transport> plain,
                                                     const Host& host,
                                                     std::vector<std::string> alpn) {
  const TlsSocket& socket = *host.tls;
  if (tls_stats_ == nullptr)
    tls_stats_ = std::make_unique<stats::TlsStats>(store_, stats_.scope.prefix());
  std::shared_ptr<const tls::ClientContext> context = socket.client();
  if (context == nullptr) {
    store_.scope(stats_.scope.prefix() + "client_ssl_socket_factory.")
        .counter("upstream_context_secrets_not_ready")
        .add();
    return tls::notReady(loop_, std::move(plain));
  }
  tls::ConnectOptions options;
  options.server_name = socket.serverName(host.hostname);
  options.required_san = socket.requiredSan(host.hostname);
  options.alpn = std::move(alpn);
  options.observer = tls_stats_.get();
  return tls::connectTls(loop_, std::move(plain), std::move(context), options);
}

std::string ClusterState::greeting(const Host& host, const ConnectionFacts& downstream) const {
  if (!host.greets || !config().proxy_protocol) return "";
  return writeUpstreamHeader(*config().proxy_protocol, downstream, stats_.scope);
}

std::unique_ptr<net::Transport> connectHost(event::Loop& loop, const Cluster& cluster,
                                            const net::Address& host,
                                            std::string_view first_bytes) {
  net::ConnectOptions options;
  options.first_bytes = first_bytes;
  if (host.isIp() && cluster.source && cluster.source->family() == host.family())
    options.bind = cluster.source;
  auto transport = net::connectTransport(loop, host, options);
  if (cluster.keepalive_time_s && transport->fd() >= 0 && host.isIp()) {
    const auto set = [&](int level, int option, int value) {
      if (value != 0) (void)::setsockopt(transport->fd(), level, option, &value, sizeof value);
    };
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    set(IPPROTO_TCP, TCP_KEEPIDLE, static_cast<int>(*cluster.keepalive_time_s));
    set(IPPROTO_TCP, TCP_KEEPINTVL, static_cast<int>(cluster.keepalive_interval_s));
    set(IPPROTO_TCP, TCP_KEEPCNT, static_cast<int>(cluster.keepalive_probes));
  }
  return transport;
}

http::ClientLimits clientLimits(const Cluster& cluster) {
  http::ClientLimits out;
  out.header_bytes_max = cluster.response_header_bytes_max;
  out.h1_header_bytes_max = cluster.h1_response_header_bytes_max;
  out.header_count_max = cluster.response_header_count_max;
  out.h2 = cluster.h2;
  out.header_case = cluster.h1_header_case;
  out.trailers = cluster.h1_trailers;
  out.absolute_form = cluster.h1_absolute_form;
  out.chunked_beats_length = cluster.h1_chunked_beats_length;
  http::limitUnsent(out, cluster.buffer_bytes_max);
  return out;
}

std::unique_ptr<net::Transport> ClusterState::connect(const Host& host, std::string_view greeting,
                                                      std::vector<std::string> alpn) {
  auto transport = connectHost(loop_, config(), host.address, greeting);
  if (host.tls != nullptr) return secure(std::move(transport), host, std::move(alpn));
  return transport;
}

// ---- ClusterManager ----

ClusterManager::ClusterManager(event::Loop& loop, stats::Store& stats, bool counts_members)
    : loop_(loop),
      stats_(stats),
      counts_members_(counts_members),
      forget_(loop, [this] { forgetUnused(); }) {}

void ClusterManager::update(const Snapshot& snapshot) {
  std::vector<ClusterPtr> removed;
  for (auto it = active_.begin(); it != active_.end();) {
    const auto wanted = snapshot.clusters.find(it->first);
    // Statistics keep their name: under another one it is another cluster.
    if (wanted != snapshot.clusters.end() &&
        wanted->second.config->observed_name == it->second->observedName()) {
      ++it;
      continue;
    }
    it->second->retire();
    removed.push_back(std::move(it->second));
    it = active_.erase(it);
  }
  hideStats(removed);
  std::move(removed.begin(), removed.end(), std::back_inserter(retired_));
  for (const auto& [name, entry] : snapshot.clusters) {
    ClusterPtr& state = active_[name];
    if (state == nullptr) {
      state = revive(name, entry);
      if (state != nullptr) continue;
      state = std::make_shared<ClusterState>(loop_, random_, stats_, entry, counts_members_);
      state->on_removed_ = &on_removed_;
      continue;
    }
    if (state->entry_.config == entry.config && state->entry_.assignment == entry.assignment)
      continue;
    state->update(entry);
  }
  forgetUnused();
}

/// Of clusters that are gone, unless another one counts under the same name.
void ClusterManager::hideStats(const std::vector<ClusterPtr>& removed) {
  if (removed.empty()) return;
  std::unordered_set<std::string_view> shown;
  for (const auto& [name, state] : active_) shown.insert(state->stats().scope.prefix());
  for (const ClusterPtr& state : removed) {
    const std::string& prefix = state->stats().scope.prefix();
    if (!shown.contains(prefix)) stats_.hide(prefix);
  }
}

/// A cluster that comes back while it is still used goes on counting.
ClusterPtr ClusterManager::revive(const std::string& name, const ClusterEntry& entry) {
  const auto it = std::find_if(retired_.begin(), retired_.end(), [&](const ClusterPtr& each) {
    return each->name() == name && each->observedName() == entry.config->observed_name;
  });
  if (it == retired_.end()) return nullptr;
  ClusterPtr out = std::move(*it);
  retired_.erase(it);
  out->update(entry);
  return out;
}

void ClusterManager::forgetUnused() {
  std::vector<std::string> prefixes;
  std::erase_if(retired_, [&](const ClusterPtr& each) {
    if (each.use_count() > 1) return false;
    prefixes.push_back(each->stats().scope.prefix());
    return true;
  });
  if (!retired_.empty() && !forget_.armed()) forget_.arm(kForgetInterval);
  if (prefixes.empty()) return;
  // Two clusters may have one name in the statistics, or one the name of a scope of the other.
  std::unordered_set<std::string_view> used;
  for (const auto& [name, state] : active_) used.insert(state->stats().scope.prefix());
  for (const ClusterPtr& state : retired_) used.insert(state->stats().scope.prefix());
  for (const std::string& prefix : prefixes) {
    if (used.contains(prefix)) continue;
    for (const std::string_view below : kScopesBelow) {
      const std::string scope = prefix + std::string(below);
      if (!used.contains(scope)) stats_.forget(scope);
    }
  }
}

ClusterPtr ClusterManager::find(std::string_view name) const {
  const auto it = active_.find(name);
  return it == active_.end() ? nullptr : it->second;
}

const std::string& ClusterManager::choose(const std::vector<WeightedCluster>& clusters) {
  std::uint64_t total = 0;
  for (const WeightedCluster& each : clusters) total += each.weight;
  std::uint64_t at = total == 0 ? 0 : random_.below(total);
  for (const WeightedCluster& each : clusters) {
    if (at < each.weight) return each.name;
    at -= each.weight;
  }
  return clusters.front().name;
}

}  // namespace postern::proxy
