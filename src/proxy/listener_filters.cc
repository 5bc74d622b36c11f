#include "proxy/listener_filters.h"

#include "codec/proxy_protocol.h"
#include "proxy/connection_log.h"
#include "proxy/worker.h"

#include <algorithm>
#include <cerrno>

#include <netinet/in.h>
#include <sys/socket.h>

namespace postern::proxy {

namespace {

/// One read of a PROXY header's rest: what is held grows with what was sent, not with what the
/// length field claims.
constexpr std::size_t kTakeBytes = 4096;

net::Address toAddress(codec::ProxyFamily family, const codec::ProxyEnd& end) {
  if (family == codec::ProxyFamily::kIp4) {
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(end.port);
    std::copy_n(end.ip.data(), 4, reinterpret_cast<unsigned char*>(&four.sin_addr));
    return net::Address::fromSockaddr(reinterpret_cast<const sockaddr*>(&four), sizeof four);
  }
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(end.port);
  std::copy_n(end.ip.data(), 16, reinterpret_cast<unsigned char*>(&six.sin6_addr));
  return net::Address::fromSockaddr(reinterpret_cast<const sockaddr*>(&six), sizeof six);
}

}  // namespace

PendingConnection::PendingConnection(Worker& worker, ListenerState& owner, base::Fd fd,
                                     ConnectionFacts facts, Handed handed)
    : worker_(worker),
      owner_(owner),
      fd_(std::move(fd)),
      facts_(std::move(facts)),
      started_(worker.loop().now()),
      handed_(handed),
      limit_(owner.entry().limit),
      timer_(worker.loop(), [this] { timedOut(); }) {
  owner_.remember(*this);
  owner_.stats().downstream_pre_cx_active.add();
  worker_.countOpen(limit_);
}

void PendingConnection::start() {
  if (!run()) return;
  const auto timeout = facts_.listener->filters_timeout;
  if (timeout.count() != 0) timer_.arm(timeout);
  watch_ = event::FdWatch(worker_.loop(), fd_.get(), [this](std::uint32_t ready) {
    if (run() && (ready & event::kHangup) != 0) {
      owner_.stats().downstream_listener_filter_remote_close.add();
      drop();
    }
  });
}

void PendingConnection::drop() {
  fd_.reset();
  logUntaken(worker_, facts_, started_);
  finish();
}

bool PendingConnection::run() {
  const auto& filters = facts_.listener->filters;
  for (; next_ < filters.size(); ++next_) {
    const auto& disabled = filters[next_].disabled;
    if (disabled && disabled->matches(facts_.destination)) continue;
    switch (apply(filters[next_].filter)) {
      case Step::kWait:
        return true;
      case Step::kDone:
        continue;
      case Step::kClosed:
        owner_.stats().downstream_listener_filter_remote_close.add();
        break;
      case Step::kDrop:
        owner_.stats().downstream_listener_filter_error.add();
        break;
    }
    drop();
    return false;
  }
  proceed();
  return false;
}

PendingConnection::Step PendingConnection::apply(ListenerFilter filter) {
  switch (filter) {
    case ListenerFilter::kOriginalDst:
      return restoreDestination();
    case ListenerFilter::kTlsInspector:
      return inspectTls();
    case ListenerFilter::kHttpInspector:
      return inspectHttp();
    case ListenerFilter::kProxyProtocol:
      return takeProxyHeader();
  }
  return Step::kDone;
}

PendingConnection::Step PendingConnection::restoreDestination() {
  if (auto original = net::originalDestination(fd_.get())) {
    facts_.restored = !(*original == facts_.destination);
    facts_.destination = *original;
  } else if (facts_.listener->transparent) {
    // TPROXY: the socket's own address is what the client wanted.
    facts_.restored = facts_.destination.port() != facts_.listener->address.port();
  }
  return Step::kDone;
}

PendingConnection::Step PendingConnection::inspectTls() {
  stats::Scope& stats = worker_.stats().scope("tls_inspector.");
  switch (peek(facts_.listener->client_hello_bytes_max)) {
    case Arrived::kNothing:
      return Step::kWait;
    case Arrived::kEnd:
      return Step::kClosed;
    case Arrived::kError:
      return Step::kDrop;
    case Arrived::kBytes:
      break;
  }
  switch (detectTls(bytes_, facts_.listener->client_hello_bytes_max, facts_)) {
    case Detection::kMore:
      return Step::kWait;
    case Detection::kTooLarge:
      stats.counter("client_hello_too_large").add();
      return Step::kDrop;
    case Detection::kNotFound:
      stats.counter("tls_not_found").add();
      return facts_.listener->close_on_bad_hello ? Step::kDrop : Step::kDone;
    case Detection::kFound:
      break;
  }
  stats.counter("tls_found").add();
  stats.counter(facts_.server_name.empty() ? "sni_not_found" : "sni_found").add();
  stats.counter(facts_.application_protocols.empty() ? "alpn_not_found" : "alpn_found").add();
  return Step::kDone;
}

PendingConnection::Step PendingConnection::inspectHttp() {
  if (facts_.transport_protocol == "tls") return Step::kDone;
  stats::Scope& stats = worker_.stats().scope("http_inspector.");
  switch (peek(kInspectedBytesMax)) {
    case Arrived::kNothing:
      return Step::kWait;
    case Arrived::kEnd:
      return Step::kClosed;
    case Arrived::kError:
      stats.counter("read_error").add();
      return Step::kDrop;
    case Arrived::kBytes:
      break;
  }
  switch (detectHttp(bytes_, facts_)) {
    case Detection::kMore:
      return Step::kWait;
    case Detection::kFound: {
      const std::string& found = facts_.application_protocols.front();
      stats
          .counter(found == "h2c"        ? "http2_found"
                   : found == "http/1.1" ? "http11_found"
                                         : "http10_found")
          .add();
      return Step::kDone;
    }
    default:
      stats.counter("http_not_found").add();
      return Step::kDone;
  }
}

// ---- PROXY protocol ----

/// Up to the length of a line of version 1 is looked at and left; version 2, once its length is
/// known, is taken as it comes, since the kernel may hold less than the longest header.
PendingConnection::Step PendingConnection::takeProxyHeader() {
  if (header_bytes_ != 0) return takeRest();
  switch (peek(codec::kProxyV1BytesMax)) {
    case Arrived::kNothing:
      return Step::kWait;
    case Arrived::kEnd:
      return Step::kClosed;
    case Arrived::kError:
      return Step::kDrop;
    case Arrived::kBytes:
      break;
  }
  codec::ProxyHeader header;
  const codec::ProxyRead read = codec::readProxyHeader(bytes_, header);
  if (read.result == codec::ProxyResult::kMore) {
    if (header.version != codec::ProxyVersion::kV2 || bytes_.size() < codec::kProxyV2FixedBytes)
      return Step::kWait;
    header_bytes_ = read.bytes;
    return takeRest();
  }
  if (read.result == codec::ProxyResult::kHeader)
    (void)::recv(fd_.get(), bytes_.data(), read.bytes, 0);  // it is there: it was seen
  return endProxyHeader(read, header);
}

PendingConnection::Step PendingConnection::takeRest() {
  while (taken_.size() < header_bytes_) {
    char piece[kTakeBytes];
    const std::size_t wanted = std::min(sizeof piece, header_bytes_ - taken_.size());
    const ssize_t got = ::recv(fd_.get(), piece, wanted, 0);
    if (got > 0) {
      taken_.append(piece, static_cast<std::size_t>(got));
    } else if (got == 0) {
      return Step::kClosed;
    } else if (errno != EINTR) {
      return errno == EAGAIN ? Step::kWait : Step::kDrop;
    }
  }
  codec::ProxyHeader header;
  const codec::ProxyRead read = codec::readProxyHeader(taken_, header);
  return endProxyHeader(read, header);
}

stats::Counter& PendingConnection::proxyCounter(const codec::ProxyHeader& header,
                                                std::string_view name) {
  const ProxyProtocolFilter& filter = *facts_.listener->proxy_protocol;
  const char* version =
      header.version == codec::ProxyVersion::kV1 ? "versions.v1." : "versions.v2.";
  return worker_.stats().scope(filter.stat_scope).counter(version + std::string(name));
}

PendingConnection::Step PendingConnection::endProxyHeader(const codec::ProxyRead& read,
                                                          const codec::ProxyHeader& header) {
  const ProxyProtocolFilter& filter = *facts_.listener->proxy_protocol;
  if (read.result == codec::ProxyResult::kNone) {
    worker_.stats()
        .scope(filter.stat_scope)
        .counter(filter.required ? "not_found_disallowed" : "not_found_allowed")
        .add();
    return filter.required ? Step::kDrop : Step::kDone;
  }
  if (read.result == codec::ProxyResult::kBad) {
    proxyCounter(header, "error").add();
    return Step::kDrop;
  }
  proxyCounter(header, "found").add();
  const bool first = header.version == codec::ProxyVersion::kV1;
  if (first ? filter.refuses_v1 : filter.refuses_v2) {
    proxyCounter(header, "disallowed").add();
    return Step::kDrop;
  }
  if (header.family != codec::ProxyFamily::kNone) {
    facts_.source = toAddress(header.family, header.source);
    const net::Address destination = toAddress(header.family, header.destination);
    facts_.restored = facts_.restored || !(destination == facts_.destination);
    facts_.destination = destination;
  }
  std::vector<codec::ProxyTlv> kept;
  for (const codec::ProxyTlv& tlv : header.tlvs) {
    if (filter.passed_on.passes(tlv.type)) kept.push_back(tlv);
  }
  if (!kept.empty())
    facts_.tlvs = std::make_shared<const std::vector<codec::ProxyTlv>>(std::move(kept));
  taken_ = {};
  return Step::kDone;
}

// ---- the socket ----

PendingConnection::Arrived PendingConnection::peek(std::size_t bytes_max) {
  std::size_t size = std::max<std::size_t>(bytes_.size() * 2, 512);
  for (;;) {
    size = std::min(size, bytes_max);
    bytes_.resize(size);
    const ssize_t got = ::recv(fd_.get(), bytes_.data(), bytes_.size(), MSG_PEEK);
    if (got < 0 && errno == EINTR) continue;
    bytes_.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    if (got < 0) return errno == EAGAIN ? Arrived::kNothing : Arrived::kError;
    if (got == 0) return Arrived::kEnd;
    if (bytes_.size() < size || size == bytes_max) return Arrived::kBytes;
    size *= 2;
  }
}

void PendingConnection::timedOut() {
  owner_.stats().downstream_pre_cx_timeout.add();
  if (!facts_.listener->continue_on_timeout) return drop();
  proceed();
}

void PendingConnection::proceed() {
  ListenerState& owner = owner_;
  const Handed handed = handed_;
  base::Fd fd = std::move(fd_);
  ConnectionFacts facts = std::move(facts_);
  finish();
  owner.proceed(std::move(fd), std::move(facts), handed);
}

void PendingConnection::finish() {
  watch_.reset();
  timer_.cancel();
  owner_.forget(*this);
  owner_.stats().downstream_pre_cx_active.sub();
  worker_.uncountOpen(limit_);
  worker_.loop().destroyLater(std::unique_ptr<event::Deferred>(this));
}

}  // namespace postern::proxy
