#include "network/network.h"

#include "base/log.h"
#include "event/loop.h"
#include "kube/informer.h"
#include "network/dns_names.h"
#include "network/dns_server.h"
#include "network/host_ports.h"
#include "network/namespace_scope.h"
#include "network/netfilter.h"
#include "network/pod_links.h"
#include "network/relay.h"
#include "network/relay_table.h"
#include "network/resolv_conf.h"
#include "network/service_rules.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace postern::network {
namespace {

base::LogComponent network_log("network");

// Changes come in groups (a Deployment's pods, a Service and its slice).
constexpr std::chrono::milliseconds kGather{2};
constexpr std::chrono::milliseconds kUntilSynced{5};

constexpr std::size_t kRuleThreadsMax = 8;
constexpr std::size_t kPodsPerRuleThread = 4;

class NetworkImpl final : public Network {
 public:
  explicit NetworkImpl(NetworkOptions options) : options_(std::move(options)) {}
  ~NetworkImpl() override {
    if (!thread_.joinable()) return;
    loop_.post([this] {
      changed_.reset();
      host_ports_.reset();
      dns_.reset();
      loop_.stop();
    });
    thread_.join();
    // Only now: update() read them. Their handlers' posts no longer run.
    services_.reset();
    slices_.reset();
  }

  base::Result<void> open();
  void follow(kube::Client& client) override;
  base::Result<std::string> attach(const std::string& pod_uid, int netns_fd,
                                   const std::string& wanted_ip) override;
  void detach(const std::string& pod_uid) override;
  void detachAllBut(const std::vector<std::string>& pod_uids) override;

 private:
  // On the loop.
  void gather();
  void update();
  void applyEverywhere(const std::vector<ServicePort>& ports);
  void applyToPods();  // with the mutex held

  const NetworkOptions options_;
  event::Loop loop_;
  std::thread thread_;
  std::unique_ptr<DnsServer> dns_;
  std::unique_ptr<event::Timer> changed_;
  std::unique_ptr<HostPorts> host_ports_;
  std::unique_ptr<kube::Informer> services_;
  std::unique_ptr<kube::Informer> slices_;
  std::string relay_table_;  // as last written

