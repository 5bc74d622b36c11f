// A public name that a local server stands for: `--external httpbin.org:80=127.0.0.1:8080`. Pods
// resolve the name to a stable address of 198.18.0.0/15; the relay connects what goes there to the
// given address of the host. Values, any thread.
#pragma once

#include "base/error.h"
#include "net/address.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace postern::network {

inline constexpr std::size_t kExternalsMax = 1024;

struct External {
  std::string host;  // lower case
  std::uint16_t port = 0;
  net::Address target;

  /// "HOST:PORT=ADDRESS:PORT"; an IPv6 target in brackets.
  static base::ConfigResult<External> parse(std::string_view text);
  /// The same text again.
  std::string toString() const;
};

/// Host names without repetition.
std::vector<std::string> externalHosts(const std::vector<External>& externals);

/// Targets by "198.18.x.y:PORT", the addresses that DnsNames answers.
std::map<std::string, net::Address> externalTargets(const std::vector<External>& externals);

}  // namespace postern::network
