#include "config/supported.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "proxy/config_build.h"
#include "stats/stats.h"

#include <algorithm>
#include <limits>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace postern::proxy {

namespace {

namespace core = envoy::config::core::v3;
namespace listener = envoy::config::listener::v3;
using config::joinPath;
using When = net::SocketOption::When;

base::ConfigResult<int> readInt(std::int64_t value, const std::string& path) {
  if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max())
    return base::failConfig(path, "must fit into 32 bits");
  return static_cast<int>(value);
}

base::ConfigResult<net::SocketOption> readOption(const core::SocketOption& message,
                                                 const std::string& path) {
  net::SocketOption out;
  POSTERN_TRY(out.level, readInt(message.level(), joinPath(path, "level")));
  POSTERN_TRY(out.name, readInt(message.name(), joinPath(path, "name")));
  switch (message.value_case()) {
    case core::SocketOption::kIntValue: {
      POSTERN_TRY(const int value, readInt(message.int_value(), joinPath(path, "int_value")));
      out.value = net::SocketOption::ofInt(0, 0, value).value;
      break;
    }
    case core::SocketOption::kBufValue:
      out.value = message.buf_value();
      break;
    default:
      return base::failConfig(path, "must hold int_value or buf_value");
  }
  switch (message.state()) {
    case core::SocketOption::STATE_PREBIND:
      break;
    case core::SocketOption::STATE_BOUND:
      out.when = When::kAfterBind;
      break;
    case core::SocketOption::STATE_LISTENING:
      out.when = When::kListening;
      break;
    default:
      return base::failConfig(joinPath(path, "state"), "is not a known state");
  }
  return out;
}

/// True when an option is meant for sockets of this kind and of this address's family.
bool meant(const core::SocketOption& message, const net::Address& address, bool datagrams) {
  if (datagrams ? message.type().has_stream() : message.type().has_datagram()) return false;
  switch (message.ip_version()) {
    case core::SocketOption::SOCKET_IP_VERSION_IPV4:
      return address.family() == AF_INET;
    case core::SocketOption::SOCKET_IP_VERSION_IPV6:
      return address.family() == AF_INET6;
    default:
      return true;
  }
}

base::ConfigResult<void> readOptions(
    const google::protobuf::RepeatedPtrField<core::SocketOption>& messages, const std::string& path,
    const net::Address& address, bool datagrams, std::vector<net::SocketOption>& out) {
  for (int i = 0; i < messages.size(); ++i) {
    POSTERN_TRY(net::SocketOption option,
                readOption(messages[i], path + "[" + std::to_string(i) + "]"));
    if (meant(messages[i], address, datagrams)) out.push_back(std::move(option));
  }
  return {};
}

/// Accepted connections have these from the listening socket.
base::ConfigResult<void> readKeepalive(const core::TcpKeepalive& message, const std::string& path,
                                       std::vector<net::SocketOption>& out) {
  out.push_back(net::SocketOption::ofInt(SOL_SOCKET, SO_KEEPALIVE, 1));
  const auto add = [&](bool given, std::uint32_t value, int name,
                       const char* field) -> base::ConfigResult<void> {
    if (!given) return {};
    POSTERN_TRY(const int checked, readInt(value, joinPath(path, field)));
    out.push_back(net::SocketOption::ofInt(IPPROTO_TCP, name, checked));
    return {};
  };
  POSTERN_TRY_VOID(add(message.has_keepalive_probes(), message.keepalive_probes().value(),
                       TCP_KEEPCNT, "keepalive_probes"));
  POSTERN_TRY_VOID(add(message.has_keepalive_time(), message.keepalive_time().value(), TCP_KEEPIDLE,
                       "keepalive_time"));
  return add(message.has_keepalive_interval(), message.keepalive_interval().value(), TCP_KEEPINTVL,
             "keepalive_interval");
}

/// A pipe's mode; 0: not given.
base::ConfigResult<std::uint32_t> readMode(const core::Address& message, const std::string& path) {
  const std::uint32_t mode = message.pipe().mode();
  const std::string at = joinPath(path, "pipe.mode");
  if (mode > 0777) return base::failConfig(at, "must be at most 511");
  if (mode != 0 && message.pipe().path().starts_with('@'))
    return base::failConfig(at, "Cannot set mode for Abstract AF_UNIX sockets");
  return mode;
}

