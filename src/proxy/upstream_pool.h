// HTTP connections to the hosts of clusters, of one worker. A request takes the connection that
// became free last, so that unused ones grow old and end; with HTTP/2 many requests share one.
// Where connections begin with a PROXY header, only requests of that header share them.
// Limits of the cluster hold: connections, waiting requests. Loop thread.
#pragma once

#include "base/intrusive_list.h"
#include "formatter/access_record.h"
#include "http/client.h"
#include "proxy/cluster.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postern::proxy {

enum class PoolFailure : unsigned char {
  kPendingOverflow,  // a circuit breaker: too many requests wait
  kRequestOverflow,  // a circuit breaker: too many requests run
  kConnectFailure,   // refused, unreachable, broken handshake
  kConnectTimeout,
};

/// What a request may know of the connection it was given.
struct PooledConnection {
  http::ClientConnection& client;
  std::string_view local;  // address text, owned by the connection
  std::uint64_t id;
  bool http2;
  const std::shared_ptr<const formatter::UpstreamTls>& tls;  // null: plain
};

class UpstreamPool {
  class Connection;
  class HostPool;

 public:
  /// A request that wants a connection. Told at most once, perhaps before acquire() returns.
  class Waiter : public base::ListHook<> {
   public:
    virtual ~Waiter() = default;
    /// Must open a stream on the connection before returning.
    virtual void onReady(const PooledConnection& connection) = 0;
    /// `error` says more when connecting failed.
    virtual void onFailed(PoolFailure failure, base::Error error) = 0;

   private:
    friend class HostPool;
    friend class UpstreamPool;
    HostPool* pool_ = nullptr;  // where it waits
  };

  explicit UpstreamPool(event::Loop& loop);
  ~UpstreamPool();
  UpstreamPool(const UpstreamPool&) = delete;
  UpstreamPool& operator=(const UpstreamPool&) = delete;

  /// How a connection that was idle is chosen. A peer may have closed it and this turn of the loop
  /// has not seen it yet: kProbed looks (one system call), for requests that cannot be sent again.
  enum class Idle : bool { kTrusted, kProbed };
  /// kAuto: by ALPN.
  void acquire(const ClusterPtr& cluster, const HostPtr& host, http::Protocol protocol,
               RoutingPriority priority, Idle idle, const ConnectionFacts& downstream,
               Waiter& waiter);
  /// Connections that only served this downstream connection end.
  void downstreamGone(const ConnectionFacts& downstream);
  /// The waiter is told nothing any more; harmless when it was told.
  void cancel(Waiter& waiter);
  /// Ends idle connections to a host now, the others when their requests are over.
  void hostRemoved(const HostPtr& host);

 private:
  struct Key {
    const Host* host;
    unsigned char variant;  // protocol and priority
    std::string greeting;   // what its connections begin with
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return (reinterpret_cast<std::uintptr_t>(key.host) >> 4) * 0x9e3779b97f4a7c15ULL +
             key.variant + std::hash<std::string>()(key.greeting);
    }
  };
  void forgetEmpty();

  event::Loop& loop_;
  event::Soon forget_;
  std::unordered_map<Key, std::unique_ptr<HostPool>, KeyHash> pools_;
  std::vector<std::unique_ptr<HostPool>> retired_;  // until their last connection ends
  std::uint64_t last_id_ = 0;
  bool has_private_ = false;
};

}  // namespace postern::proxy
