// The table of operators: name, arguments, meaning.
#include "base/strings.h"
#include "formatter/format_piece.h"

#include <array>
#include <cstdlib>

#include <unistd.h>

namespace postern::formatter {

namespace {

enum class Arguments : unsigned char { kNone, kHeaders, kOptional, kRequired };

struct Entry {
  std::string_view name;
  Operator op;
  Arguments arguments = Arguments::kNone;
  bool numeric = false;
  AddressPart part = AddressPart::kWhole;
};

using enum Operator;
constexpr AddressPart kWithoutPort = AddressPart::kWithoutPort;
constexpr AddressPart kPort = AddressPart::kPort;
constexpr Arguments kNo = Arguments::kNone;

constexpr Entry kTable[] = {
    {"REQ", kRequest, Arguments::kHeaders},
    {"REQUEST_HEADER", kRequest, Arguments::kHeaders},
    {"STREAM_INFO_REQ", kRequest, Arguments::kHeaders},
    {"RESP", kResponse, Arguments::kHeaders},
    {"RESPONSE_HEADER", kResponse, Arguments::kHeaders},
    {"TRAILER", kTrailer, Arguments::kHeaders},
    {"RESPONSE_TRAILER", kTrailer, Arguments::kHeaders},
    {"REQ_WITHOUT_QUERY", kRequestWithoutQuery, Arguments::kHeaders},
    {"PATH", kPath, Arguments::kOptional},
    {"QUERY_PARAM", kQueryParameter, Arguments::kRequired},
    {"QUERY_PARAMS", kQueryParameters, Arguments::kOptional},
    {"PROTOCOL", kProtocol},
    {"REQUESTED_SERVER_NAME", kServerName, Arguments::kOptional},
    {"RESPONSE_CODE", kResponseCode, kNo, true},
    {"RESPONSE_CODE_DETAILS", kDetails, Arguments::kOptional},
    {"CONNECTION_TERMINATION_DETAILS", kTermination},
    {"GRPC_STATUS", kGrpcStatus, Arguments::kOptional},
    {"GRPC_STATUS_NUMBER", kGrpcStatusNumber, kNo, true},
    {"RESPONSE_FLAGS", kFlags},
    {"RESPONSE_FLAGS_LONG", kFlagsLong},
    {"LOCAL_REPLY_BODY", kLocalReplyBody},
    {"ROUTE_NAME", kRouteName},
    {"VIRTUAL_CLUSTER_NAME", kUnset},
    {"START_TIME", kStartTime, Arguments::kOptional},
    {"START_TIME_LOCAL", kStartTimeLocal, Arguments::kOptional},
    {"EMIT_TIME", kEmitTime, Arguments::kOptional},
    {"EMIT_TIME_LOCAL", kEmitTimeLocal, Arguments::kOptional},
    {"ROUNDTRIP_DURATION", kUnset},
    {"DOWNSTREAM_HANDSHAKE_DURATION", kUnset},
    {"BYTES_RECEIVED", kBytesReceived, kNo, true},
    {"BYTES_SENT", kBytesSent, kNo, true},
    {"REQUEST_HEADERS_BYTES", kRequestHeaderBytes, kNo, true},
    {"RESPONSE_HEADERS_BYTES", kResponseHeaderBytes, kNo, true},
    {"RESPONSE_TRAILERS_BYTES", kResponseTrailerBytes, kNo, true},
    {"UPSTREAM_HOST", kUpstreamHost},
    {"UPSTREAM_HOST_NAME", kUpstreamHostName},
    {"UPSTREAM_HOST_NAME_WITHOUT_PORT", kUpstreamHostNameWithoutPort},
    {"UPSTREAM_CLUSTER", kUpstreamCluster},
    {"UPSTREAM_CLUSTER_RAW", kUpstreamClusterRaw},
    {"UPSTREAM_LOCAL_ADDRESS", kUpstreamLocal},
    {"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", kUpstreamLocal, kNo, false, kWithoutPort},
    {"UPSTREAM_LOCAL_PORT", kUpstreamLocal, kNo, true, kPort},
    {"UPSTREAM_REMOTE_ADDRESS", kUpstreamHost},
    {"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", kUpstreamHost, kNo, false, kWithoutPort},
    {"UPSTREAM_REMOTE_PORT", kUpstreamHost, kNo, true, kPort},
    {"UPSTREAM_TRANSPORT_FAILURE_REASON", kUpstreamFailure},
    {"UPSTREAM_REQUEST_ATTEMPT_COUNT", kAttempts, kNo, true},
    {"UPSTREAM_CONNECTION_ID", kUpstreamConnectionId, kNo, true},
    {"UPSTREAM_PROTOCOL", kUpstreamProtocol},
    {"UPSTREAM_FILTER_STATE", kUnset, Arguments::kRequired},
    {"DOWNSTREAM_REMOTE_ADDRESS", kDownstreamRemote},
    {"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", kDownstreamRemote, kNo, false, kWithoutPort},
    {"DOWNSTREAM_REMOTE_PORT", kDownstreamRemote, kNo, true, kPort},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", kDownstreamDirectRemote},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", kDownstreamDirectRemote, kNo, false,
     kWithoutPort},
    {"DOWNSTREAM_DIRECT_REMOTE_PORT", kDownstreamDirectRemote, kNo, true, kPort},
    {"DOWNSTREAM_LOCAL_ADDRESS", kDownstreamLocal},
    {"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", kDownstreamLocal, kNo, false, kWithoutPort},
    {"DOWNSTREAM_LOCAL_PORT", kDownstreamLocal, kNo, true, kPort},
    {"DOWNSTREAM_TRANSPORT_FAILURE_REASON", kDownstreamFailure},
    {"CONNECTION_ID", kConnectionId, kNo, true},
    {"FILTER_CHAIN_NAME", kFilterChain},
    {"DYNAMIC_METADATA", kUnset, Arguments::kRequired},
    {"FILTER_STATE", kUnset, Arguments::kRequired},
    {"STREAM_ID", kUniqueId},
    {"UNIQUE_ID", kUniqueId},
    {"TRACE_ID", kUnset},
    {"SPAN_ID", kUnset},
    {"CUSTOM_FLAGS", kUnset},
    {"ACCESS_LOG_TYPE", kLogType},
};

using Point = base::MonotonicTime Milestones::*;

struct DurationEntry {
  std::string_view name;
  Point from;
  Point to;
};

constexpr DurationEntry kDurations[] = {
    {"DURATION", &Milestones::request_begin, &Milestones::response_end},
    {"REQUEST_DURATION", &Milestones::request_begin, &Milestones::request_end},
    {"REQUEST_TX_DURATION", &Milestones::request_begin, &Milestones::upstream_tx_end},
    {"RESPONSE_DURATION", &Milestones::request_begin, &Milestones::upstream_rx_begin},
    {"RESPONSE_TX_DURATION", &Milestones::upstream_rx_begin, &Milestones::response_end},
    {"UPSTREAM_CONNECTION_POOL_READY_DURATION", &Milestones::connect_begin,
     &Milestones::connect_end},
};

constexpr std::pair<std::string_view, Point> kPoints[] = {
    {"DS_RX_BEG", &Milestones::request_begin},   {"DS_RX_END", &Milestones::request_end},
    {"US_CX_BEG", &Milestones::connect_begin},   {"US_CX_END", &Milestones::connect_end},
    {"US_HS_END", &Milestones::connect_end},     {"US_TX_BEG", &Milestones::upstream_tx_begin},
    {"US_TX_END", &Milestones::upstream_tx_end}, {"US_RX_BEG", &Milestones::upstream_rx_begin},
    {"US_RX_END", &Milestones::upstream_rx_end}, {"DS_TX_BEG", &Milestones::response_begin},
    {"DS_TX_END", &Milestones::response_end},
};

Point pointOf(std::string_view name) {
  for (const auto& [text, point] : kPoints) {
    if (text == name) return point;
  }
  return nullptr;
}

bool commonDuration(std::string_view arguments, FormatPiece& piece, std::string& error) {
  const std::vector<std::string_view> parts = base::split(arguments, ':');
  const bool sized = parts.size() == 3;
  piece.op = kDuration;
  piece.numeric = true;
  if (sized) {
    piece.from = pointOf(parts[0]);
    piece.to = pointOf(parts[1]);
    piece.unit = parts[2] == "ms" ? 1'000'000 : parts[2] == "us" ? 1000 : parts[2] == "ns" ? 1 : 0;
  }
  if (sized && piece.from != nullptr && piece.to != nullptr && piece.unit != 0) return true;
  error = "'%COMMON_DURATION%' wants (START:END:ms|us|ns) with known points";
  return false;
}

bool pathOperator(std::string_view arguments, FormatPiece& piece, std::string& error) {
  const std::vector<std::string_view> parts = base::split(arguments, ':');
  const std::string_view query = parts[0].empty() ? "WQ" : parts[0];
  const std::string_view which = parts.size() > 1 ? parts[1] : "ORIG_OR_PATH";
  if ((query != "WQ" && query != "NQ") || parts.size() > 2 ||
      (which != "ORIG" && which != "PATH" && which != "ORIG_OR_PATH")) {
    error = "'%PATH%' wants (WQ|NQ:ORIG|PATH|ORIG_OR_PATH)";
    return false;
  }
  piece.flag = query == "NQ";
  piece.first = which == "PATH" ? ":path" : "x-envoy-original-path";
  if (which == "ORIG_OR_PATH") piece.second = ":path";
  return true;
}

bool tlsOperator(const TlsOperator& found, std::string_view command, std::string_view arguments,
                 bool has_arguments, FormatPiece& piece, std::string& error) {
  piece.op = found.upstream ? kUpstreamTls : kDownstreamTls;
  piece.tls = found.value;
  piece.first = arguments;
  if (!has_arguments || found.takes_format) return true;
  error = "'%" + std::string(command) + "%' takes no argument";
  return false;
}

bool applyArguments(const Entry& entry, std::string_view arguments, FormatPiece& piece,
                    std::string& error) {
  piece.op = entry.op;
  piece.numeric = entry.numeric;
  piece.part = entry.part;
  if (entry.arguments == Arguments::kHeaders) {
    const std::size_t mark = arguments.find('?');
    piece.first = base::toLower(arguments.substr(0, mark));
    if (mark != std::string_view::npos) piece.second = base::toLower(arguments.substr(mark + 1));
    piece.flag = entry.op == kRequestWithoutQuery;
    if (entry.op == kRequest || entry.op == kRequestWithoutQuery) {
      for (std::string* name : {&piece.first, &piece.second}) {
        if (*name == "host") *name = ":authority";
      }
    }
    if (!piece.first.empty() && piece.second.find('?') == std::string::npos) return true;
    error = "'%" + std::string(entry.name) + "%' wants (NAME) or (NAME?OTHER)";
    return false;
  }
  piece.first = arguments;
  switch (entry.op) {
    case kPath:
      return pathOperator(arguments, piece, error);
    case kDetails:
      piece.flag = arguments == "ALLOW_WHITESPACES";
      if (arguments.empty() || piece.flag) return true;
      break;
    case kQueryParameters:
      if (arguments.empty() || arguments == "ORIG") return true;
      break;
    case kServerName:
      if (arguments.empty() || arguments == "SNI_ONLY") return true;
      break;
    case kGrpcStatus:
      piece.flag = arguments == "SNAKE_STRING";
      if (arguments == "NUMBER") piece.op = kGrpcStatusNumber;
      piece.numeric = arguments == "NUMBER";
      if (arguments.empty() || arguments == "CAMEL_STRING" || piece.flag || piece.numeric)
        return true;
      break;
    default:
      return true;
  }
  error = "'%" + std::string(entry.name) + "(" + std::string(arguments) + ")%' is not supported";
  return false;
}

}  // namespace

