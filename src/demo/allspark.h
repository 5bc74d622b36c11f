// The service of the demo application: answers HTTP and gRPC with a configured text after calling
// the other services it was told to call, swallows TCP streams, and reports health. Configured by
// the environment variables of the original (docs: REQUESTS, WORKLOAD, ECHO_STR, PI_COUNT, ...).
// Loop thread.
#pragma once

#include "base/error.h"
#include "base/function.h"
#include "demo/outgoing.h"
#include "event/loop.h"
#include "net/address.h"
#include "net/resolver.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postern::demo {

enum class Workload : unsigned char { kNone, kEcho, kPi };

struct AllsparkOptions {
  Workload workload = Workload::kNone;
  std::string echo_text;
  unsigned pi_count = 50000;
  std::vector<Target> http_requests;  // what each server calls, per incoming request
  std::vector<Target> grpc_requests;
  std::vector<Target> tcp_requests;
  std::string endpoint = "/";
  net::Address http_listen;
  net::Address grpc_listen;
  net::Address tcp_listen;
  net::Address health_listen;
};

/// `variable` gives an environment variable, or "" when it is not set.
base::ConfigResult<AllsparkOptions> allsparkOptions(
    const base::Function<std::string(const char* name)>& variable);

class Allspark {
 public:
  virtual ~Allspark() = default;
  static base::Result<std::unique_ptr<Allspark>> make(event::Loop& loop, net::Resolver& resolver,
                                                      AllsparkOptions options);
  /// Where it listens, for port 0.
  virtual net::Address httpAddress() const = 0;
  virtual net::Address grpcAddress() const = 0;
  virtual net::Address tcpAddress() const = 0;
  virtual net::Address healthAddress() const = 0;
};

}  // namespace postern::demo
