#include "net/address.h"

#include "base/strings.h"

#include <charconv>
#include <cstddef>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>

namespace postern::net {
namespace {

const sockaddr_in* v4(const Address& a) {
  return reinterpret_cast<const sockaddr_in*>(a.sockaddrPtr());
}
const sockaddr_in6* v6(const Address& a) {
  return reinterpret_cast<const sockaddr_in6*>(a.sockaddrPtr());
}

}  // namespace

Address::Address(const Address& other) { *this = other; }

Address& Address::operator=(const Address& other) {
  if (this == &other) return *this;
  std::memcpy(ip_, other.ip_, sizeof ip_);
  length_ = other.length_;
  path_ = other.path_ == nullptr ? nullptr : std::make_unique<sockaddr_un>(*other.path_);
  return *this;
}

Address& Address::operator=(Address&& other) noexcept {
  if (this == &other) return *this;
  std::memcpy(ip_, other.ip_, sizeof ip_);
  length_ = other.path_ == nullptr ? other.length_ : std::exchange(other.length_, 0);
  path_ = std::move(other.path_);
  return *this;
}

/// Where an address of so many bytes goes.
void* Address::storage(std::size_t size) {
  static_assert(sizeof(sockaddr_in6) == kIpBytes && alignof(sockaddr_in6) == 4);
  if (size <= kIpBytes) return ip_;
  path_ = std::make_unique<sockaddr_un>();
  return path_.get();
}

Address Address::fromSockaddr(const sockaddr* address, socklen_t length) {
  Address out;
  if (length > sizeof(sockaddr_un)) length = sizeof(sockaddr_un);
  std::memcpy(out.storage(length), address, length);
  out.length_ = length;
  // An IPv4 peer on a dual-stack socket is IPv4 everywhere above.
  if (out.family() == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6(out)->sin6_addr)) {
    sockaddr_in plain{};
    plain.sin_family = AF_INET;
    plain.sin_port = v6(out)->sin6_port;
    std::memcpy(&plain.sin_addr, v6(out)->sin6_addr.s6_addr + 12, 4);
    std::memcpy(out.ip_, &plain, sizeof plain);
    out.length_ = sizeof plain;
  }
  return out;
}

std::optional<Address> Address::fromIp(std::string_view ip, std::uint16_t port) {
  std::string text(ip);
  Address out;
  auto* four = reinterpret_cast<sockaddr_in*>(out.ip_);
  if (::inet_pton(AF_INET, text.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    out.length_ = sizeof *four;
    return out;
  }
  auto* six = reinterpret_cast<sockaddr_in6*>(out.ip_);
  if (::inet_pton(AF_INET6, text.c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    out.length_ = sizeof *six;
    return out;
  }
  return std::nullopt;
}

std::optional<Address> Address::parse(std::string_view text) {
  if (text.starts_with("unix:")) {
    text.remove_prefix(5);
    while (text.starts_with("//")) text.remove_prefix(1);
    return unixPath(text);
  }
  std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto port = base::parseInteger<std::uint16_t>(text.substr(colon + 1));
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return std::nullopt;
  }
  if (!port) return std::nullopt;
  return fromIp(host, *port);
}

Address Address::unixPath(std::string_view path) {
  Address out;
  auto* un = static_cast<sockaddr_un*>(out.storage(sizeof(sockaddr_un)));
  un->sun_family = AF_UNIX;
  std::size_t size = std::min(path.size(), sizeof un->sun_path - 1);
  std::memcpy(un->sun_path, path.data(), size);
  bool abstract = path.starts_with('@');
  if (abstract) un->sun_path[0] = '\0';
  out.length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size + (abstract ? 0 : 1));
  return out;
}

Address Address::loopback(std::uint16_t port) { return *fromIp("127.0.0.1", port); }

std::uint16_t Address::port() const {
  if (family() == AF_INET) return ntohs(v4(*this)->sin_port);
  if (family() == AF_INET6) return ntohs(v6(*this)->sin6_port);
  return 0;
}

void Address::setPort(std::uint16_t port) {
  if (family() == AF_INET) reinterpret_cast<sockaddr_in*>(ip_)->sin_port = htons(port);
  if (family() == AF_INET6) reinterpret_cast<sockaddr_in6*>(ip_)->sin6_port = htons(port);
}

