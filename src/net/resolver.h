// Asynchronous DNS over c-ares on a loop. One per loop.
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "event/loop.h"
#include "net/address.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace postern::net {

enum class DnsFamily : unsigned char {
  kV4Only,
  kV6Only,
  kAuto /* v6, else v4 */,
  kV4Preferred,
  kAll
};

struct DnsAnswer {
  std::vector<Address> addresses;  // port 0
  std::chrono::seconds ttl{0};     // lowest of the records
};

class Resolver {
 public:
  struct Options {
    std::vector<Address> servers;  // empty: /etc/resolv.conf
    bool no_search = true;         // names are absolute
  };
  virtual ~Resolver() = default;

  /// Cancels by destruction.
  class Query {
   public:
    virtual ~Query() = default;
  };
  using Callback = base::Function<void(base::Result<DnsAnswer>)>;
  /// A numeric name answers at once in a later turn. Also reads /etc/hosts.
  virtual std::unique_ptr<Query> resolve(const std::string& name, DnsFamily family,
                                         Callback callback) = 0;
};

std::unique_ptr<Resolver> makeResolver(event::Loop& loop, const Resolver::Options& options = {});

}  // namespace postern::net
