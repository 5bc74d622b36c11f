#include "formatter/format_piece.h"

#include "base/strings.h"
#include "http/request_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>

namespace postern::formatter {

namespace {

std::int64_t millisOf(base::WallTime at) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()).count();
}

bool text(std::string& out, std::string_view value) {
  out += value;
  return !value.empty();
}

bool header(std::string& out, const http::HeaderMap* headers, const FormatPiece& piece) {
  if (headers == nullptr) return false;
  auto value = headers->get(piece.first);
  if (!value && !piece.second.empty()) value = headers->get(piece.second);
  if (!value) return false;
  out += *value;
  return true;
}

bool addressPart(std::string& out, std::string_view address, AddressPart part) {
  switch (part) {
    case AddressPart::kWhole:
      return text(out, address);
    case AddressPart::kWithoutPort:
      return text(out, addressWithoutPort(address));
    case AddressPart::kPort:
      return text(out, addressPort(address));
  }
  return false;
}

/// With underscores for spaces, so that it stays one word of a log line.
bool underscored(std::string& out, std::string_view value) {
  const std::size_t begin = out.size();
  out += value;
  std::replace(out.begin() + static_cast<std::ptrdiff_t>(begin), out.end(), ' ', '_');
  return !value.empty();
}

bool number(std::string& out, std::uint64_t value) {
  appendNumber(out, value);
  return true;
}

/// strftime with Envoy's additions: %s (epoch seconds), %f and %1f..%9f (fraction).
void appendStrftime(std::string& out, base::WallTime at, const std::string& format, bool local) {
  const auto since = at.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(since - seconds).count();
  char fraction[16];
  std::snprintf(fraction, sizeof fraction, "%09lld", static_cast<long long>(nanos));
  std::string expanded;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 >= format.size()) {
      expanded += format[i];
      continue;
    }
    const char next = format[i + 1];
    if (next == 's') {
      expanded += std::to_string(seconds.count());
      ++i;
    } else if (next == 'f') {
      expanded += fraction;
      ++i;
    } else if (next >= '1' && next <= '9' && i + 2 < format.size() && format[i + 2] == 'f') {
      expanded.append(fraction, static_cast<std::size_t>(next - '0'));
      i += 2;
    } else {
      expanded += '%';
      expanded += next;
      ++i;
    }
  }
  const std::time_t when = static_cast<std::time_t>(seconds.count());
  std::tm parts{};
  if (local) {
    ::localtime_r(&when, &parts);
  } else {
    ::gmtime_r(&when, &parts);
  }
  char buffer[512];
  out.append(buffer, std::strftime(buffer, sizeof buffer, expanded.c_str(), &parts));
}

constexpr std::array<std::string_view, 17> kGrpcCamel{
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};
constexpr std::array<std::string_view, 17> kGrpcSnake{
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

}  // namespace

void appendNumber(std::string& out, std::uint64_t value) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out.append(digits, static_cast<std::size_t>(end - digits));
}

void appendIso8601(std::string& out, base::WallTime at) {
  // The second changes rarely: its text is kept.
  thread_local std::int64_t kept_second = -1;
  thread_local char kept[32];
  const std::int64_t millis = millisOf(at);
  const std::int64_t second = millis / 1000;
  if (second != kept_second) {
    const auto when = static_cast<std::time_t>(second);
    std::tm utc{};
    ::gmtime_r(&when, &utc);
    std::strftime(kept, sizeof kept, "%Y-%m-%dT%H:%M:%S.", &utc);
    kept_second = second;
  }
  out.append(kept, 20);
  const int rest = static_cast<int>(millis % 1000);
  out += static_cast<char>('0' + rest / 100);
  out += static_cast<char>('0' + rest / 10 % 10);
  out += static_cast<char>('0' + rest % 10);
  out += 'Z';
}

