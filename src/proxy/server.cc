#include "proxy/server.h"

#include "config/supported.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "proxy/admin.h"
#include "proxy/cluster.h"
#include "proxy/listener_state.h"
#include "proxy/logs.h"
#include "proxy/memory_use.h"
#include "proxy/upstream_proxy_protocol.h"

#include <climits>

#include <algorithm>
#include <optional>

#include <sys/resource.h>

namespace postern::proxy {

namespace {

/// An eighth of the descriptors the process may have stays free of accepted connections. It may
/// have as many as the hard limit says: the soft one is for programs that use select().
int acceptedDescriptorMax() {
  constexpr rlim_t kReserveMin = 32;
  constexpr rlim_t kReserveMax = 4096;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return INT_MAX;
  rlimit raised{limit.rlim_max, limit.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  if (limit.rlim_cur > INT_MAX) return INT_MAX;
  const rlim_t reserve = std::clamp(limit.rlim_cur / 8, kReserveMin, kReserveMax);
  return static_cast<int>(std::max(limit.rlim_cur, reserve + 1) - reserve);
}

using envoy::config::bootstrap::v3::Bootstrap;

/// The node as the flags name it.
std::shared_ptr<const Bootstrap> named(std::shared_ptr<const Bootstrap> bootstrap,
                                       const Options& options) {
  if (options.service_node.empty() && options.service_cluster.empty() &&
      options.service_zone.empty()) {
    return bootstrap;
  }
  auto out = std::make_shared<Bootstrap>(*bootstrap);
  auto& node = *out->mutable_node();
  if (!options.service_node.empty()) node.set_id(options.service_node);
  if (!options.service_cluster.empty()) node.set_cluster(options.service_cluster);
  if (!options.service_zone.empty()) node.mutable_locality()->set_zone(options.service_zone);
  return out;
}

}  // namespace

std::string_view toString(ServerState state) {
  switch (state) {
    case ServerState::kLive:
      return "LIVE";
    case ServerState::kDraining:
      return "DRAINING";
    case ServerState::kPreInitializing:
      return "PRE_INITIALIZING";
    case ServerState::kInitializing:
      break;
  }
  return "INITIALIZING";
}

// ---- WorkerThread ----

WorkerThread::WorkerThread(stats::Store& stats, WorkerOptions options)
    : thread_([this, &stats, options] {
        Worker worker(loop_, stats, options);
        worker_ = &worker;
        loop_.run();
        worker_ = nullptr;
      }) {}

WorkerThread::~WorkerThread() {
  // Posted, not called: the loop may not have begun to run, and run() would forget an earlier stop.
  loop_.post([this] { loop_.stop(); });
  thread_.join();
}

void WorkerThread::post(base::Function<void(Worker&)> work) {
  loop_.post([this, work = std::move(work)] { work(*worker_); });
}

// ---- Server ----

Server::Server(event::Loop& loop, Options options)
    : loop_(loop),
      options_(std::move(options)),
      started_(loop.clock().wall()),
      started_at_(loop.now()),
      stats_(std::make_unique<stats::Stats>()),
      main_stats_(stats_->makeStore()),
      connections_(std::make_shared<ConnectionLimit>()),
      drained_(loop, [this] { checkDrained(); }),
      quit_(loop, [this] { stop(); }),
      stop_listening_(loop, [this] { stopListeners(stop_only_); }) {}

Server::~Server() {
  ads_.reset();
  admin_.reset();
  workers_.clear();
}

base::ConfigResult<std::unique_ptr<Server>> Server::make(event::Loop& loop, BootstrapFile bootstrap,
                                                         Options options) {
  std::unique_ptr<Server> out(new Server(loop, std::move(options)));
  std::optional<config::Tolerance> tolerance;
  if (out->options_.allow_unknown_static_fields) tolerance.emplace();
  POSTERN_TRY_VOID(out->start(std::move(bootstrap.message)));
  auto ignored = std::move(bootstrap.unknown_fields);
  if (tolerance) {
    ignored.insert(ignored.end(), tolerance->paths().begin(), tolerance->paths().end());
  }
  out->warnOfIgnored(ignored);
  return out;
}

void Server::warnOfIgnored(const std::vector<std::string>& paths) {
  main_stats_.scope("server.").counter("static_unknown_fields").add(paths.size());
  for (const std::string& path : paths) kMainLog.warning("{}: is not supported, left out", path);
}

base::ConfigResult<void> Server::validate(event::Loop& loop,
                                          const envoy::config::bootstrap::v3::Bootstrap& bootstrap,
                                          const Options& given) {
  std::optional<config::Tolerance> tolerance;
  if (given.allow_unknown_static_fields) tolerance.emplace();
  const auto with_flags = named(std::make_shared<const Bootstrap>(bootstrap), given);
  POSTERN_TRY(const BootstrapValues values, readBootstrap(*with_flags));
  stats::Stats stats;
  ConfigStore::Options options;
  options.bind = false;
  ConfigStore store(loop, stats.makeStore(), std::move(options), nullptr, nullptr);
  return store.addStatic(bootstrap);
}

base::ConfigResult<void> Server::start(
    std::shared_ptr<const envoy::config::bootstrap::v3::Bootstrap> bootstrap) {
  bootstrap_ = named(std::move(bootstrap), options_);
  POSTERN_TRY(values_, readBootstrap(*bootstrap_));
  connections_->max = values_.connections_max;
  POSTERN_TRY_VOID(joinHotRestart());

  ConfigStore::Options store;
  store.workers = options_.concurrency;
  store.reject_unknown_fields = options_.reject_unknown_dynamic_fields;
  store.ignore_unknown_fields = options_.ignore_unknown_dynamic_fields;
  store.connection_limits = values_.connection_limits;
  store.runtime = Runtime(bootstrap_->layered_runtime());
  if (predecessor_ != nullptr) store.inherited = &predecessor_->sockets();
  store_ = std::make_unique<ConfigStore>(
      loop_, main_stats_, std::move(store),
      [this](std::shared_ptr<const Snapshot> snapshot) { publish(std::move(snapshot)); },
      [this](std::string_view type_url, const std::set<std::string>& names) {
        if (ads_ != nullptr) ads_->subscribe(type_url, names);
      });
  POSTERN_TRY_VOID(store_->addStatic(*bootstrap_));
  if (values_.admin) {
    base::Fd inherited;
    if (predecessor_ != nullptr) inherited = predecessor_->takeAdmin(*values_.admin);
    const bool taken = static_cast<bool>(inherited);
    POSTERN_TRY(admin_, Admin::start(*this, *values_.admin, std::move(inherited)));
    if (taken) predecessor_->adminTaken();
  }
  for (std::uint32_t i = 0; i < options_.concurrency; ++i) {
    WorkerOptions worker;
    worker.service_cluster = values_.node.cluster;
    worker.service_node = values_.node.id;
    worker.index = i;
    worker.drain_time = options_.drain_time;
    worker.drain_at_once = options_.drain_immediately;
    worker.limit = connections_;
    worker.descriptor_max = acceptedDescriptorMax();
    worker.overload = overload_state_;
    worker.logs.wait = options_.file_flush_interval;
    worker.logs.write_at_bytes = options_.file_flush_min_size_kb * std::size_t{1024};
    workers_.push_back(std::make_unique<WorkerThread>(stats_->makeStore(), std::move(worker)));
  }
  if (!values_.overload.empty()) {
    overload_ = std::make_unique<OverloadManager>(
        loop_, main_stats_, values_.overload, overload_state_, connections_, [this] {
          for (const auto& worker : workers_) {
            worker->post([config = &values_.overload](Worker& on) { on.relieve(*config); });
          }
        });
    overload_->refresh();
  }
  main_stats_.scope("listener_manager.").gauge("workers_started").set(1);
  main_stats_.scope("server.").gauge("concurrency").set(options_.concurrency);
  started_once_ = true;
  store_->onInitialized([this] { onInitialized(); });
  makeAds();
  // The static clusters are published by this: the control plane's is one of them.
  store_->expect(values_.clusters_timeout, values_.listeners_timeout);
  if (ads_ != nullptr && !options_.saved_config_path.empty()) {
    POSTERN_TRY(saved_, SavedConfig::open(loop_, options_.saved_config_path, values_.node.id));
    store_->restore(saved_->load());
  }
  if (ads_ != nullptr) ads_->start();
  return {};
}

void Server::publish(std::shared_ptr<const Snapshot> snapshot) {
  for (const auto& worker : workers_) {
    worker->post([snapshot](Worker& on) { on.update(snapshot); });
  }
}

// ---- ADS ----

void Server::makeAds() {
  if (!values_.ads) return;
  ads_ = std::make_unique<xds::Client>(
      loop_, values_.node, values_.ads->client, [this] { return openChannel(); },
      [this](std::string_view type_url, const std::vector<xds::Update>& updated,
             const std::vector<std::string>& removed) {
        auto taken = store_->update(type_url, updated, removed);
        if (saved_ != nullptr && store_->initialized()) saved_->changed(*store_);
        return taken;
      });
  if (values_.clusters_timeout) ads_->subscribeAll(api::kClusterType);
  if (values_.listeners_timeout) ads_->subscribeAll(api::kListenerType);
}

std::unique_ptr<http::GrpcChannel> Server::openChannel() {
  const auto it = store_->snapshot().clusters.find(values_.ads->cluster);
  if (it == store_->snapshot().clusters.end()) return nullptr;
  const ClusterEntry& entry = it->second;
  const LoadAssignment& assignment =
      entry.assignment != nullptr ? *entry.assignment : entry.config->assignment;
  std::vector<const Endpoint*> endpoints;
  for (const LocalityEndpoints& locality : assignment.localities) {
    for (const Endpoint& endpoint : locality.endpoints) {
      if (endpoint.address && endpoint.health != Health::kUnhealthy) endpoints.push_back(&endpoint);
    }
  }
  if (endpoints.empty()) return nullptr;
  const Endpoint& chosen = *endpoints[next_address_++ % endpoints.size()];
  http::GrpcChannel::Options options;
  options.address = *chosen.address;
  options.host = values_.ads->authority;
  options.connect_timeout = entry.config->connect_timeout;
  options.message_bytes_max = values_.ads->message_bytes_max;
  options.limits = clientLimits(*entry.config);
  const ClusterSocket* socket = socketFor(*entry.config, chosen.socket_criteria);
  if (socket != nullptr && socket->tls != nullptr) {
    const std::string& hostname = chosen.hostname.empty() ? chosen.name : chosen.hostname;
    options.tls = socket->tls->client();
    options.tls_name = socket->tls->serverName(hostname);
    options.required_san = socket->tls->requiredSan(hostname);
    if (options.tls == nullptr) return nullptr;  // its secrets are not there
  }
  std::string greeting;  // of nobody: there is no client behind it
  if (socket != nullptr && socket->greets) {
    greeting = writeUpstreamHeader(*entry.config->proxy_protocol, ConnectionFacts{},
                                   main_stats_.scope("cluster." + entry.config->stat_name + "."));
  }
  auto transport = connectHost(loop_, *entry.config, *chosen.address, greeting);
  return http::GrpcChannel::over(loop_, std::move(options), std::move(transport));
}

// ---- state, draining, the end ----

ServerState Server::state() const {
  if (health_failed_ || shutting_down_) return ServerState::kDraining;
  if (!started_once_) return ServerState::kPreInitializing;
  return store_->initialized() ? ServerState::kLive : ServerState::kInitializing;
}

void Server::reopenLogs() {
  for (const auto& worker : workers_) {
    worker->post([](Worker& on) { on.reopenLogs(); });
  }
}

const net::Address* Server::adminAddress() const {
  return admin_ == nullptr ? nullptr : &admin_->address();
}

void Server::refreshGauges() {
  stats::Scope& server = main_stats_.scope("server.");
  server.gauge("state").set(static_cast<std::int64_t>(state()));
  server.gauge("live").set(state() == ServerState::kLive ? 1 : 0);
  server.gauge("uptime").set(std::chrono::duration_cast<std::chrono::seconds>(uptime()).count());
  server.gauge("hot_restart_epoch").set(options_.restart_epoch);
  server.gauge("total_connections")
      .set(static_cast<std::int64_t>(connections_->open.load(std::memory_order_relaxed)));
  server.gauge("parent_connections").set(parent_connections_);
  server.gauge("hot_restart_generation").set(std::int64_t{options_.restart_epoch} + 1);
  const MemoryUse memory = memoryUse();
  server.gauge("memory_allocated").set(static_cast<std::int64_t>(memory.allocated));
  server.gauge("memory_heap_size").set(static_cast<std::int64_t>(memory.heap));
  server.gauge("memory_physical_size").set(static_cast<std::int64_t>(memory.physical));
  main_stats_.scope("control_plane.")
      .gauge("connected_state")
      .set(ads_ != nullptr && ads_->connected() ? 1 : 0);
}

}  // namespace postern::proxy
