#include "network/external.h"

#include "base/strings.h"
#include "network/dns_names.h"

#include <fmt/core.h>

#include <algorithm>

namespace postern::network {
namespace {

constexpr std::size_t kHostBytesMax = 253;

bool isHostName(std::string_view host) {
  if (host.empty() || host.size() > kHostBytesMax) return false;
  for (const std::string_view label : base::split(host, '.')) {
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') {
      return false;
    }
    if (!std::all_of(label.begin(), label.end(), [](char c) {
          return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        })) {
      return false;
    }
  }
  return !net::Address::fromIp(host, 0);
}

}  // namespace

base::ConfigResult<External> External::parse(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return base::failConfig("--external", fmt::format("\"{}\": {}", text, why));
  };
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return refuse("not HOST:PORT=ADDRESS:PORT");
  const std::string_view name = text.substr(0, equals);
  const std::size_t colon = name.rfind(':');
  if (colon == std::string_view::npos) return refuse("no port after the host name");
  External out;
  out.host = base::toLower(name.substr(0, colon));
  if (!isHostName(out.host)) return refuse("the left side is no host name");
  const auto port = base::parseInteger<std::uint16_t>(name.substr(colon + 1));
  if (!port || *port == 0) return refuse("the host's port must be 1 to 65535");
  out.port = *port;
  const auto target = net::Address::parse(text.substr(equals + 1));
  if (!target || !target->isIp() || target->port() == 0) {
    return refuse("the right side is no ADDRESS:PORT with a numeric address");
  }
  out.target = *target;
  return out;
}

std::string External::toString() const {
  return fmt::format("{}:{}={}", host, port, target.toString());
}

std::vector<std::string> externalHosts(const std::vector<External>& externals) {
  std::vector<std::string> out;
  for (const External& external : externals) out.push_back(external.host);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::map<std::string, net::Address> externalTargets(const std::vector<External>& externals) {
  const DnsNames names({{}, {}, externalHosts(externals)});
  std::map<std::string, net::Address> out;
  for (const auto& [ip, host] : names.externalByAddress()) {
    for (const External& external : externals) {
      if (external.host == host) out[fmt::format("{}:{}", ip, external.port)] = external.target;
    }
  }
  return out;
}

}  // namespace postern::network
