// Who calls ADS: the bearer token of a proxy, checked by the API server (TokenReview, audience
// istio-ca) on a thread of its own, because the Kubernetes client blocks. Answers are remembered
// for a short time by the token's digest; tokens themselves are neither kept nor logged. Verdicts
// come on the loop.
#pragma once

#include "event/loop.h"
#include "kube/client.h"
#include "xds/server.h"

#include <chrono>
#include <expected>
#include <memory>
#include <string>

namespace postern::control {

inline constexpr const char* kTokenAudience = "istio-ca";

/// Reads the answer to a TokenReview; exposed for tests.
std::expected<xds::Caller, http::GrpcStatus> callerOf(const json::Json& review);

class Authenticator {
 public:
  struct Options {
    std::chrono::seconds remember{60};
    std::size_t remembered_max = 10'000;
    std::size_t waiting_max = 1'000;
  };
  virtual ~Authenticator() = default;
  static std::unique_ptr<Authenticator> start(event::Loop& loop, kube::Client& client,
                                              Options options);
  static std::unique_ptr<Authenticator> start(event::Loop& loop, kube::Client& client) {
    return start(loop, client, Options{});
  }
  /// Loop thread. Without a usable `authorization: Bearer …` the verdict is UNAUTHENTICATED at
  /// once.
  virtual void admit(const http::HeaderMap& headers, xds::Server::Verdict verdict) = 0;
};

}  // namespace postern::control
