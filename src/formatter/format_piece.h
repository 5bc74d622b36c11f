// One compiled operator of a format, and how its value is computed. Internal to Format.
#pragma once

#include "formatter/access_record.h"
#include "formatter/tls_operators.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace postern::formatter {

enum class Operator : unsigned char {
  kLiteral,
  kRequest,  // headers: the first of two names that is there
  kResponse,
  kTrailer,
  kRequestWithoutQuery,
  kPath,
  kQueryParameter,
  kQueryParameters,
  kProtocol,
  kServerName,
  kResponseCode,
  kDetails,
  kTermination,
  kGrpcStatus,
  kGrpcStatusNumber,
  kFlags,
  kFlagsLong,
  kLocalReplyBody,
  kRouteName,
  kStartTime,
  kStartTimeLocal,
  kEmitTime,
  kEmitTimeLocal,
  kDuration,  // between two points, see `from` and `to`
  kBytesReceived,
  kBytesSent,
  kRequestHeaderBytes,
  kResponseHeaderBytes,
  kResponseTrailerBytes,
  kUpstreamHost,
  kUpstreamHostName,
  kUpstreamHostNameWithoutPort,
  kUpstreamCluster,
  kUpstreamClusterRaw,
  kUpstreamLocal,
  kUpstreamFailure,
  kAttempts,
  kUpstreamConnectionId,
  kUpstreamProtocol,
  kUpstreamTls,  // `tls` of the upstream connection
  kDownstreamRemote,
  kDownstreamDirectRemote,
  kDownstreamLocal,
  kDownstreamFailure,
  kDownstreamTls,  // `tls` of the downstream connection
  kConnectionId,
  kFilterChain,
  kUniqueId,
  kLogType,
  kUnset,  // nothing in this proxy produces the value
};

enum class AddressPart : unsigned char { kWhole, kWithoutPort, kPort };

struct FormatPiece {
  Operator op = Operator::kLiteral;
  AddressPart part = AddressPart::kWhole;
  bool numeric = false;  // a JSON number when it stands alone
  bool flag = false;     // kPath: without query; kGrpcStatus: snake case; kDetails: spaces kept
  std::string first;     // literal text, header name, time format
  std::string second;    // the other header name
  std::size_t length_max = 0;  // 0: whole
  base::MonotonicTime Milestones::* from = nullptr;
  base::MonotonicTime Milestones::* to = nullptr;
  TlsValue tls = nullptr;
  std::int64_t unit = 1'000'000;  // nanoseconds per unit of a duration

  /// Appends the value, cut to length_max; false and nothing appended when it is unset.
  bool append(std::string& out, const AccessRecord& record) const;

 private:
  bool appendValue(std::string& out, const AccessRecord& record) const;
  bool appendTime(std::string& out, const AccessRecord& record) const;
  bool appendUpstream(std::string& out, const AccessRecord& record) const;
  bool appendDownstream(std::string& out, const AccessRecord& record) const;
  bool appendPath(std::string& out, const AccessRecord& record) const;
  bool appendGrpcStatus(std::string& out, const AccessRecord& record) const;
};

/// Fills `piece` for "COMMAND" with "arguments"; false with the reason.
bool compileOperator(std::string_view command, std::string_view arguments, bool has_arguments,
                     FormatPiece& piece, std::string& error);

/// The gRPC status of a response: in its trailers, or in headers without a body; -1 when there is
/// none.
int grpcStatus(const AccessRecord& record);
/// gRPC's status for an HTTP one, as its specification maps them.
int grpcStatusOf(int http_status);

void appendNumber(std::string& out, std::uint64_t value);
/// "2026-01-31T10:20:30.123Z".
void appendIso8601(std::string& out, base::WallTime at);

}  // namespace postern::formatter