  std::mutex mutex_;  // guards what follows
  std::optional<PodLinks> links_;
  std::optional<NetfilterSocket> node_rules_;
  std::map<std::string, NetfilterSocket> pods_;  // by uid
  std::string pod_batch_;
  std::string node_batch_;
  bool followed_ = false;  // the batches hold what the API says
};

base::Result<void> NetworkImpl::open() {
  POSTERN_TRY(PodLinks links, PodLinks::open());
  links_.emplace(std::move(links));
  POSTERN_TRY(NetfilterSocket rules, NetfilterSocket::open());
  node_rules_.emplace(std::move(rules));
  POSTERN_TRY_VOID(node_rules_->apply(nodeRules(kBridge, kRelayPort)));
  pod_batch_ = serviceRules(dnsServicePorts(kDnsServiceAddress, kNodeAddress), RulesFor::kPod);

  DnsServer::Options dns;
  dns.address = *net::Address::fromIp(kNodeAddress, kDnsPort);
  dns.resolvers = resolversIn(options_.resolv_conf);
  dns.host_sockets = options_.run_folder + "/" + kHostSocketsFile;
  dns.names =
      std::make_shared<const DnsNames>(DnsNamesInput{{}, {}, externalHosts(options_.externals)});
  POSTERN_TRY(dns_, DnsServer::start(loop_, std::move(dns)));
  changed_ = std::make_unique<event::Timer>(loop_, [this] { update(); });
  thread_ = std::thread([this] { loop_.run(); });
  return {};
}

void NetworkImpl::follow(kube::Client& client) {
  services_ = kube::Informer::start(client, kube::types::kService);
  slices_ = kube::Informer::start(client, kube::types::kEndpointSlice);
  loop_.post([this, &client] {
    host_ports_ = std::make_unique<HostPorts>(loop_, client, options_.run_folder);
    changed_->arm(kUntilSynced);
  });
  const auto gather_later = [this](const kube::InformerEvent&) {
    loop_.post([this] { gather(); });
  };
  services_->addHandler(gather_later);
  slices_->addHandler(gather_later);
}

void NetworkImpl::gather() {
  if (changed_ && !changed_->armed()) changed_->arm(kGather);
}

void NetworkImpl::update() {
  if (!services_->synced() || !slices_->synced()) {
    changed_->arm(kUntilSynced);
    return;
  }
  const std::vector<ObjectPtr> services = services_->list();
  const std::vector<ObjectPtr> slices = slices_->list();
  std::vector<ServicePort> ports = dnsServicePorts(kDnsServiceAddress, kNodeAddress);
  for (ServicePort& port : servicePorts(services, slices)) ports.push_back(std::move(port));
  applyEverywhere(ports);
  dns_->setNames(std::make_shared<const DnsNames>(
      DnsNamesInput{services, slices, externalHosts(options_.externals)}));
  const std::string table = relayTable(ports);
  if (table == relay_table_) return;
  const auto written = writeFileAtomically(options_.run_folder + "/" + kRelayTableFile, table);
  if (written) {
    relay_table_ = table;
  } else {
    network_log.error("cannot write the relay's table: {}", written.error().message());
  }
}

void NetworkImpl::applyEverywhere(const std::vector<ServicePort>& ports) {
  std::size_t left_out = 0;
  std::string pod_batch = serviceRules(ports, RulesFor::kPod, &left_out);
  std::string node_batch = serviceRules(ports, RulesFor::kNode);
  const std::lock_guard lock(mutex_);
  if (followed_ && pod_batch == pod_batch_ && node_batch == node_batch_) return;
  if (left_out > 0) network_log.error("{} service ports are too many: left out", left_out);
  pod_batch_ = std::move(pod_batch);
  node_batch_ = std::move(node_batch);
  followed_ = true;
  if (const auto done = node_rules_->apply(node_batch_); !done) {
    network_log.error("service rules of the node: {}", done.error().message());
  }
  applyToPods();
}

// The kernel needs about a millisecond of one core per namespace.
void NetworkImpl::applyToPods() {
  std::vector<std::pair<const std::string*, const NetfilterSocket*>> all;
  for (const auto& [uid, rules] : pods_) all.emplace_back(&uid, &rules);
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < all.size(); i = next++) {
      const auto done = all[i].second->apply(pod_batch_);
      if (done) continue;
      network_log.error("service rules of pod {}: {}", *all[i].first, done.error().message());
    }
  };
  const std::size_t threads = std::min<std::size_t>(
      {kRuleThreadsMax, std::thread::hardware_concurrency(), all.size() / kPodsPerRuleThread});
  std::vector<std::jthread> helpers;
  for (std::size_t i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
}

base::Result<std::string> NetworkImpl::attach(const std::string& pod_uid, int netns_fd,
                                              const std::string& wanted_ip) {
  const std::lock_guard lock(mutex_);
  const std::vector<std::string> known = links_->uids();
  const bool adopted = std::find(known.begin(), known.end(), pod_uid) != known.end();
  POSTERN_TRY(std::string ip, links_->attach(pod_uid, netns_fd, wanted_ip));
  pods_.erase(pod_uid);
  POSTERN_TRY(const NamespaceScope pod, NamespaceScope::enter(netns_fd));
  POSTERN_TRY(NetfilterSocket rules, NetfilterSocket::open());
  // An adopted pod has rules of the predecessor, which are better than those for no Services.
  if (followed_ || !adopted) POSTERN_TRY_VOID(rules.apply(pod_batch_));
  pods_.emplace(pod_uid, std::move(rules));
  return ip;
}

void NetworkImpl::detach(const std::string& pod_uid) {
  const std::lock_guard lock(mutex_);
  pods_.erase(pod_uid);
  links_->detach(pod_uid);
}

void NetworkImpl::detachAllBut(const std::vector<std::string>& pod_uids) {
  const std::lock_guard lock(mutex_);
  for (const std::string& uid : links_->uids()) {
    if (std::find(pod_uids.begin(), pod_uids.end(), uid) != pod_uids.end()) continue;
    pods_.erase(uid);
    links_->detach(uid);
  }
}

}  // namespace

base::Result<std::unique_ptr<Network>> Network::start(NetworkOptions options) {
  auto out = std::make_unique<NetworkImpl>(std::move(options));
  POSTERN_TRY_VOID(out->open());
  return out;
}

std::string Network::resolvConf(std::string_view pod_namespace) {
  return fmt::format(
      "nameserver {}\nsearch {}.svc.cluster.local svc.cluster.local cluster.local\n"
      "options ndots:5\n",
      kDnsServiceAddress, pod_namespace);
}

}  // namespace postern::network
