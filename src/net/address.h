// A socket address: IPv4, IPv6 or Unix path (a leading '@' is the abstract name space).
#pragma once

#include "base/error.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <sys/socket.h>
#include <sys/un.h>

namespace postern::net {

class Address {
 public:
  Address() = default;
  Address(const Address& other);
  Address& operator=(const Address& other);
  Address(Address&& other) noexcept { *this = std::move(other); }
  Address& operator=(Address&& other) noexcept;
  static Address fromSockaddr(const sockaddr* address, socklen_t length);
  /// Numeric only, no name look-up: "10.0.0.1", "::1".
  static std::optional<Address> fromIp(std::string_view ip, std::uint16_t port);
  /// "10.0.0.1:80", "[::1]:80", "unix:/path".
  static std::optional<Address> parse(std::string_view text);
  static Address unixPath(std::string_view path);
  static Address loopback(std::uint16_t port);

  bool isIp() const { return family() == AF_INET || family() == AF_INET6; }
  bool isUnix() const { return family() == AF_UNIX; }
  sa_family_t family() const { return sockaddrPtr()->sa_family; }
  std::uint16_t port() const;
  void setPort(std::uint16_t port);
  /// The IP without port, or the path.
  std::string ip() const;
  /// "10.0.0.1:80", "[::1]:80", or the path.
  std::string toString() const;
  bool isLoopback() const;

  const sockaddr* sockaddrPtr() const {
    return path_ != nullptr ? reinterpret_cast<const sockaddr*>(path_.get())
                            : reinterpret_cast<const sockaddr*>(ip_);
  }
  socklen_t length() const { return length_; }
  bool operator==(const Address& other) const;

 private:
  // A connection keeps several addresses, nearly always of IP: only a path takes what a path needs.
  static constexpr std::size_t kIpBytes = 28;  // sockaddr_in6
  void* storage(std::size_t size);

  alignas(4) unsigned char ip_[kIpBytes]{};
  socklen_t length_ = 0;
  std::unique_ptr<sockaddr_un> path_;
};

/// An address range "10.0.0.0/8"; a bare address is a full-length prefix.
class Cidr {
 public:
  static std::optional<Cidr> parse(std::string_view text);
  static std::optional<Cidr> make(std::string_view ip, unsigned prefix_bits);
  bool contains(const Address& address) const;
  unsigned prefixBits() const { return bits_; }
  /// The same addresses, however they are written.
  bool operator==(const Cidr& other) const {
    return bits_ == other.bits_ && base_.family() == other.base_.family() && contains(other.base_);
  }

 private:
  Address base_;
  unsigned bits_ = 0;
};

/// "10.0.0.1" and nothing else.
bool isIpv4(std::string_view text);
inline bool isPort(long long number) { return number > 0 && number <= 65535; }

}  // namespace postern::net