bool compileOperator(std::string_view command, std::string_view arguments, bool has_arguments,
                     FormatPiece& piece, std::string& error) {
  for (const DurationEntry& each : kDurations) {
    if (each.name != command || has_arguments) continue;
    piece.op = kDuration;
    piece.numeric = true;
    piece.from = each.from;
    piece.to = each.to;
    return true;
  }
  if (command == "COMMON_DURATION") return commonDuration(arguments, piece, error);
  if (command == "HOSTNAME" && !has_arguments) {
    char name[256] = "";
    ::gethostname(name, sizeof name - 1);
    piece.first = name[0] == 0 ? "-" : name;
    return true;
  }
  if (command == "ENVIRONMENT" && !arguments.empty()) {
    const char* value = std::getenv(std::string(arguments).c_str());
    piece.first = value == nullptr ? "-" : value;
    if (piece.length_max > 0 && piece.first.size() > piece.length_max)
      piece.first.resize(piece.length_max);
    return true;
  }
  if (const TlsOperator found = findTlsOperator(command); found.value != nullptr)
    return tlsOperator(found, command, arguments, has_arguments, piece, error);
  for (const Entry& each : kTable) {
    if (each.name != command) continue;
    const bool wants =
        each.arguments == Arguments::kHeaders || each.arguments == Arguments::kRequired;
    if ((wants && arguments.empty()) || (each.arguments == Arguments::kNone && has_arguments)) {
      error =
          "'%" + std::string(command) + "%' " + (wants ? "needs an argument" : "takes no argument");
      return false;
    }
    return applyArguments(each, arguments, piece, error);
  }
  error = "'%" + std::string(command) + "%' is not a supported operator";
  return false;
}

}  // namespace postern::formatter
