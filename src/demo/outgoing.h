// The calls a demo service makes for each request it gets: HTTP GETs and TCP streams to the targets
// of REQUESTS ("http://catalog:8080/#2 tcp://database:8083#1"). Failures are logged, never
// returned. Loop thread; the object outlives its calls by cancelling them.
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "event/loop.h"
#include "http/headers.h"
#include "net/resolver.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::demo {

inline constexpr unsigned kCallsPerTargetMax = 1000;
inline constexpr std::size_t kTcpUnitBytes = 1024 * 1024;  // "#1" of a TCP target

struct Target {
  std::string scheme;  // http, grpc, tcp
  std::string host;
  std::uint16_t port = 0;
  std::string path = "/";
  unsigned count = 0;  // calls; for tcp: MiB
};

/// "scheme://host:port/path"; the port defaults to 80 for http.
base::ConfigResult<Target> parseUrl(std::string_view url);
/// Space separated "URL#count"; a missing or malformed count means no calls, a malformed URL is an
/// error.
base::ConfigResult<std::vector<Target>> parseTargets(std::string_view text);

/// The fields of an incoming request that its outgoing requests repeat, so that tracing sees one
/// trace.
http::HeaderMap propagated(const http::HeaderMap& incoming);

class Outgoing {
 public:
  virtual ~Outgoing() = default;
  static std::unique_ptr<Outgoing> make(event::Loop& loop, net::Resolver& resolver,
                                        std::vector<Target> targets);
  /// Starts all calls at once; `done` runs when the last one is over, in a later turn if there is
  /// any.
  virtual void run(http::HeaderMap headers, base::Function<void()> done) = 0;
};

}  // namespace postern::demo