std::string Address::ip() const {
  char text[INET6_ADDRSTRLEN] = "";
  switch (family()) {
    case AF_INET: {
      // For each connection twice; inet_ntop takes fifteen times as long.
      const std::uint32_t address = ntohl(v4(*this)->sin_addr.s_addr);
      char* to = text;
      for (int shift = 24; shift >= 0; shift -= 8) {
        to = std::to_chars(to, text + sizeof text, address >> shift & 0xff).ptr;
        *to++ = '.';
      }
      return {text, to - 1};
    }
    case AF_INET6:
      ::inet_ntop(AF_INET6, &v6(*this)->sin6_addr, text, sizeof text);
      return text;
    case AF_UNIX: {
      const auto* un = reinterpret_cast<const sockaddr_un*>(sockaddrPtr());
      std::size_t size = length_ - offsetof(sockaddr_un, sun_path);
      if (size == 0) return "";
      if (un->sun_path[0] == '\0') return "@" + std::string(un->sun_path + 1, size - 1);
      return std::string(un->sun_path, ::strnlen(un->sun_path, size));
    }
    default:
      return "";
  }
}

std::string Address::toString() const {
  if (family() == AF_INET) return ip() + ":" + std::to_string(port());
  if (family() == AF_INET6) return "[" + ip() + "]:" + std::to_string(port());
  return ip();
}

bool Address::isLoopback() const {
  if (family() == AF_INET) return (ntohl(v4(*this)->sin_addr.s_addr) >> 24) == 127;
  if (family() == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&v6(*this)->sin6_addr);
  return family() == AF_UNIX;
}

bool Address::operator==(const Address& other) const {
  if (family() != other.family()) return false;
  if (family() == AF_INET) {
    return v4(*this)->sin_addr.s_addr == v4(other)->sin_addr.s_addr && port() == other.port();
  }
  if (family() == AF_INET6) {
    return std::memcmp(&v6(*this)->sin6_addr, &v6(other)->sin6_addr, 16) == 0 &&
           port() == other.port();
  }
  return length_ == other.length_ && std::memcmp(sockaddrPtr(), other.sockaddrPtr(), length_) == 0;
}

std::optional<Cidr> Cidr::parse(std::string_view text) {
  std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) {
    auto address = Address::fromIp(text, 0);
    if (!address) return std::nullopt;
    return make(text, address->family() == AF_INET ? 32 : 128);
  }
  auto bits = base::parseInteger<unsigned>(text.substr(slash + 1));
  return bits ? make(text.substr(0, slash), *bits) : std::nullopt;
}

std::optional<Cidr> Cidr::make(std::string_view ip, unsigned prefix_bits) {
  auto address = Address::fromIp(ip, 0);
  if (!address || prefix_bits > (address->family() == AF_INET ? 32u : 128u)) return std::nullopt;
  Cidr out;
  out.base_ = *address;
  out.bits_ = prefix_bits;
  return out;
}

bool Cidr::contains(const Address& address) const {
  if (address.family() != base_.family()) return false;
  const unsigned char* a = nullptr;
  const unsigned char* b = nullptr;
  if (address.family() == AF_INET) {
    a = reinterpret_cast<const unsigned char*>(&v4(address)->sin_addr);
    b = reinterpret_cast<const unsigned char*>(&v4(base_)->sin_addr);
  } else if (address.family() == AF_INET6) {
    a = v6(address)->sin6_addr.s6_addr;
    b = v6(base_)->sin6_addr.s6_addr;
  } else {
    return false;
  }
  unsigned whole = bits_ / 8;
  if (std::memcmp(a, b, whole) != 0) return false;
  unsigned rest = bits_ % 8;
  if (rest == 0) return true;
  auto mask = static_cast<unsigned char>(0xff << (8 - rest));
  return (a[whole] & mask) == (b[whole] & mask);
}

bool isIpv4(std::string_view text) {
  const auto address = Address::fromIp(text, 0);
  return address && address->family() == AF_INET;
}

}  // namespace postern::net
