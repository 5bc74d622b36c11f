#include "formatter/access_record.h"

namespace postern::formatter {

namespace {

struct FlagName {
  std::string_view text;
  std::string_view name;
};

constexpr std::array<FlagName, static_cast<std::size_t>(Flag::kCount)> kFlagNames{{
    {"LH", "FailedLocalHealthCheck"},
    {"UH", "NoHealthyUpstream"},
    {"UT", "UpstreamRequestTimeout"},
    {"LR", "LocalReset"},
    {"UR", "UpstreamRemoteReset"},
    {"UF", "UpstreamConnectionFailure"},
    {"UC", "UpstreamConnectionTermination"},
    {"UO", "UpstreamOverflow"},
    {"NR", "NoRouteFound"},
    {"DI", "DelayInjected"},
    {"FI", "FaultInjected"},
    {"RL", "RateLimited"},
    {"UAEX", "UnauthorizedExternalService"},
    {"RLSE", "RateLimitServiceError"},
    {"DC", "DownstreamConnectionTermination"},
    {"URX", "UpstreamRetryLimitExceeded"},
    {"SI", "StreamIdleTimeout"},
    {"IH", "InvalidEnvoyRequestHeaders"},
    {"DPE", "DownstreamProtocolError"},
    {"UMSDR", "UpstreamMaxStreamDurationReached"},
    {"RFCF", "ResponseFromCacheFilter"},
    {"NFCF", "NoFilterConfigFound"},
    {"DT", "DurationTimeout"},
    {"UPE", "UpstreamProtocolError"},
    {"NC", "NoClusterFound"},
    {"OM", "OverloadManagerTerminated"},
    {"DF", "DnsResolutionFailed"},
    {"DO", "DropOverload"},
    {"DR", "DownstreamRemoteReset"},
    {"UDO", "UnconditionalDropOverload"},
}};

/// Where ":port" begins; npos for a Unix path.
std::size_t portColon(std::string_view text) {
  if (text.empty() || text.front() == '/' || text.front() == '@') return std::string_view::npos;
  return text.rfind(':');
}

}  // namespace

std::string_view addressWithoutPort(std::string_view text) {
  text = text.substr(0, portColon(text));
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  return text;
}

std::string_view addressPort(std::string_view text) {
  const std::size_t colon = portColon(text);
  return colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
}

bool ResponseFlags::parse(std::string_view name, Flag& out) {
  for (std::size_t i = 0; i < kFlagNames.size(); ++i) {
    if (kFlagNames[i].text != name) continue;
    out = static_cast<Flag>(i);
    return true;
  }
  return false;
}

void ResponseFlags::append(std::string& out, bool names) const {
  for (std::size_t i = 0; i < count_; ++i) {
    const FlagName& flag = kFlagNames[static_cast<std::size_t>(order_[i])];
    if (i != 0) out += ',';
    out += names ? flag.name : flag.text;
  }
  if (count_ == 0) out += '-';
}

}  // namespace postern::formatter
