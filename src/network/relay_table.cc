#include "network/relay_table.h"

#include "base/fd.h"
#include "net/address.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include <fcntl.h>
#include <unistd.h>

namespace postern::network {
namespace {

using json::Json;

bool isLoadBalancer(const std::string& ip) {
  static const net::Cidr kPool = *net::Cidr::parse("127.77.0.0/24");
  const auto address = net::Address::fromIp(ip, 0);
  return address && kPool.contains(*address);
}

base::ConfigResult<std::vector<Json>> entries(std::string_view text, const char* field) {
  POSTERN_TRY(Json whole, json::parse(text));
  const Json* list = json::find(whole, field);
  if (list == nullptr || !list->is_array()) return base::failConfig(field, "not a list");
  if (list->size() > kRelayListenersMax) return base::failConfig(field, "too many");
  return std::vector<Json>(list->begin(), list->end());
}

std::uint16_t portAt(const Json& entry, const char* field) {
  const long long number = json::integerAt(entry, field);
  return number < 0 || number > 65535 ? std::uint16_t{0} : static_cast<std::uint16_t>(number);
}

}  // namespace

std::string relayTable(const std::vector<ServicePort>& ports) {
  Json list = Json::array();
  for (const ServicePort& port : ports) {
    if (port.protocol != "tcp") continue;
    for (const std::string& address : port.load_balancers) {
      if (!isLoadBalancer(address) || list.size() >= kRelayListenersMax) continue;
      list.push_back({{"service", port.service},
                      {"address", address},
                      {"port", port.port},
                      {"clusterIP", port.cluster_ip}});
    }
  }
  return json::dumpPretty({{"listeners", std::move(list)}});
}

base::ConfigResult<std::vector<RelayListener>> parseRelayTable(std::string_view text) {
  POSTERN_TRY(const std::vector<Json> list, entries(text, "listeners"));
  std::vector<RelayListener> out;
  for (std::size_t i = 0; i < list.size(); ++i) {
    RelayListener listener{json::stringAt(list[i], "service"), json::stringAt(list[i], "address"),
                           portAt(list[i], "port"), json::stringAt(list[i], "clusterIP")};
    const std::string path = fmt::format("listeners[{}]", i);
    if (!isLoadBalancer(listener.address)) {
      return base::failConfig(path + ".address", "not of 127.77.0.0/24");
    }
    if (listener.port == 0) return base::failConfig(path + ".port", "not 1 to 65535");
    if (!net::Address::fromIp(listener.cluster_ip, 0)) {
      return base::failConfig(path + ".clusterIP", "not an address");
    }
    out.push_back(std::move(listener));
  }
  return out;
}

std::string relayStatus(const std::vector<RelayOutcome>& outcomes) {
  Json list = Json::array();
  for (const RelayOutcome& outcome : outcomes) {
    list.push_back({{"service", outcome.service},
                    {"address", outcome.address},
                    {"port", outcome.port},
                    {"hostPort", outcome.host_port},
                    {"error", outcome.error}});
  }
  return json::dumpPretty({{"ports", std::move(list)}});
}

base::ConfigResult<std::vector<RelayOutcome>> parseRelayStatus(std::string_view text) {
  POSTERN_TRY(const std::vector<Json> list, entries(text, "ports"));
  std::vector<RelayOutcome> out;
  for (const Json& entry : list) {
    out.push_back({json::stringAt(entry, "service"), json::stringAt(entry, "address"),
                   portAt(entry, "port"), portAt(entry, "hostPort"),
                   json::stringAt(entry, "error")});
  }
  return out;
}

base::Result<void> writeFileAtomically(const std::string& path, std::string_view text) {
  const std::string fresh = path + ".new";
  {
    const base::Fd fd(
        ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) return base::failErrno("cannot make the file");
    for (std::size_t at = 0; at < text.size();) {
      const ssize_t put = ::write(fd.get(), text.data() + at, text.size() - at);
      if (put < 0 && errno != EINTR) return base::failErrno("cannot write the file");
      if (put > 0) at += static_cast<std::size_t>(put);
    }
  }
  if (std::rename(fresh.c_str(), path.c_str()) != 0) {
    return base::failErrno("cannot replace the file");
  }
  return {};
}

base::Result<std::string> readWholeFile(const std::string& path) {
  const base::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return base::failErrno("cannot open the file");
  std::string out;
  char bytes[16384];
  while (true) {
    const ssize_t got = ::read(fd.get(), bytes, sizeof(bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::failErrno("cannot read the file");
    if (got == 0) return out;
    out.append(bytes, static_cast<std::size_t>(got));
    if (out.size() > kRelayFileBytesMax) {
      return base::fail(base::Errc::kLimitExceeded, "the file is too large");
    }
  }
}

}  // namespace postern::network
