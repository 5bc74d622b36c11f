// What one request (or TCP connection) was, for access logs and for header values that are formats.
// Filled while the request runs, read by Format. On one loop. Texts are views of what lives as long
// as the request: small, since every request in flight has one, and no allocation in the usual
// case.
#pragma once

#include "base/clock.h"
#include "http/headers.h"
#include "net/transport.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <forward_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace postern::formatter {

/// The text of an IP address with its port, held inline: "10.0.0.1:80", "[::1]:80".
class AddressText {
 public:
  AddressText() = default;
  AddressText& operator=(std::string_view text) {
    size_ = static_cast<unsigned char>(std::min(text.size(), sizeof bytes_));
    if (size_ > 0) std::memcpy(bytes_, text.data(), size_);  // data() of an empty text may be null
    return *this;
  }
  AddressText(const AddressText& other) { *this = other.view(); }
  AddressText& operator=(const AddressText& other) {
    if (this != &other) *this = other.view();
    return *this;
  }
  std::string_view view() const { return {bytes_, size_}; }

 private:
  unsigned char size_ = 0;
  char bytes_[47];  // "[", 39 of IPv6, "]:65535"
};

/// Of "10.0.0.1:80", "[::1]:80" or a Unix path: without ":port".
std::string_view addressWithoutPort(std::string_view text);
/// "" when there is none.
std::string_view addressPort(std::string_view text);

/// Envoy's response flags.
enum class Flag : unsigned char {
  kFailedLocalHealthCheck,
  kNoHealthyUpstream,
  kUpstreamRequestTimeout,
  kLocalReset,
  kUpstreamRemoteReset,
  kUpstreamConnectionFailure,
  kUpstreamConnectionTermination,
  kUpstreamOverflow,
  kNoRouteFound,
  kDelayInjected,
  kFaultInjected,
  kRateLimited,
  kUnauthorizedExternalService,
  kRateLimitServiceError,
  kDownstreamConnectionTermination,
  kUpstreamRetryLimitExceeded,
  kStreamIdleTimeout,
  kInvalidEnvoyRequestHeaders,
  kDownstreamProtocolError,
  kUpstreamMaxStreamDurationReached,
  kResponseFromCacheFilter,
  kNoFilterConfigFound,
  kDurationTimeout,
  kUpstreamProtocolError,
  kNoClusterFound,
  kOverloadManager,
  kDnsResolutionFailed,
  kDropOverload,
  kDownstreamRemoteReset,
  kUnconditionalDropOverload,
  kCount,
};

class ResponseFlags {
 public:
  void set(Flag flag) {
    if (has(flag)) return;
    bits_ |= 1u << static_cast<unsigned>(flag);
    if (count_ < kPrintedMax) order_[count_++] = flag;
  }
  bool has(Flag flag) const { return (bits_ & (1u << static_cast<unsigned>(flag))) != 0; }
  bool any() const { return bits_ != 0; }
  std::uint32_t bits() const { return bits_; }
  /// "UF,URX" in the order in which they were set, as Envoy prints them; "-" when there are none.
  void appendShort(std::string& out) const { append(out, false); }
  void appendLong(std::string& out) const { append(out, true); }
  /// Of "UF"; false when there is no such flag.
  static bool parse(std::string_view name, Flag& out);

 private:
  static constexpr std::size_t kPrintedMax = 8;  // nothing sets more
  void append(std::string& out, bool names) const;
  std::uint32_t bits_ = 0;
  std::array<Flag, kPrintedMax> order_{};
  unsigned char count_ = 0;
};

/// Points in time of one exchange; unset ones are zero.
struct Milestones {
  base::MonotonicTime request_begin{};      // DS_RX_BEG
  base::MonotonicTime request_end{};        // DS_RX_END
  base::MonotonicTime connect_begin{};      // US_CX_BEG
  base::MonotonicTime connect_end{};        // US_CX_END: the pool gave a connection
  base::MonotonicTime upstream_tx_begin{};  // US_TX_BEG
  base::MonotonicTime upstream_tx_end{};    // US_TX_END
  base::MonotonicTime upstream_rx_begin{};  // US_RX_BEG
  base::MonotonicTime upstream_rx_end{};    // US_RX_END
  base::MonotonicTime response_begin{};     // DS_TX_BEG
  base::MonotonicTime response_end{};       // DS_TX_END
};

/// What TLS knew of an upstream connection, which may be gone when the record is written.
struct UpstreamTls {
  explicit UpstreamTls(const net::PeerInfo& info) : peer(info) {
    if (info.local != nullptr) local = *info.local;
    peer.local = &local;
  }
  UpstreamTls(const UpstreamTls&) = delete;
  UpstreamTls& operator=(const UpstreamTls&) = delete;
  net::PeerInfo peer;
  net::CertificateInfo local;
};

struct AccessRecord {
  base::WallTime start;
  Milestones at;
  const http::HeaderMap* request = nullptr;
  const http::HeaderMap* response = nullptr;
  const http::HeaderMap* trailers = nullptr;
  std::string_view protocol;  // static text: "HTTP/1.1"; empty for TCP
  std::string_view log_type;  // static text; empty: the end of the request or TCP proxy
  int response_code = 0;
  ResponseFlags flags;
  std::string_view details;             // RESPONSE_CODE_DETAILS
  std::string_view termination;         // CONNECTION_TERMINATION_DETAILS
  std::string_view failure;             // UPSTREAM_TRANSPORT_FAILURE_REASON
  std::string_view downstream_failure;  // DOWNSTREAM_TRANSPORT_FAILURE_REASON; static text
  std::string_view local_reply;         // LOCAL_REPLY_BODY
  std::string upstream_host_name;       // a copy: the host may go, or get another name
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t connection_id = 0;
  std::uint64_t upstream_connection_id = 0;
  std::uint32_t attempts = 0;
  std::string_view upstream_cluster;   // its name; owned by the configuration or the cluster
  std::string_view upstream_observed;  // what it is called in statistics and logs; empty: its name
  std::string_view upstream_protocol;  // static text
  std::string_view upstream_host;
  AddressText upstream_local;          // a copy: the connection may go
  std::string_view downstream_local;   // the destination the client wanted
  std::string_view downstream_remote;  // the client, as far as it is trusted
  std::string_view downstream_direct_remote;
  std::string_view server_name;   // SNI
  std::string_view route_name;    // owned by the configuration
  std::string_view filter_chain;  // owned by the configuration
  const net::PeerInfo* downstream_peer = nullptr;
  std::shared_ptr<const UpstreamTls> upstream_tls;  // null: plain

  /// Keeps a text that nothing else keeps as long as this record.
  std::string_view keep(std::string text) { return kept.emplace_front(std::move(text)); }
  std::forward_list<std::string> kept;
};

}  // namespace postern::formatter
