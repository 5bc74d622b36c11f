// One request and its answer: decoding, routing, filters (fault, CORS), the attempts upstream with
// their retries, the answer, the log. An explicit state machine between two streams; owns itself
// until it is finished. Loop thread; no allocation but what headers need. Internal to the
// connection manager.
//
// Files: exchange.cc (downstream side, end), exchange_deadlines.cc (what takes too long),
// exchange_route.cc (route, the router), exchange_filters.cc (fault, CORS), exchange_rewrite.cc
// (headers, host, path), exchange_upstream.cc (attempts, retries), exchange_failures.cc (what is
// answered when they failed), exchange_reply.cc (answers).
#pragma once

#include "http/stream.h"
#include "proxy/http_connection.h"
#include "proxy/retry_state.h"
#include "proxy/route_select.h"
#include "proxy/upstream_pool.h"

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::proxy {

/// What clients and logs are told of an attempt that failed.
struct FailureText {
  std::string_view text;  // static
  formatter::Flag flag;
};
FailureText failureText(UpstreamFailure failure);

/// After the end of one direction of a tunnel without a byte in the other.
inline constexpr base::Duration kTunnelEndAfter = std::chrono::seconds(1);

class Exchange final : public http::StreamObserver,
                       public UpstreamPool::Waiter,
                       public event::Deferred,
                       public base::ListHook<HttpConnection> {
 public:
  Exchange(HttpConnection& connection, http::Stream& down);
  ~Exchange() override;

  // Exchanges come and go with each request: their memory is kept per thread.
  static void* operator new(std::size_t size);
  static void operator delete(void* memory);

  // ---- downstream: http::StreamObserver ----
  void onHeaders(http::HeaderMap headers, http::End end) override;
  void onData(base::Buffer& data, http::End end) override;
  void onPiped(net::PipedBytes& piece, http::End end) override;
  void onTrailers(http::HeaderMap trailers) override;
  void onWritable() override;
  void onReset(http::ResetReason reason) override;
  bool onRefused(int status, std::string_view details) override;

  // ---- UpstreamPool::Waiter ----
  void onReady(const PooledConnection& connection) override;
  void onFailed(PoolFailure failure, base::Error error) override;

  /// Some deadline of this exchange may have passed.
  void onDeadline(base::MonotonicTime now);
  /// Ends it if its idle timeout were over when made shorter.
  void reduceIdle(const TimerScale& scale, double strength);
  /// What it holds of bodies, in both directions.
  std::size_t bytesHeld() const;
  void resetForOverload();
  base::MonotonicTime nextDeadline() const;

 private:
  using HeaderMap = http::HeaderMap;
  using End = http::End;

  enum class Deadline : unsigned char {
    kRequest,   // the whole request must have come
    kIdle,      // nothing moved in either direction
    kStream,    // the exchange lasts too long
    kResponse,  // the route's timeout
    kPerTry,
    kPerTryIdle,
    kAttempt,    // the cluster's max_stream_duration
    kBackOff,    // time to try again
    kDelay,      // injected by the fault filter
    kLog,        // a line of a request that runs on
    kTunnelEnd,  // one side of a tunnel has ended, the other should
    kCount,
  };

  struct UpSide final : http::StreamObserver {
    explicit UpSide(Exchange& owner) : exchange(owner) {}
    void onHeaders(HeaderMap headers, End end) override {
      exchange.upHeaders(std::move(headers), end);
    }
    void onInformational(HeaderMap headers) override { exchange.upInformational(headers); }
    void onData(base::Buffer& data, End end) override { exchange.upData(data, end); }
    void onPiped(net::PipedBytes& piece, End end) override { exchange.upPiped(piece, end); }
    void onTrailers(HeaderMap trailers) override { exchange.upTrailers(std::move(trailers)); }
    void onWritable() override { exchange.readDownstream(); }
    void onReset(http::ResetReason reason) override { exchange.upReset(reason); }
    Exchange& exchange;
  };

  // exchange.cc
  void begin();
  bool shedRequest();
  bool checkRequest();
  bool checkUnderscores();
  bool cleanPath();
  void cleanHost();
  void mutate();
  void requestComplete();
  void readDownstream();
  void downPiece(std::size_t bytes, End end);
  void downSent(http::Flow flow);
  void setDeadline(Deadline which, base::MonotonicTime when);
  void setDeadline(Deadline which, base::Duration after) { setDeadline(which, now() + after); }
  void clear(Deadline which) { deadlines_[static_cast<std::size_t>(which)] = {}; }
  void touch();
  void noteClientLeft();
  void idleTimeout();
  void requestTimeout(const char* details);
  void durationTimeout();
  void finish();
  void logNow(std::string_view type);
  void count();
  base::MonotonicTime now() const { return conn_.worker.loop().now(); }

  // exchange_route.cc
  void chooseRoute();
  void limitStream();
  void act();
  void redirect(const Redirect& to);
  bool wantsTls() const;
  void redirectToTls();
  void respondDirectly(const DirectResponse& direct);
  void forward();
  void startRetries();

  // exchange_filters.cc
  const FaultPolicy* faultPolicy() const;
  bool injectFault();
  void abortByFault();
  void afterFault();
  bool beginFault(const FaultPolicy& policy);
  void endFault();
  /// The policies that are there, the most specific first.
  struct CorsPolicies {
    std::array<const CorsPolicy*, 4> all{};
    std::size_t count = 0;
    template <class T>
    const T& merged(T CorsPolicy::* field) const;
  };
  CorsPolicies corsPolicies() const;
  bool answerCors();
  void addCors(HeaderMap& headers) const;

  // exchange_rewrite.cc
  void finalizeRequest();
  void rewriteHost();
  void rewritePath();
  void setHost(std::string_view host);
  void applyRequestOps();
  void applyResponseOps(HeaderMap& headers) const;
  std::string prefixReplaced(std::string_view target, std::string_view with) const;

  // exchange_upstream.cc
  void announceTimeout(base::Duration used);
  void startTimeouts();
  void tryUpstream();
  void sendRequest(const PooledConnection& connection);
  void sendUpgrade(const PooledConnection& connection);
  void sendBody();
  void keepBody(const base::Buffer& data);
  void upInformational(HeaderMap& headers);
  void upHeaders(HeaderMap headers, End end);
  void upData(base::Buffer& data, End end);
  void upPiped(net::PipedBytes& piece, End end);
  void upPiece(std::size_t bytes, End end);
  void upSent(http::Flow flow, End end);
  void upTrailers(HeaderMap trailers);
  void upReset(http::ResetReason reason);
  void attemptFailed(UpstreamFailure failure, std::string_view transport_error);
  bool retryLater(bool silent);
  void endAttempt();
  void cancelWait();
  void resetUpstream();
  void responseTimeout();
  enum class PerTry : bool { kWhole, kIdle };
  void perTryTimeout(PerTry which);
  void replyTimeout(const char* details);
  void touchAttempt();
  void attemptTooLong();
  std::size_t keptBodyMax() const;
  bool replayable() const;
  std::chrono::milliseconds routeTimeout() const;

  // exchange_reply.cc
  void forwardResponse(End end);
  void openTunnel(int& status, End end);
  HeaderMap tunnelHead() const;
  void sendResponseHeaders(End end);
  void responseComplete();
  /// Who answers. Answers of a route that forwards get its headers whoever gives them.
  enum class By : unsigned char {
    kManager,
    kRoute,   // a direct response, a redirect
    kRouter,  // after attempts upstream: what it adds comes after the route's headers
  };
  struct Reply {
    int status;
    std::string_view body;
    std::optional<formatter::Flag> flag;
    std::string_view details;
    std::string_view location = {};
    std::string_view content_type = "text/plain";
    int grpc_status = -1;  // by the HTTP status
    By by = By::kManager;
    bool overloaded = false;
    bool close = false;
  };
  /// Answers by ourselves; the exchange is over.
  void reply(const Reply& reply);
  /// Whether the connection ends with this answer; writes `connection: close` then.
  void decideClose();
  void mapLocalReply(int& status, std::string& body, std::string& content_type, HeaderMap& headers);

  HttpConnection& conn_;
  const HttpManager& config_;
  http::Stream* down_;
  http::Stream* up_ = nullptr;
  UpSide up_side_{*this};
  std::array<base::MonotonicTime, static_cast<std::size_t>(Deadline::kCount)> deadlines_{};

  HeaderMap request_;
  HeaderMap response_;
  HeaderMap request_trailers_;
  HeaderMap response_trailers_;
  formatter::AccessRecord record_;
  std::string upgrade_;       // lower case; empty: an ordinary request
  std::string connect_port_;  // ":443", taken off a CONNECT while its route is chosen
  std::string cors_origin_;   // allowed by CORS, as it came; empty: none
  std::uint64_t random_ = 0;

  std::shared_ptr<const RouteTable> table_kept_;  // by RDS
  const RouteTable* table_ = nullptr;
  const VirtualHost* vhost_ = nullptr;
  const Route* route_ = nullptr;
  const ForwardAction* action_ = nullptr;
  const RouteCluster* target_ = nullptr;
  ClusterPtr cluster_;
  HostPtr host_;
  std::vector<const Host*> tried_;
  RetryState retry_;
  base::Buffer body_;  // of the request: what may have to be sent again, or nobody took yet
  std::chrono::milliseconds timeout_{0};
  std::chrono::milliseconds per_try_timeout_{0};
  std::chrono::milliseconds idle_timeout_{0};
  std::uint32_t silent_retries_ = 0;

  bool internal_ = false;
  bool envoy_headers_ = false;
  bool grpc_ = false;
  bool head_ = false;
  bool request_ended_ = false;
  bool has_trailers_ = false;
  bool body_kept_ = true;  // body_ holds everything that came so far
  bool waiting_ = false;
  bool attempt_open_ = false;
  bool attempt_sent_ = false;  // it has a connection, and counts as a request there
  bool retry_slot_ = false;
  bool response_started_ = false;
  bool response_ended_ = false;
  bool tunnel_ = false;
  bool fault_active_ = false;
  bool timed_out_retry_ = false;
  bool timeout_is_no_content_ = false;
  bool done_ = false;
};

}  // namespace postern::proxy
