#include "network/dns_forwarder.h"

#include "base/fd.h"

#include <algorithm>
#include <cerrno>
#include <deque>

#include <sys/socket.h>
#include <unistd.h>

namespace postern::network {

struct DnsForwarder::Resolver {
  net::Address address;
  base::Fd socket;
  event::FdWatch watch;
  bool opening = false;
  base::MonotonicTime rests_until{};
};

struct DnsForwarder::Pending : event::Deferred {
  Pending(DnsForwarder& forwarder)
      : timer(forwarder.loop_, [this, &forwarder] {
          if (current != nullptr) {
            current->rests_until = forwarder.loop_.now() + kDnsResolverRest;
          }
          forwarder.tryNext(this);
        }) {}

  std::string message;
  std::string question;
  std::uint16_t client_id = 0;
  std::uint16_t id = 0;
  Transport transport = Transport::kUdp;
  Callback callback;
  std::size_t next = 0;         // resolver to try
  Resolver* current = nullptr;  // asked now
  base::Fd stream;              // kTcp
  event::FdWatch stream_watch;
  std::string to_send;
  std::string received;
  std::uint64_t attempt = 0;
  event::Timer timer;
};

DnsForwarder::DnsForwarder(event::Loop& loop, const std::string& host_sockets,
                           std::vector<net::Address> resolvers)
    : loop_(loop), sockets_(loop, host_sockets) {
  for (net::Address& address : resolvers) {
    resolvers_.push_back(std::make_unique<Resolver>());
    resolvers_.back()->address = address;
  }
}

DnsForwarder::~DnsForwarder() = default;

std::uint16_t DnsForwarder::freshId() {
  while (true) {
    const auto id = static_cast<std::uint16_t>(random_.next());
    const bool used = std::any_of(pending_.begin(), pending_.end(),
                                  [&](const auto& each) { return each->id == id; });
    if (!used) return id;
  }
}

void DnsForwarder::forward(std::string message, const DnsQuery& query, Transport transport,
                           Callback callback) {
  auto pending = std::make_unique<Pending>(*this);
  pending->client_id = query.id;
  pending->id = freshId();
  pending->question = query.question;
  pending->message = std::move(message);
  setDnsId(pending->message, pending->id);
  pending->transport = transport;
  pending->callback = std::move(callback);
  if (pending_.size() >= kDnsForwardsMax) pending->next = resolvers_.size();
  pending->timer.arm({});  // tries in a later turn
  pending_.push_back(std::move(pending));
}

void DnsForwarder::tryNext(Pending* pending) {
  pending->current = nullptr;
  pending->stream_watch.reset();
  pending->stream.reset();
  pending->received.clear();
  ++pending->attempt;
  while (pending->next < resolvers_.size()) {
    Resolver& resolver = *resolvers_[pending->next++];
    if (resolver.rests_until > loop_.now()) continue;
    pending->current = &resolver;
    pending->timer.arm(kDnsResolverTimeout);
    if (pending->transport == Transport::kTcp) return connectTcp(pending, resolver);
    if (resolver.socket) return send(pending, resolver);
    return openSocket(resolver);  // sends what waits for it
  }
  finish(pending, "");
}

void DnsForwarder::openSocket(Resolver& resolver) {
  if (resolver.opening) return;
  resolver.opening = true;
  sockets_.udp(resolver.address, [this, &resolver](base::Result<base::Fd> socket) {
    resolver.opening = false;
    if (!socket) return failed(resolver);
    resolver.socket = std::move(*socket);
    resolver.watch = event::FdWatch(loop_, resolver.socket.get(),
                                    [this, &resolver](std::uint32_t) { readable(resolver); });
    std::vector<Pending*> waiting;
    for (const auto& each : pending_) {
      if (each->current == &resolver && each->transport == Transport::kUdp) {
        waiting.push_back(each.get());
      }
    }
    for (Pending* each : waiting) {
      if (each->current == &resolver && resolver.socket) send(each, resolver);
    }
  });
}

void DnsForwarder::send(Pending* pending, Resolver& resolver) {
  // A full socket buffer loses the datagram, as the network may: the timeout stands for both.
  if (::send(resolver.socket.get(), pending->message.data(), pending->message.size(),
             MSG_NOSIGNAL) < 0 &&
      errno != EAGAIN) {
    tryNext(pending);
  }
}

void DnsForwarder::readable(Resolver& resolver) {
  constexpr int kPerTurn = 256;
  char bytes[kDnsEdnsBytesMax];
  for (int i = 0; i < kPerTurn && resolver.socket; ++i) {
    const ssize_t got = ::recv(resolver.socket.get(), bytes, sizeof(bytes), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      if (errno != EAGAIN) failed(resolver);  // "port unreachable", say
      return;
    }
    const std::string_view reply(bytes, static_cast<std::size_t>(got));
    const auto at = std::find_if(pending_.begin(), pending_.end(), [&](const auto& each) {
      return each->current == &resolver && each->id == dnsId(reply) && reply.size() >= 2 &&
             each->transport == Transport::kUdp;
    });
    if (at == pending_.end() || !parseDnsReply(reply, (*at)->question)) continue;
    finish(at->get(), std::string(reply));
  }
}

void DnsForwarder::failed(Resolver& resolver) {
  resolver.watch.reset();
  resolver.socket.reset();
  std::vector<Pending*> waiting;
  for (const auto& each : pending_) {
    if (each->current == &resolver && each->transport == Transport::kUdp) {
      waiting.push_back(each.get());
    }
  }
  for (Pending* each : waiting) tryNext(each);
}

void DnsForwarder::connectTcp(Pending* pending, Resolver& resolver) {
  const std::uint64_t attempt = pending->attempt;
  sockets_.connect(resolver.address, [this, pending, attempt](base::Result<base::Fd> stream) {
    const bool alive = std::any_of(pending_.begin(), pending_.end(), [&](const auto& each) {
      return each.get() == pending && each->attempt == attempt;
    });
    if (!alive) return;
    if (!stream) return tryNext(pending);
    pending->stream = std::move(*stream);
    pending->to_send.clear();
    pending->to_send.push_back(static_cast<char>(pending->message.size() >> 8U));
    pending->to_send.push_back(static_cast<char>(pending->message.size() & 0xffU));
    pending->to_send += pending->message;
    pending->stream_watch = event::FdWatch(loop_, pending->stream.get(),
                                           [this, pending](std::uint32_t) { tcpReady(pending); });
    tcpReady(pending);
  });
}

void DnsForwarder::tcpReady(Pending* pending) {
  while (!pending->to_send.empty()) {
    const ssize_t put = ::send(pending->stream.get(), pending->to_send.data(),
                               pending->to_send.size(), MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) return;
    if (put < 0) return tryNext(pending);
    pending->to_send.erase(0, static_cast<std::size_t>(put));
  }
  char bytes[4096];
  while (true) {
    const ssize_t got = ::recv(pending->stream.get(), bytes, sizeof(bytes), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return tryNext(pending);
    pending->received.append(bytes, static_cast<std::size_t>(got));
    if (pending->received.size() < 2) continue;
    const std::size_t length = dnsId(pending->received);  // the same two bytes' form
    if (pending->received.size() < 2 + length) continue;
    std::string reply = pending->received.substr(2, length);
    if (dnsId(reply) != pending->id || !parseDnsReply(reply, pending->question)) {
      return tryNext(pending);
    }
    return finish(pending, std::move(reply));
  }
}

void DnsForwarder::finish(Pending* pending, std::string reply) {
  const auto at = std::find_if(pending_.begin(), pending_.end(),
                               [&](const auto& each) { return each.get() == pending; });
  if (pending->current != nullptr) pending->current->rests_until = {};
  pending->current = nullptr;
  pending->stream_watch.reset();
  pending->timer.cancel();
  if (reply.size() >= 2) setDnsId(reply, pending->client_id);
  const Callback callback = std::move(pending->callback);
  loop_.destroyLater(std::move(*at));
  pending_.erase(at);
  callback(std::move(reply));
}

}  // namespace postern::network
