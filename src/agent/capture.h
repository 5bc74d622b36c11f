// `postern-proxy capture`: redirects a pod's TCP traffic to its proxy with nftables, as Istio's
// init container does with iptables (same arguments). Arguments to rules is pure; applying runs
// `nft -f -` in the network namespace of the caller. Runs before any other container of the pod.
#pragma once

#include "base/error.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace postern::agent {

/// At most this many ports or ranges in one list.
inline constexpr std::size_t kCaptureListMax = 1000;

/// What to capture. "*" in an include list means everything; an empty one means nothing.
struct CaptureOptions {
  std::uint16_t outbound_port = 15001;                   // -p
  std::uint16_t inbound_port = 15006;                    // -z
  std::uint32_t proxy_uid = 1337;                        // -u
  std::uint32_t proxy_gid = 1337;                        // -g
  std::vector<std::string> outbound_include_cidrs{"*"};  // -i
  std::vector<std::string> outbound_exclude_cidrs;       // -x
  std::vector<std::uint16_t> outbound_include_ports;     // -q, besides the ranges
  std::vector<std::uint16_t> outbound_exclude_ports;     // -o
  bool inbound_all_ports = true;                         // -b '*'
  std::vector<std::uint16_t> inbound_include_ports;      // -b
  std::vector<std::uint16_t> inbound_exclude_ports;      // -d
  bool dry_run = false;                                  // print the rules, change nothing
};

/// Reads Istio's arguments; the error names the flag.
base::ConfigResult<CaptureOptions> parseCaptureOptions(std::span<const std::string_view> arguments);

/// Replaces table "inet postern-capture" in one transaction.
std::string captureRuleset(const CaptureOptions& options);

/// Parses, then applies (or prints); returns the exit status and says on stderr what failed.
int runCapture(std::span<const std::string_view> arguments);

}  // namespace postern::agent
