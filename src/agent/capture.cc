#include "agent/capture.h"

#include "base/strings.h"
#include "net/address.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <spawn.h>

#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace postern::agent {
namespace {

using base::ConfigResult;
using base::failConfig;

constexpr std::uint16_t kHboneInPort = 15008;

ConfigResult<std::uint16_t> parsePort(std::string_view flag, std::string_view text) {
  auto port = base::parseInteger<std::uint16_t>(text);
  if (!port || *port == 0) {
    return failConfig(std::string(flag), fmt::format("\"{}\" is not a port (1-65535)", text));
  }
  return *port;
}

ConfigResult<std::vector<std::uint16_t>> parsePorts(std::string_view flag, std::string_view text) {
  std::vector<std::uint16_t> out;
  if (text.empty()) return out;
  for (std::string_view each : base::split(text, ',')) {
    POSTERN_TRY(std::uint16_t port, parsePort(flag, base::trim(each)));
    out.push_back(port);
    if (out.size() > kCaptureListMax) return failConfig(std::string(flag), "has over 1000 ports");
  }
  return out;
}

ConfigResult<std::vector<std::string>> parseCidrs(std::string_view flag, std::string_view text) {
  std::vector<std::string> out;
  if (text.empty()) return out;
  for (std::string_view each : base::split(text, ',')) {
    each = base::trim(each);
    if (each != "*" && !net::Cidr::parse(each)) {
      return failConfig(std::string(flag), fmt::format("\"{}\" is not an address range", each));
    }
    out.emplace_back(each);
    if (out.size() > kCaptureListMax) return failConfig(std::string(flag), "has over 1000 ranges");
  }
  return out;
}

ConfigResult<std::uint32_t> parseId(std::string_view flag, std::string_view text) {
  auto id = base::parseInteger<std::uint32_t>(text);
  if (!id) return failConfig(std::string(flag), fmt::format("\"{}\" is not a numeric id", text));
  return *id;
}

/// The long form of a flag, so that both are handled in one place.
std::string_view canonical(std::string_view flag) {
  static constexpr std::pair<std::string_view, std::string_view> kLong[] = {
      {"--envoy-port", "-p"},
      {"--inbound-capture-port", "-z"},
      {"--proxy-uid", "-u"},
      {"--proxy-gid", "-g"},
      {"--istio-inbound-interception-mode", "-m"},
      {"--istio-service-cidr", "-i"},
      {"--istio-service-exclude-cidr", "-x"},
      {"--istio-outbound-ports", "-q"},
      {"--istio-local-outbound-ports-exclude", "-o"},
      {"--istio-inbound-ports", "-b"},
      {"--istio-local-exclude-ports", "-d"}};
  for (const auto& [name, letter] : kLong) {
    if (flag == name) return letter;
  }
  return flag;
}

ConfigResult<void> setCaptureFlag(CaptureOptions& out, std::string_view flag,
                                  std::string_view value) {
  const std::string_view letter = canonical(flag);
  if (letter == "-p") {
    POSTERN_TRY(out.outbound_port, parsePort(flag, value));
  } else if (letter == "-z") {
    POSTERN_TRY(out.inbound_port, parsePort(flag, value));
  } else if (letter == "-u") {
    POSTERN_TRY(out.proxy_uid, parseId(flag, value));
  } else if (letter == "-g") {
    POSTERN_TRY(out.proxy_gid, parseId(flag, value));
  } else if (letter == "-m") {
    if (value != "REDIRECT") {
      return failConfig(std::string(flag),
                        fmt::format("\"{}\": only REDIRECT is supported", value));
    }
  } else if (letter == "-i") {
    POSTERN_TRY(out.outbound_include_cidrs, parseCidrs(flag, value));
  } else if (letter == "-x") {
    POSTERN_TRY(out.outbound_exclude_cidrs, parseCidrs(flag, value));
  } else if (letter == "-q") {
    POSTERN_TRY(out.outbound_include_ports, parsePorts(flag, value));
  } else if (letter == "-o") {
    POSTERN_TRY(out.outbound_exclude_ports, parsePorts(flag, value));
  } else if (letter == "-b") {
    out.inbound_all_ports = value == "*";
    out.inbound_include_ports.clear();
    if (!out.inbound_all_ports) {
      POSTERN_TRY(out.inbound_include_ports, parsePorts(flag, value));
    }
  } else if (letter == "-d") {
    POSTERN_TRY(out.inbound_exclude_ports, parsePorts(flag, value));
  } else {
    return failConfig(std::string(flag), "unknown flag");
  }
  return {};
}

std::string portSet(const std::vector<std::uint16_t>& ports) {
  return fmt::format("{{ {} }}", fmt::join(ports, ", "));
}

/// "ip daddr { … } " for the ranges of one family; nothing when there is none.
std::vector<std::string> rangeMatches(const std::vector<std::string>& cidrs) {
  std::vector<std::string> v4;
  std::vector<std::string> v6;
  for (const std::string& each : cidrs) {
    if (each == "*") continue;
    (each.find(':') == std::string::npos ? v4 : v6).push_back(each);
  }
  std::vector<std::string> out;
  if (!v4.empty()) out.push_back(fmt::format("ip daddr {{ {} }} ", fmt::join(v4, ", ")));
  if (!v6.empty()) out.push_back(fmt::format("ip6 daddr {{ {} }} ", fmt::join(v6, ", ")));
  return out;
}

bool hasAll(const std::vector<std::string>& cidrs) {
  for (const std::string& each : cidrs) {
    if (each == "*") return true;
  }
  return false;
}

std::string inboundChain(const CaptureOptions& options) {
  std::string out =
      "  chain inbound {\n"
      "    type nat hook prerouting priority -100; policy accept;\n"
      "    meta l4proto != tcp return\n";
  out += fmt::format("    tcp dport {} return\n", kHboneInPort);
  if (!options.inbound_exclude_ports.empty()) {
    out += fmt::format("    tcp dport {} return\n", portSet(options.inbound_exclude_ports));
  }
  if (options.inbound_all_ports) {
    out += fmt::format("    meta l4proto tcp redirect to :{}\n", options.inbound_port);
  } else if (!options.inbound_include_ports.empty()) {
    out += fmt::format("    tcp dport {} redirect to :{}\n", portSet(options.inbound_include_ports),
                       options.inbound_port);
  }
  return out + "  }\n";
}

/// The three rules for what the proxy itself sends, by owner.
std::string ownerRules(const CaptureOptions& options, std::string_view key, std::uint32_t id) {
  // An application that calls its own service comes back through the inbound side.
  std::string out;
  for (std::string_view not_self : {"ip daddr != 127.0.0.1", "ip6 daddr != ::1"}) {
    out += fmt::format(
        "    oifname \"lo\" {} meta {} {} meta l4proto tcp tcp dport != {} redirect to :{}\n",
        not_self, key, id, kHboneInPort, options.inbound_port);
  }
  out += fmt::format("    oifname \"lo\" meta {} != {} return\n", key, id);
  return out + fmt::format("    meta {} {} return\n", key, id);
}

std::string outboundChain(const CaptureOptions& options) {
  std::string out =
      "  chain outbound {\n"
      "    type nat hook output priority -100; policy accept;\n";
  if (!options.outbound_exclude_ports.empty()) {
    const std::string ports = portSet(options.outbound_exclude_ports);
    out += fmt::format("    tcp dport {0} return\n    udp dport {0} return\n", ports);
  }
  // What the inbound side hands to the application.
  out += "    oifname \"lo\" ip saddr 127.0.0.6 return\n";
  out += "    oifname \"lo\" ip6 saddr ::6 return\n";
  out += ownerRules(options, "skuid", options.proxy_uid);
  out += ownerRules(options, "skgid", options.proxy_gid);
  out += "    ip daddr 127.0.0.1 return\n    ip6 daddr ::1 return\n";
  for (const std::string& match : rangeMatches(options.outbound_exclude_cidrs)) {
    out += "    " + match + "return\n";
  }
  const std::string redirect = fmt::format("redirect to :{}\n", options.outbound_port);
  if (!options.outbound_include_ports.empty()) {
    out += fmt::format("    tcp dport {} {}", portSet(options.outbound_include_ports), redirect);
  }
  if (hasAll(options.outbound_include_cidrs)) {
    out += "    meta l4proto tcp " + redirect;
  } else {
    for (const std::string& match : rangeMatches(options.outbound_include_cidrs)) {
      out += "    " + match + "meta l4proto tcp " + redirect;
    }
  }
  return out + "  }\n";
}

int applyRuleset(const std::string& text) {
  int ends[2];
  if (::pipe(ends) != 0) return errno;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[0], 0);
  ::posix_spawn_file_actions_addclose(&actions, ends[0]);
  ::posix_spawn_file_actions_addclose(&actions, ends[1]);
  char nft[] = "nft";
  char file[] = "-f";
  char standard_input[] = "-";
  char* argv[] = {nft, file, standard_input, nullptr};
  pid_t child = -1;
  const int failed = ::posix_spawnp(&child, "nft", &actions, nullptr, argv, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[0]);
  if (failed != 0) {
    ::close(ends[1]);
    return failed;
  }
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::write(ends[1], text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    written += static_cast<std::size_t>(count);
  }
  ::close(ends[1]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : ECANCELED;
}

}  // namespace

