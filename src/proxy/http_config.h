// What an HTTP connection manager does and which access logs it writes, as plain immutable values
// shared by the workers.
#pragma once

#include "formatter/format.h"
#include "http/server.h"
#include "net/address.h"
#include "proxy/route_config.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postern::proxy {

/// A condition on a finished request; kinds follow envoy.config.accesslog.v3.AccessLogFilter.
struct LogFilter {
  enum class Kind : unsigned char {
    kStatus,
    kDuration,
    kNotHealthCheck,
    kRuntime,
    kAnd,
    kOr,
    kHeader,
    kFlags,
    kGrpcStatus,
  };
  enum class Op : unsigned char { kEqual, kAtLeast, kAtMost, kNotEqual };
  Kind kind = Kind::kAnd;
  Op op = Op::kEqual;
  std::uint32_t value = 0;
  Fraction share;
  bool independent = false;  // of the request's id
  HeaderMatcher header;
  std::uint32_t flags = 0;  // bits; 0: any flag
  std::vector<int> grpc_statuses;
  bool exclude = false;
  std::vector<LogFilter> nested;

  bool passes(const formatter::AccessRecord& record) const;
};

/// One log: where, what, when.
struct AccessLogConfig {
  std::string path;  // "/dev/stdout" and "/dev/stderr" are the process's own
  std::optional<formatter::JsonFormat> json;
  formatter::Format text;
  bool omit_empty = false;
  std::vector<LogFilter> filter;  // none or one
};

enum class ServerHeader : unsigned char { kOverwrite, kAppendIfAbsent, kPassThrough };
enum class EscapedSlashes : unsigned char { kKeep, kReject, kUnescapeAndRedirect, kUnescape };
enum class UnderscoreHeaders : unsigned char { kAllow, kReject, kDrop };
enum class ClientCertificate : unsigned char {
  kSanitize,
  kForwardOnly,
  kAppendForward,
  kSanitizeSet,
  kAlwaysForwardOnly,
};

/// The body of an answer of the proxy itself.
struct ReplyFormat {
  std::optional<formatter::JsonFormat> json;
  formatter::Format text;
  bool omit_empty = false;
  std::string content_type;  // never empty
};

/// Answers of the proxy itself, rewritten.
struct LocalReplyMapper {
  LogFilter filter;
  std::optional<int> status;
  std::optional<std::string> body;
  std::optional<ReplyFormat> format;
  formatter::HeaderOps headers;
};

/// A way to find the client's address (original_ip_detection_extensions): by x-forwarded-for, or by
/// a header of its own. The first one that finds an address counts.
struct IpDetection {
  std::uint32_t hops = 0;          // of x-forwarded-for
  std::vector<net::Cidr> trusted;  // of x-forwarded-for, instead of a number of hops
  bool skip_append = true;         // the peer's address is not added to x-forwarded-for
  std::string header;              // lower case; empty: x-forwarded-for
  bool trusted_address = false;    // what the header says may make a request an internal one
  std::optional<int> reject_status;
};

/// One step of a change before everything else.
struct EarlyMutation {
  formatter::HeaderOps ops;
  bool by_name = false;  // fields whose name matches are removed
  StringMatcher name;
};

/// What the proxy-status header tells.
struct ProxyStatus {
  std::string name;  // of this proxy; empty: the server's name
  bool use_node_id = false;
  bool details = true;
  bool termination = true;  // why the connection ended, among the details
  bool flags = true;
  bool recommended_status = false;  // the answer has the status that the RFC recommends
};

struct HttpManager {
  std::string stat_prefix;
  std::shared_ptr<const RouteTable> routes;  // inline; null: by RDS
  std::string rds_name;
  std::chrono::milliseconds rds_timeout{15000};  // max(): the listener waits for ever
  http::Protocol codec = http::Protocol::kAuto;
  http::ServerLimits limits;
  std::string server_name = "envoy";
  ServerHeader server_header = ServerHeader::kOverwrite;
  bool use_remote_address = false;
  std::uint32_t trusted_hops = 0;
  bool skip_xff_append = false;
  std::vector<net::Cidr> internal_ranges;
  bool internal_unix = false;
  bool append_forwarded_port = false;
  bool add_user_agent = false;
  std::string machine_ip;  // stands for a loopback peer in x-forwarded-for
  std::vector<IpDetection> ip_detections;
  std::vector<EarlyMutation> early_mutations;
  std::string via;
  std::string scheme_overwrite;
  bool scheme_of_upstream = false;  // :scheme follows the connection it leaves by
  bool generate_request_id = true;
  bool preserve_external_request_id = false;
  bool request_id_in_response = false;
  ClientCertificate client_certificate = ClientCertificate::kSanitize;
  struct CertificateDetails {
    bool subject = false;
    bool cert = false;
    bool dns = false;
    bool uri = false;
  } certificate_details;
  bool normalize_path = false;
  bool merge_slashes = false;
  EscapedSlashes escaped_slashes = EscapedSlashes::kKeep;
  bool strip_matching_port = false;
  bool strip_any_port = false;
  bool strip_trailing_dot = false;
  bool proxy_100_continue = false;
  bool http1_keeps_open = false;     // after an answer of 400 of our own
  bool http1_safe_duration = false;  // connection_duration_max ends HTTP/1 with an answer only
  std::string default_host_for_http_10;
  UnderscoreHeaders underscore_headers = UnderscoreHeaders::kAllow;
  std::chrono::milliseconds stream_idle_timeout{std::chrono::minutes(5)};  // 0: none
  std::chrono::milliseconds request_timeout{0};
  std::chrono::milliseconds stream_duration_max{0};
  std::chrono::milliseconds connection_duration_max{0};
  std::uint32_t requests_per_connection_max = 0;  // 0: any
  std::vector<std::string> upgrades;              // lower case
  std::vector<StringMatcher> ignored_upgrades;    // HTTP/1: the request goes on without
  bool suppress_envoy_headers = false;
  bool respect_expected_timeout = false;
  std::shared_ptr<const FaultPolicy> fault;  // of the filter itself; set when the filter is there
  std::string fault_name;                    // in the chain of filters
  /// How many faults go on in all workers, for max_active_faults: the one thing here that changes.
  std::shared_ptr<std::atomic<std::uint32_t>> faults_active;
  std::string cors_name;    // empty: there is no such filter
  bool cors_first = false;  // before the fault filter
  std::vector<LocalReplyMapper> local_replies;
  std::optional<ProxyStatus> proxy_status;
  std::optional<ReplyFormat> local_format;
  std::vector<AccessLogConfig> logs;
  std::chrono::milliseconds log_interval{0};  // lines while a request runs; 0: none
  bool log_new_requests = false;
  bool log_tunnels = false;  // when one is established
};

}  // namespace postern::proxy
