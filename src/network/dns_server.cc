#include "network/dns_server.h"

#include <algorithm>
#include <cerrno>

#include <sys/socket.h>
#include <unistd.h>

namespace postern::network {
namespace {

constexpr std::uint32_t kTtlSeconds = 5;
constexpr int kDatagramsPerTurn = 128;
constexpr int kBindTries = 20;

}  // namespace

std::vector<DnsRecord> dnsRecords(const DnsFound& found, std::uint16_t type, std::size_t turn) {
  std::vector<DnsRecord> out;
  const auto asked = [&](std::uint16_t which) { return type == which || type == kDnsTypeAny; };
  if (asked(kDnsTypeA)) {
    const std::size_t count = found.addresses.size();
    for (std::size_t i = 0; i < count; ++i)
      out.push_back(dnsA(found.addresses[(turn + i) % count]));
  }
  if (asked(kDnsTypeSrv)) {
    for (const auto& server : found.servers) out.push_back(dnsSrv(server.port, server.target));
  }
  if (asked(kDnsTypePtr) && !found.pointer.empty()) out.push_back(dnsPtr(found.pointer));
  return out;
}

// One TCP connection: a length of two bytes before each message. One query at a time.
struct DnsServer::Stream : event::Deferred {
  Stream(DnsServer& owner, base::Fd fd)
      : server(owner),
        socket(std::move(fd)),
        idle(owner.loop_, [this] { server.closeStream(this); }),
        watch(owner.loop_, socket.get(), [this](std::uint32_t) { ready(); }) {
    idle.arm(kDnsStreamIdle);
  }

  void ready() {
    if (!write()) return server.closeStream(this);
    if (!busy && !read()) server.closeStream(this);
  }

  bool write() {
    while (!out.empty()) {
      const ssize_t put = ::send(socket.get(), out.data(), out.size(), MSG_NOSIGNAL);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return errno == EAGAIN;
      out.erase(0, static_cast<std::size_t>(put));
    }
    return true;
  }

