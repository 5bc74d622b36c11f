#include "proxy/proxy_status.h"

#include <string>

namespace postern::proxy {

namespace {

struct StatusEntry {
  formatter::Flag flag;
  ProxyError error;
};

constexpr StatusEntry kErrors[] = {
    {formatter::Flag::kFailedLocalHealthCheck, {"destination_unavailable", 503}},
    {formatter::Flag::kNoHealthyUpstream, {"destination_unavailable", 503}},
    {formatter::Flag::kUpstreamRequestTimeout, {"http_response_timeout", 504}},
    {formatter::Flag::kStreamIdleTimeout, {"http_response_timeout", 504}},
    {formatter::Flag::kDurationTimeout, {"http_response_timeout", 504}},
    {formatter::Flag::kUpstreamRemoteReset, {"connection_terminated", 502}},
    {formatter::Flag::kUpstreamConnectionTermination, {"connection_terminated", 502}},
    {formatter::Flag::kUpstreamConnectionFailure, {"connection_refused", 502}},
    {formatter::Flag::kUpstreamOverflow, {"connection_limit_reached", 503}},
    {formatter::Flag::kNoRouteFound, {"destination_not_found", 404}},
    {formatter::Flag::kNoClusterFound, {"destination_unavailable", 503}},
    {formatter::Flag::kUpstreamProtocolError, {"http_protocol_error", 502}},
};

/// The inside of a quoted string (RFC 8941 3.3.3), with underscores for spaces as logs have it.
void appendQuoted(std::string& out, std::string_view text) {
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c < 0x20 || c >= 0x7f) continue;
    out += c == ' ' ? '_' : c;
  }
}

}  // namespace

ProxyError proxyErrorOf(const formatter::AccessRecord& record) {
  for (const StatusEntry& each : kErrors) {
    if (!record.flags.has(each.flag)) continue;
    const bool slow = each.flag == formatter::Flag::kUpstreamConnectionFailure &&
                      record.details.find("timeout") != std::string::npos;
    return slow ? ProxyError{"connection_timeout", 504} : each.error;
  }
  return {};
}

void addProxyStatus(const ProxyStatus& config, std::string_view server_name,
                    std::string_view node_id, const formatter::AccessRecord& record,
                    http::HeaderMap& headers) {
  const ProxyError error = proxyErrorOf(record);
  if (error.name.empty()) return;
  std::string value = headers.joined("proxy-status").value_or("");
  if (!value.empty()) value += ", ";
  value += config.use_node_id ? node_id : config.name.empty() ? server_name : config.name;
  value.append("; error=").append(error.name);
  if (config.details && !record.details.empty()) {
    value += "; details=\"";
    appendQuoted(value, record.details);
    if (config.termination && !record.termination.empty()) {
      value += "; ";
      appendQuoted(value, record.termination);
    }
    if (config.flags) {
      value += "; ";
      record.flags.appendShort(value);
    }
    value += '"';
  }
  headers.set("proxy-status", value);
}

}  // namespace postern::proxy
