// The two files by which Network and the relay speak, in the run folder: relay.json, what to listen
// for on the host (written by Network), and relay-status.json, what came of it (written by the
// relay). Each survives the other's end. Values; any thread.
#pragma once

#include "base/error.h"
#include "network/service_rules.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postern::network {

inline constexpr const char* kRelayTableFile = "relay.json";
inline constexpr const char* kRelayStatusFile = "relay-status.json";
inline constexpr std::size_t kRelayListenersMax = 1024;
inline constexpr std::size_t kRelayFileBytesMax = 1024UL * 1024;

/// A port of a load balancer address, and the service address it leads to.
struct RelayListener {
  std::string service;  // "namespace/name"
  std::string address;  // of 127.77.0.0/24
  std::uint16_t port = 0;
  std::string cluster_ip;
  bool operator==(const RelayListener&) const = default;
};

/// What the relay made of a listener.
struct RelayOutcome {
  std::string service;
  std::string address;
  std::uint16_t port = 0;
  std::uint16_t host_port = 0;  // where it listens; 0: nowhere
  std::string error;            // why not, or why not at `port`
  bool operator==(const RelayOutcome&) const = default;
};

/// The TCP ports of load balancer addresses in 127.77.0.0/24, as text of relay.json.
std::string relayTable(const std::vector<ServicePort>& ports);
base::ConfigResult<std::vector<RelayListener>> parseRelayTable(std::string_view text);

std::string relayStatus(const std::vector<RelayOutcome>& outcomes);
base::ConfigResult<std::vector<RelayOutcome>> parseRelayStatus(std::string_view text);

/// By a new file that takes the old one's name: a reader sees one or the other whole.
base::Result<void> writeFileAtomically(const std::string& path, std::string_view text);
/// At most kRelayFileBytesMax.
base::Result<std::string> readWholeFile(const std::string& path);

}  // namespace postern::network
