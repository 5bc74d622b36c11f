// The names a cluster's DNS answers itself: services, headless services and their pods, names that
// carry an address (x.1.2.3.4.nip.io) and declared externals. Immutable once built, any thread.
#pragma once

#include "json/json.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace postern::network {

struct DnsNamesInput {
  std::vector<std::shared_ptr<const json::Json>> services;
  std::vector<std::shared_ptr<const json::Json>> endpoint_slices;
  std::vector<std::string> externals;  // host names
};

/// What is known of a name.
struct DnsFound {
  struct Server {
    std::string target;  // a name
    std::uint16_t port = 0;
  };
  bool exists = false;                 // a name of ours that is not there: NXDOMAIN
  std::vector<std::string> addresses;  // IPv4
  std::string alias;                   // ExternalName: ask for this name instead
  std::vector<Server> servers;         // SRV: _port._protocol.service
  std::string pointer;                 // PTR: the name of an address
};

class DnsNames {
 public:
  explicit DnsNames(const DnsNamesInput& input);
  /// Nothing when the name is not ours: forward it. The name is lower case without the final dot.
  std::optional<DnsFound> find(std::string_view name) const;
  /// External host names by their stable address of 198.18.0.0/15.
  const std::map<std::string, std::string>& externalByAddress() const { return external_; }

 private:
  void addService(const json::Json& service);
  void addHeadless(const json::Json& slice);
  void addPointer(const std::string& ip, const std::string& name);
  void addExternals(std::vector<std::string> hosts);

  std::map<std::string, DnsFound, std::less<>> names_;
  std::set<std::string> headless_;
  std::map<std::string, std::string> external_;
};

/// The address in a name below xip.io, nip.io or sslip.io.
std::optional<std::string> addressInName(std::string_view name);

}  // namespace postern::network