  bool read() {
    while (true) {
      const std::size_t length = in.size() < 2 ? 0 : dnsId(in);
      if (in.size() >= 2 && in.size() >= 2 + length) {
        take(length);
        return true;
      }
      char bytes[2048];
      const ssize_t got = ::recv(socket.get(), bytes, sizeof(bytes), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno == EAGAIN;
      if (got == 0) return false;
      in.append(bytes, static_cast<std::size_t>(got));
    }
  }

  void take(std::size_t length) {
    std::string message = in.substr(2, length);
    in.erase(0, 2 + length);
    busy = true;
    idle.arm(kDnsStreamIdle);
    server.answer(std::move(message), DnsForwarder::Transport::kTcp,
                  [owner = &server, self = this](std::string reply) {
                    const auto& all = owner->streams_;
                    if (std::none_of(all.begin(), all.end(),
                                     [&](const auto& each) { return each.get() == self; })) {
                      return;  // closed meanwhile
                    }
                    self->replied(std::move(reply));
                  });
  }

  void replied(const std::string& reply) {
    busy = false;
    if (reply.empty()) {
      idle.arm({});  // malformed: closes in a later turn
      return;
    }
    out.push_back(static_cast<char>(reply.size() >> 8U));
    out.push_back(static_cast<char>(reply.size() & 0xffU));
    out += reply;
    // What arrived meanwhile is read in a later turn: this may be within take().
    server.loop_.post([owner = &server, self = this] {
      const auto& all = owner->streams_;
      if (std::any_of(all.begin(), all.end(),
                      [&](const auto& each) { return each.get() == self; })) {
        self->ready();
      }
    });
  }

  DnsServer& server;
  base::Fd socket;
  std::string in;
  std::string out;
  bool busy = false;
  event::Timer idle;
  event::FdWatch watch;
};

base::Result<std::unique_ptr<DnsServer>> DnsServer::start(event::Loop& loop, Options options) {
  std::unique_ptr<DnsServer> out(new DnsServer(loop, options));
  // A kernel-chosen TCP port may be taken for UDP: try another.
  for (int tries = 0;; ++tries) {
    POSTERN_TRY(base::Fd listener, net::listenSocket(options.address));
    auto udp = net::udpSocket(net::localAddress(listener.get()));
    if (!udp && (options.address.port() != 0 || tries == kBindTries)) {
      return std::unexpected(udp.error());
    }
    if (!udp) continue;
    out->udp_ = std::move(*udp);
    out->acceptor_ = std::make_unique<net::Acceptor>(
        loop, std::move(listener), [server = out.get()](base::Fd fd, const net::Address&) {
          server->accepted(std::move(fd));
        });
    break;
  }
  out->udp_watch_ = event::FdWatch(loop, out->udp_.get(),
                                   [server = out.get()](std::uint32_t) { server->readable(); });
  return out;
}

DnsServer::DnsServer(event::Loop& loop, Options options)
    : loop_(loop),
      names_(std::move(options.names)),
      forwarder_(loop, options.host_sockets, std::move(options.resolvers)),
      udp_again_(loop, [this] { readable(); }) {}

DnsServer::~DnsServer() = default;

void DnsServer::readable() {
  char bytes[kDnsEdnsBytesMax];
  for (int i = 0; i < kDatagramsPerTurn; ++i) {
    sockaddr_storage from{};
    socklen_t length = sizeof(from);
    const ssize_t got = ::recvfrom(udp_.get(), bytes, sizeof(bytes), 0,
                                   reinterpret_cast<sockaddr*>(&from), &length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return;
    // A reply that the socket has no room for is lost, as datagrams are.
    answer({bytes, static_cast<std::size_t>(got)}, DnsForwarder::Transport::kUdp,
           [fd = udp_.get(), to = net::Address::fromSockaddr(reinterpret_cast<sockaddr*>(&from),
                                                             length)](const std::string& reply) {
             if (reply.empty()) return;
             ::sendto(fd, reply.data(), reply.size(), MSG_NOSIGNAL, to.sockaddrPtr(), to.length());
           });
  }
  udp_again_.arm({});
}

void DnsServer::accepted(base::Fd connection) {
  if (streams_.size() >= kDnsStreamsMax) return;
  streams_.push_back(std::make_unique<Stream>(*this, std::move(connection)));
}

void DnsServer::closeStream(Stream* stream) {
  const auto at = std::find_if(streams_.begin(), streams_.end(),
                               [&](const auto& each) { return each.get() == stream; });
  if (at == streams_.end()) return;
  stream->watch.reset();
  stream->idle.cancel();
  loop_.destroyLater(std::move(*at));
  streams_.erase(at);
}

void DnsServer::answer(std::string message, DnsForwarder::Transport transport, Reply reply) {
  const auto query = parseDnsQuery(message);
  if (!query) return reply("");  // not worth an answer
  const std::size_t bytes_max =
      transport == DnsForwarder::Transport::kTcp ? kDnsMessageBytesMax : query->udp_bytes_max;
  const auto found = names_->find(query->name);
  if (!found) return forward(std::move(message), *query, transport, std::move(reply));
  if (!found->exists) return reply(dnsResponse(*query, DnsCode::kNoName, {}, kTtlSeconds));
  if (!found->alias.empty()) return followAlias(*query, found->alias, bytes_max, std::move(reply));
  reply(dnsResponse(*query, DnsCode::kNoError, dnsRecords(*found, query->type, query->id),
                    kTtlSeconds, bytes_max));
}

void DnsServer::forward(std::string message, const DnsQuery& query,
                        DnsForwarder::Transport transport, Reply reply) {
  forwarder_.forward(std::move(message), query, transport,
                     [query, reply = std::move(reply)](std::string answer) {
                       const auto parsed = parseDnsReply(answer, query.question);
                       if (!parsed)
                         return reply(dnsResponse(query, DnsCode::kServerFailure, {}, 0));
                       if (query.type == kDnsTypeAaaa) {
                         return reply(dnsResponse(query, parsed->code, {}, kTtlSeconds));
                       }
                       reply(std::move(answer));
                     });
}

void DnsServer::followAlias(const DnsQuery& query, const std::string& alias, std::size_t bytes_max,
                            Reply reply) {
  std::vector<DnsRecord> records{dnsCname(alias)};
  const bool addresses = query.type == kDnsTypeA || query.type == kDnsTypeAny;
  const auto found = names_->find(alias);
  if (!addresses || found) {
    // An alias of an alias is left to the asker.
    for (const std::string& ip :
         addresses&& found ? found->addresses : std::vector<std::string>()) {
      records.push_back(dnsA(ip, alias));
    }
    return reply(dnsResponse(query, DnsCode::kNoError, records, kTtlSeconds, bytes_max));
  }
  std::string message = dnsQuery(query.id, alias, kDnsTypeA);
  const auto question = parseDnsQuery(message);
  if (!question) return reply(dnsResponse(query, DnsCode::kServerFailure, {}, 0));
  forwarder_.forward(std::move(message), *question, DnsForwarder::Transport::kUdp,
                     [query, alias, bytes_max, text = question->question,
                      reply = std::move(reply)](const std::string& answer) {
                       const auto parsed = parseDnsReply(answer, text);
                       if (!parsed)
                         return reply(dnsResponse(query, DnsCode::kServerFailure, {}, 0));
                       std::vector<DnsRecord> all{dnsCname(alias)};
                       for (const std::string& ip : parsed->ipv4_addresses)
                         all.push_back(dnsA(ip, alias));
                       reply(dnsResponse(query, DnsCode::kNoError, all, kTtlSeconds, bytes_max));
                     });
}

}  // namespace postern::network
