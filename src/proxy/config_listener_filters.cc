#include "config/supported.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.pb.h"
#include "envoy/extensions/filters/listener/original_dst/v3/original_dst.pb.h"
#include "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.pb.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb.h"
#include "proxy/config_build.h"
#include "proxy/proto_fields.h"

#include <google/protobuf/message.h>

#include <algorithm>

namespace postern::proxy {

namespace {

namespace core = envoy::config::core::v3;
namespace listener = envoy::config::listener::v3;
namespace listener_filters = envoy::extensions::filters::listener;
using config::joinPath;
using Predicate = listener::ListenerFilterChainMatchPredicate;

base::ConfigResult<ConnectionPredicate> readPredicate(const Predicate& message,
                                                      const std::string& path, int depth) {
  constexpr int kDepthMax = 32;
  if (depth > kDepthMax) return base::failConfig(path, "is nested too deeply");
  ConnectionPredicate out;
  const auto readSet = [&](const Predicate::MatchSet& set,
                           const char* name) -> base::ConfigResult<void> {
    const std::string at = joinPath(path, name);
    if (set.rules_size() < 2)
      return base::failConfig(joinPath(at, "rules"), "must have at least 2 members");
    for (int i = 0; i < set.rules_size(); ++i) {
      POSTERN_TRY(auto rule, readPredicate(set.rules(i), joinPath(at, "rules", i), depth + 1));
      out.rules.push_back(std::move(rule));
    }
    return {};
  };
  switch (message.rule_case()) {
    case Predicate::kOrMatch:
      out.kind = ConnectionPredicate::Kind::kOr;
      POSTERN_TRY_VOID(readSet(message.or_match(), "or_match"));
      break;
    case Predicate::kAndMatch:
      out.kind = ConnectionPredicate::Kind::kAnd;
      POSTERN_TRY_VOID(readSet(message.and_match(), "and_match"));
      break;
    case Predicate::kNotMatch: {
      out.kind = ConnectionPredicate::Kind::kNot;
      POSTERN_TRY(auto rule,
                  readPredicate(message.not_match(), joinPath(path, "not_match"), depth + 1));
      out.rules.push_back(std::move(rule));
      break;
    }
    case Predicate::kAnyMatch:
      if (!message.any_match())
        return base::failConfig(joinPath(path, "any_match"), "must be true");
      break;
    case Predicate::kDestinationPortRange:
      out.kind = ConnectionPredicate::Kind::kPorts;
      out.first_port = message.destination_port_range().start();
      out.after_port = message.destination_port_range().end();
      break;
    default:
      return base::failConfig(path, "must hold a rule");
  }
  return out;
}

base::ConfigResult<void> readTlsInspector(
    const listener_filters::tls_inspector::v3::TlsInspector& message, const std::string& path,
    Listener& out) {
  constexpr std::uint32_t kHelloBytesMax = 16 * 1024;
  out.close_on_bad_hello = message.close_connection_on_client_hello_parsing_errors();
  if (!message.has_max_client_hello_size()) return {};
  const auto size = message.max_client_hello_size().value();
  if (size == 0 || size > kHelloBytesMax) {
    return base::failConfig(joinPath(path, "max_client_hello_size"), "must be between 1 and 16384");
  }
  out.client_hello_bytes_max = size;
  return {};
}

base::ConfigResult<void> readProxyProtocolFilter(
    const listener_filters::proxy_protocol::v3::ProxyProtocol& message, const std::string& path,
    Listener& out) {
  ProxyProtocolFilter filter;
  filter.required = !message.allow_requests_without_proxy_protocol();
  for (int i = 0; i < message.disallowed_versions_size(); ++i) {
    switch (message.disallowed_versions(i)) {
      case core::ProxyProtocolConfig::V1:
        filter.refuses_v1 = true;
        break;
      case core::ProxyProtocolConfig::V2:
        filter.refuses_v2 = true;
        break;
      default:
        return base::failConfig(joinPath(path, "disallowed_versions", i), "is not a known version");
    }
  }
  if (message.has_pass_through_tlvs()) {
    POSTERN_TRY(filter.passed_on,
                readTlvChoice(message.pass_through_tlvs(), joinPath(path, "pass_through_tlvs")));
  }
  filter.stat_scope = "proxy_proto.";
  if (!message.stat_prefix().empty()) filter.stat_scope += message.stat_prefix() + ".";
  out.proxy_protocol = std::move(filter);
  return {};
}

/// The kind of one listener filter; what it is given goes into `out`.
base::ConfigResult<ListenerFilter> readListenerFilter(const google::protobuf::Message& config,
                                                      const std::string& path, Listener& out) {
  if (as<listener_filters::original_dst::v3::OriginalDst>(config) != nullptr)
    return ListenerFilter::kOriginalDst;
  if (as<listener_filters::http_inspector::v3::HttpInspector>(config) != nullptr)
    return ListenerFilter::kHttpInspector;
  if (const auto* tls = as<listener_filters::tls_inspector::v3::TlsInspector>(config)) {
    POSTERN_TRY_VOID(readTlsInspector(*tls, path, out));
    return ListenerFilter::kTlsInspector;
  }
  if (const auto* proxy = as<listener_filters::proxy_protocol::v3::ProxyProtocol>(config)) {
    if (out.proxy_protocol) return base::failConfig(path, "is there twice");
    POSTERN_TRY_VOID(readProxyProtocolFilter(*proxy, path, out));
    return ListenerFilter::kProxyProtocol;
  }
  return base::failConfig(
      path, config.GetDescriptor()->full_name() + " is not a supported listener filter");
}

}  // namespace

bool ConnectionPredicate::matches(const net::Address& destination) const {
  const auto fits = [&](const ConnectionPredicate& rule) { return rule.matches(destination); };
  switch (kind) {
    case Kind::kAny:
      break;
    case Kind::kAnd:
      return std::all_of(rules.begin(), rules.end(), fits);
    case Kind::kOr:
      return std::any_of(rules.begin(), rules.end(), fits);
    case Kind::kNot:
      return !fits(rules.front());
    case Kind::kPorts:
      return destination.isIp() && destination.port() >= first_port &&
             destination.port() < after_port;
  }
  return true;
}

base::ConfigResult<ProxyTlvChoice> readTlvChoice(const core::ProxyProtocolPassThroughTLVs& message,
                                                 std::string_view path) {
  ProxyTlvChoice out;
  switch (message.match_type()) {
    case core::ProxyProtocolPassThroughTLVs::INCLUDE_ALL:
      out.all = true;
      break;
    case core::ProxyProtocolPassThroughTLVs::INCLUDE:
      break;
    default:
      return base::failConfig(joinPath(path, "match_type"), "is not a known type");
  }
  for (int i = 0; i < message.tlv_type_size(); ++i) {
    constexpr std::uint32_t kTypeEnd = 256;
    if (message.tlv_type(i) >= kTypeEnd)
      return base::failConfig(joinPath(path, "tlv_type", i), "must be less than 256");
    out.types.push_back(static_cast<std::uint8_t>(message.tlv_type(i)));
  }
  return out;
}

base::ConfigResult<void> readListenerFilters(const listener::Listener& message,
                                             std::string_view path, Listener& out) {
  for (int i = 0; i < message.listener_filters_size(); ++i) {
    const std::string at = joinPath(path, "listener_filters", i);
    const std::string inner = joinPath(at, "typed_config");
    POSTERN_TRY(const auto config, unpackKnown(message.listener_filters(i).typed_config(), inner));
    ListenerFilterEntry entry;
    POSTERN_TRY(entry.filter, readListenerFilter(*config, inner, out));
    if (message.listener_filters(i).has_filter_disabled()) {
      POSTERN_TRY(entry.disabled, readPredicate(message.listener_filters(i).filter_disabled(),
                                                joinPath(at, "filter_disabled"), 0));
    }
    out.filters.push_back(std::move(entry));
  }
  // use_original_dst means nothing without the filter that finds the original destination.
  const bool has =
      !out.filters.empty() && out.filters.front().filter == ListenerFilter::kOriginalDst;
  if (out.use_original_dst && !has)
    out.filters.insert(out.filters.begin(), ListenerFilterEntry{ListenerFilter::kOriginalDst, {}});
  return {};
}

}  // namespace postern::proxy