ConfigResult<CaptureOptions> parseCaptureOptions(std::span<const std::string_view> arguments) {
  CaptureOptions out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view flag = arguments[i];
    if (flag == "-n" || flag == "--dry-run") {
      out.dry_run = true;
      continue;
    }
    const std::size_t equals = flag.starts_with("--") ? flag.find('=') : std::string_view::npos;
    if (equals != std::string_view::npos) {
      POSTERN_TRY_VOID(setCaptureFlag(out, flag.substr(0, equals), flag.substr(equals + 1)));
      continue;
    }
    if (i + 1 == arguments.size()) return failConfig(std::string(flag), "needs a value");
    POSTERN_TRY_VOID(setCaptureFlag(out, flag, arguments[++i]));
  }
  return out;
}

std::string captureRuleset(const CaptureOptions& options) {
  return "table inet postern-capture {}\n"
         "delete table inet postern-capture\n"
         "table inet postern-capture {\n" +
         inboundChain(options) + outboundChain(options) + "}\n";
}

int runCapture(std::span<const std::string_view> arguments) {
  auto options = parseCaptureOptions(arguments);
  if (!options) {
    std::fprintf(stderr, "error: capture: %s\n", options.error().message().c_str());
    return 2;
  }
  const std::string rules = captureRuleset(*options);
  if (options->dry_run) {
    std::fputs(rules.c_str(), stdout);
    return 0;
  }
  if (const int failed = applyRuleset(rules); failed != 0) {
    std::fprintf(stderr, "error: capture: nft did not accept the rules%s%s\n",
                 failed == ECANCELED ? "" : ": ", failed == ECANCELED ? "" : std::strerror(failed));
    return 1;
  }
  std::printf("redirecting outbound to %u, inbound to %u, except uid %u\n", options->outbound_port,
              options->inbound_port, options->proxy_uid);
  return 0;
}

}  // namespace postern::agent
