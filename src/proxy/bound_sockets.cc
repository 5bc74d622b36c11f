#include "proxy/bound_sockets.h"

#include "net/socket.h"
#include "proxy/config.h"

#include <fcntl.h>
#include <sys/socket.h>

namespace postern::proxy {

namespace {

bool sharesPort(const base::Fd& socket) {
  int on = 0;
  socklen_t size = sizeof on;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_REUSEPORT, &on, &size) == 0 && on != 0;
}

}  // namespace

std::vector<base::Fd> InheritedSockets::take(const std::string& key) {
  const auto it = sockets_.find(key);
  if (it == sockets_.end()) return {};
  std::vector<base::Fd> out = std::move(it->second);
  sockets_.erase(it);
  return out;
}

std::string BoundSockets::keyOf(const net::Address& requested, std::string_view listener,
                                bool datagrams) {
  std::string out = (datagrams ? "udp " : "") + requested.toString();
  if (requested.isIp() && requested.port() == 0) out.append(" ").append(listener);
  return out;
}

base::ConfigResult<std::shared_ptr<const BoundSockets>> BoundSockets::bind(
    const Listener& listener, std::uint32_t workers, InheritedSockets* inherited) {
  auto out = std::make_shared<BoundSockets>();
  out->requested_ = listener.address;
  out->address_ = listener.address;
  out->workers_ = workers;
  out->reuse_port_ = listener.reuse_port;
  out->datagrams_ = listener.udp.has_value();
  out->transparent_ = listener.transparent;
  out->freebind_ = listener.freebind;
  out->unix_mode_ = listener.unix_mode;
  out->options_ = listener.socket_options;
  net::ListenOptions options;
  options.socket_options = listener.socket_options;
  options.datagrams = listener.udp.has_value();
  options.backlog = listener.backlog;
  options.transparent = listener.transparent;
  options.freebind = listener.freebind;
  options.v6_only = true;  // as Envoy without ipv4_compat
  options.reuse_port = listener.reuse_port && listener.address.isIp();
  if (listener.unix_mode != 0) options.unix_mode = listener.unix_mode;
  std::uint32_t wanted = options.reuse_port ? workers : 1;
  if (inherited != nullptr) {
    out->sockets_ = inherited->take(keyOf(listener.address, listener.name, out->datagrams_));
    if (!out->sockets_.empty()) {
      if (listener.address.isIp()) out->address_ = net::localAddress(out->sockets_.front().get());
      // A socket that was made alone cannot be joined by others now.
      if (!sharesPort(out->sockets_.front())) wanted = 1;
    }
  }
  while (out->sockets_.size() < wanted) {
    auto socket = net::bindSocket(out->address_, options);
    if (!socket) {
      return base::failConfig(
          "listener " + listener.name,
          "cannot bind " + out->address_.toString() + ": " + socket.error().message());
    }
    if (listener.address.isIp()) out->address_ = net::localAddress(socket->get());
    out->sockets_.push_back(std::move(*socket));
  }
  return std::shared_ptr<const BoundSockets>(std::move(out));
}

bool BoundSockets::fit(const Listener& listener) const {
  return requested_ == listener.address && datagrams_ == listener.udp.has_value() &&
         reuse_port_ == listener.reuse_port && transparent_ == listener.transparent &&
         freebind_ == listener.freebind && unix_mode_ == listener.unix_mode &&
         options_ == listener.socket_options;
}

base::Result<void> BoundSockets::listen(int backlog) const {
  const std::lock_guard lock(mutex_);
  if (released_ || datagrams_) return {};
  net::ListenOptions options;
  options.socket_options = options_;
  options.backlog = backlog;
  for (const base::Fd& socket : sockets_)
    POSTERN_TRY_VOID(net::startListening(socket.get(), options));
  return {};
}

void BoundSockets::release() const {
  const std::lock_guard lock(mutex_);
  released_ = true;
  sockets_.clear();
}

std::vector<base::Fd> BoundSockets::take(std::uint32_t worker) const {
  const std::lock_guard lock(mutex_);
  std::vector<base::Fd> out;
  const std::size_t count = sockets_.size();
  for (std::size_t i = 0; i < count; ++i) {
    const bool own = count < workers_ ? worker % count == i : i % workers_ == worker;
    if (own) out.emplace_back(::fcntl(sockets_[i].get(), F_DUPFD_CLOEXEC, kCopiesMin));
  }
  std::erase_if(out, [](const base::Fd& fd) { return !fd; });  // out of descriptors
  return out;
}

base::Result<std::vector<base::Fd>> BoundSockets::takeAll() const {
  const std::lock_guard lock(mutex_);
  std::vector<base::Fd> out;
  for (const base::Fd& socket : sockets_) {
    out.emplace_back(::fcntl(socket.get(), F_DUPFD_CLOEXEC, kCopiesMin));
    if (!out.back()) return base::failErrno("dup");
  }
  return out;
}

}  // namespace postern::proxy