int grpcStatusOf(int http_status) {
  switch (http_status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

int grpcStatus(const AccessRecord& record) {
  for (const http::HeaderMap* each : {record.trailers, record.response}) {
    if (each == nullptr) continue;
    if (auto value = each->get("grpc-status")) {
      auto status = base::parseInteger<int>(*value);
      return status && *status >= 0 ? *status : 2;
    }
  }
  return -1;
}

bool FormatPiece::append(std::string& out, const AccessRecord& record) const {
  const std::size_t before = out.size();
  if (!appendValue(out, record)) {
    out.resize(before);
    return false;
  }
  if (length_max > 0 && out.size() - before > length_max) out.resize(before + length_max);
  return true;
}

bool FormatPiece::appendTime(std::string& out, const AccessRecord& record) const {
  const bool emit = op == Operator::kEmitTime || op == Operator::kEmitTimeLocal;
  const base::WallTime at = emit ? std::chrono::system_clock::now() : record.start;
  const bool local = op == Operator::kStartTimeLocal || op == Operator::kEmitTimeLocal;
  if (first.empty()) {
    if (local) {
      appendStrftime(out, at, "%Y-%m-%dT%H:%M:%S.%3f%z", true);
    } else {
      appendIso8601(out, at);
    }
  } else {
    appendStrftime(out, at, first, local);
  }
  return true;
}

bool FormatPiece::appendGrpcStatus(std::string& out, const AccessRecord& record) const {
  if (record.request == nullptr || !http::isGrpc(*record.request)) return false;
  int status = grpcStatus(record);
  if (status < 0) status = grpcStatusOf(record.response_code);
  const auto& names = flag ? kGrpcSnake : kGrpcCamel;
  const auto index = static_cast<std::size_t>(status);
  if (op == Operator::kGrpcStatusNumber || index >= names.size()) {
    appendNumber(out, index);
  } else {
    out += names[index];
  }
  return true;
}

bool FormatPiece::appendPath(std::string& out, const AccessRecord& record) const {
  if (record.request == nullptr) return false;
  auto path = record.request->get(first);
  if (!path && !second.empty()) path = record.request->get(second);
  if (!path) return false;
  out += flag ? path->substr(0, path->find('?')) : *path;
  return true;
}

bool FormatPiece::appendUpstream(std::string& out, const AccessRecord& record) const {
  switch (op) {
    case Operator::kUpstreamHost:
      return addressPart(out, record.upstream_host, part);
    case Operator::kUpstreamHostName:
    case Operator::kUpstreamHostNameWithoutPort:
      if (record.upstream_host_name.empty()) {
        return addressPart(
            out, record.upstream_host,
            op == Operator::kUpstreamHostName ? AddressPart::kWhole : AddressPart::kWithoutPort);
      }
      return text(out, record.upstream_host_name);
    case Operator::kUpstreamCluster:
      if (!record.upstream_observed.empty()) return text(out, record.upstream_observed);
      return text(out, record.upstream_cluster);
    case Operator::kUpstreamClusterRaw:
      return text(out, record.upstream_cluster);
    case Operator::kUpstreamLocal:
      return addressPart(out, record.upstream_local.view(), part);
    case Operator::kUpstreamFailure:
      return underscored(out, record.failure);
    case Operator::kAttempts:
      return number(out, record.attempts);
    case Operator::kUpstreamConnectionId:
      return record.upstream_connection_id > 0 && number(out, record.upstream_connection_id);
    case Operator::kUpstreamProtocol:
      return text(out, record.upstream_protocol);
    case Operator::kUpstreamTls:
      return record.upstream_tls != nullptr && tls(out, record.upstream_tls->peer, first);
    default:
      return false;
  }
}

bool FormatPiece::appendDownstream(std::string& out, const AccessRecord& record) const {
  if (op == Operator::kDownstreamRemote) return addressPart(out, record.downstream_remote, part);
  if (op == Operator::kDownstreamDirectRemote)
    return addressPart(out, record.downstream_direct_remote, part);
  if (op == Operator::kDownstreamLocal) return addressPart(out, record.downstream_local, part);
  if (op == Operator::kDownstreamFailure) return underscored(out, record.downstream_failure);
  const net::PeerInfo* peer = record.downstream_peer;
  return op == Operator::kDownstreamTls && peer != nullptr && peer->tls && tls(out, *peer, first);
}

bool FormatPiece::appendValue(std::string& out, const AccessRecord& record) const {
  switch (op) {
    case Operator::kLiteral:
      out += first;
      return true;
    case Operator::kRequest:
      return header(out, record.request, *this);
    case Operator::kResponse:
      return header(out, record.response, *this);
    case Operator::kTrailer:
      return header(out, record.trailers, *this);
    case Operator::kRequestWithoutQuery:
    case Operator::kPath:
      return appendPath(out, record);
    case Operator::kQueryParameter:
    case Operator::kQueryParameters: {
      if (record.request == nullptr) return false;
      const std::string_view path = record.request->path();
      const std::size_t mark = path.find('?');
      if (mark == std::string_view::npos) return false;
      if (op == Operator::kQueryParameters) return text(out, path.substr(mark + 1));
      std::string_view value;
      if (!http::queryParameter(path.substr(mark + 1), first, value)) return false;
      out += value;
      return true;
    }
    case Operator::kProtocol:
      return text(out, record.protocol);
    case Operator::kServerName:
      return text(out, record.server_name);
    case Operator::kResponseCode:
      return number(out, static_cast<std::uint64_t>(record.response_code));
    case Operator::kDetails:
      return flag ? text(out, record.details) : underscored(out, record.details);
    case Operator::kTermination:
      return text(out, record.termination);
    case Operator::kGrpcStatus:
    case Operator::kGrpcStatusNumber:
      return appendGrpcStatus(out, record);
    case Operator::kFlags:
      record.flags.appendShort(out);
      return true;
    case Operator::kFlagsLong:
      record.flags.appendLong(out);
      return true;
    case Operator::kLocalReplyBody:
      out += record.local_reply;  // a text also when it is empty
      return true;
    case Operator::kRouteName:
      return text(out, record.route_name);
    case Operator::kStartTime:
    case Operator::kStartTimeLocal:
    case Operator::kEmitTime:
    case Operator::kEmitTimeLocal:
      return appendTime(out, record);
    case Operator::kDuration: {
      const base::MonotonicTime begin = record.at.*from;
      const base::MonotonicTime end = record.at.*to;
      if (begin == base::MonotonicTime{} || end == base::MonotonicTime{} || end < begin)
        return false;
      const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(end - begin).count();
      return number(out, static_cast<std::uint64_t>(nanos / unit));
    }
    case Operator::kBytesReceived:
      return number(out, record.bytes_received);
    case Operator::kBytesSent:
      return number(out, record.bytes_sent);
    case Operator::kRequestHeaderBytes:
      return number(out, record.request == nullptr ? 0 : record.request->bytes());
    case Operator::kResponseHeaderBytes:
      return number(out, record.response == nullptr ? 0 : record.response->bytes());
    case Operator::kResponseTrailerBytes:
      return number(out, record.trailers == nullptr ? 0 : record.trailers->bytes());
    case Operator::kConnectionId:
      return record.connection_id > 0 && number(out, record.connection_id);
    case Operator::kFilterChain:
      return text(out, record.filter_chain);
    case Operator::kUniqueId:
      if (record.request == nullptr) return false;
      return text(out, record.request->value("x-request-id"));
    case Operator::kLogType:
      if (!record.log_type.empty()) return text(out, record.log_type);
      out += record.protocol.empty() ? "TcpConnectionEnd" : "DownstreamEnd";
      return true;
    case Operator::kUnset:
      return false;
    default:
      return op >= Operator::kDownstreamRemote ? appendDownstream(out, record)
                                               : appendUpstream(out, record);
  }
}

}  // namespace postern::formatter