/// An address of the listener's kind, UDP or not.
base::ConfigResult<net::Address> readOneMore(core::Address message, const std::string& path,
                                             bool datagrams) {
  const bool udp = message.socket_address().protocol() == core::SocketAddress::UDP;
  if (udp != datagrams)
    return base::failConfig(path, "must be of the same protocol as the listener's address");
  if (udp) message.mutable_socket_address()->set_protocol(core::SocketAddress::TCP);
  return readAddress(message, path);
}

base::ConfigResult<void> readAdditional(const listener::Listener& message, const std::string& path,
                                        Listener& out) {
  for (int i = 0; i < message.additional_addresses_size(); ++i) {
    const auto& each = message.additional_addresses(i);
    const std::string at = joinPath(path, "additional_addresses", i);
    AdditionalAddress read;
    POSTERN_TRY(read.address,
                readOneMore(each.address(), joinPath(at, "address"), out.udp.has_value()));
    POSTERN_TRY(read.unix_mode, readMode(each.address(), joinPath(at, "address")));
    const bool own = each.has_socket_options();
    POSTERN_TRY_VOID(
        readOptions(own ? each.socket_options().socket_options() : message.socket_options(),
                    joinPath(own ? joinPath(at, "socket_options") : path, "socket_options"),
                    read.address, out.udp.has_value(), read.socket_options));
    if (each.has_tcp_keepalive() || message.has_tcp_keepalive()) {
      POSTERN_TRY_VOID(
          readKeepalive(each.has_tcp_keepalive() ? each.tcp_keepalive() : message.tcp_keepalive(),
                        joinPath(at, "tcp_keepalive"), read.socket_options));
    }
    const bool with_port = !read.address.isIp() || read.address.port() != 0;
    bool twice = read.address == out.address;
    for (const AdditionalAddress& other : out.additional)
      twice = twice || read.address == other.address;
    if (twice && with_port) return base::failConfig(joinPath(at, "address"), "is there twice");
    out.additional.push_back(std::move(read));
  }
  return {};
}

}  // namespace

base::ConfigResult<void> readListenerSockets(const listener::Listener& message,
                                             std::string_view path_view, Listener& out) {
  const std::string path(path_view);
  const std::string at = joinPath(path, "address");
  core::Address address = message.address();
  if (address.socket_address().protocol() == core::SocketAddress::UDP) {
    POSTERN_TRY(out.udp, readUdpProxy(message, path));
    address.mutable_socket_address()->set_protocol(core::SocketAddress::TCP);
  }
  POSTERN_TRY(out.address, readAddress(address, at));
  POSTERN_TRY(out.unix_mode, readMode(message.address(), at));
  POSTERN_TRY_VOID(readOptions(message.socket_options(), joinPath(path, "socket_options"),
                               out.address, out.udp.has_value(), out.socket_options));
  if (message.has_tcp_keepalive()) {
    POSTERN_TRY_VOID(readKeepalive(message.tcp_keepalive(), joinPath(path, "tcp_keepalive"),
                                   out.socket_options));
  }
  if (message.has_tcp_fast_open_queue_length()) {
    const std::string field = joinPath(path, "tcp_fast_open_queue_length");
    POSTERN_TRY(const int length, readInt(message.tcp_fast_open_queue_length().value(), field));
    out.socket_options.push_back(
        net::SocketOption::ofInt(IPPROTO_TCP, TCP_FASTOPEN, length, When::kListening));
  }
  POSTERN_TRY_VOID(readAdditional(message, path, out));
  if (message.has_max_connections_to_accept_per_socket_event()) {
    out.accepts_per_turn = message.max_connections_to_accept_per_socket_event().value();
    if (out.accepts_per_turn == 0) {
      return base::failConfig(joinPath(path, "max_connections_to_accept_per_socket_event"),
                              "must be at least 1");
    }
  }
  if (message.has_deprecated_v1() && message.deprecated_v1().has_bind_to_port())
    out.bind = message.deprecated_v1().bind_to_port().value();
  if (message.has_bind_to_port()) out.bind = message.bind_to_port().value();
  if (message.has_enable_reuse_port()) out.reuse_port = message.enable_reuse_port().value();
  out.transparent = message.transparent().value();
  out.freebind = message.freebind().value();
  out.ignore_connection_limit = message.ignore_global_conn_limit();
  if (message.has_tcp_backlog_size()) {
    constexpr std::uint32_t kBacklogMax = 1 << 20;
    out.backlog = static_cast<int>(std::min(message.tcp_backlog_size().value(), kBacklogMax));
  }
  out.stat_name = stats::statName(message.stat_prefix().empty() ? out.address.toString()
                                                                : message.stat_prefix());
  return {};
}

}  // namespace postern::proxy
