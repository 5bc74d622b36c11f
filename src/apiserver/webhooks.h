// Mutating and validating admission webhooks, called over HTTPS (AdmissionReview v1) at a URL or at
// a Service of the cluster, whose endpoint is looked up in the store. One loop.
#pragma once

#include "apiserver/rest.h"
#include "http/client.h"
#include "net/socket.h"
#include "net/transport.h"

#include <memory>
#include <string>
#include <vector>

namespace postern::apiserver {

/// Connects to an address as seen from inside the cluster; never inside the call's own frame.
using ConnectHook =
    base::Function<void(net::Address, base::Function<void(base::Result<base::Fd>)>)>;

class Webhooks final : public Admission {
 public:
  /// Without a hook, connections are made from this process.
  Webhooks(event::Loop& loop, const store::Store& store, ConnectHook connect);
  void mutate(WritePtr write, AdmissionDone done) override;
  void validate(WritePtr write, AdmissionDone done) override;

 private:
  struct Run;
  using RunPtr = std::shared_ptr<Run>;
  void start(WritePtr write, AdmissionDone done, bool mutating);
  void next(RunPtr run);
  void call(RunPtr run, const Json& webhook);
  void answered(RunPtr run, const Json& webhook, base::Result<http::ClientResponse> answer);
  void broken(RunPtr run, const Json& webhook, const std::string& why);
  bool matches(const Write& write, const Json& webhook) const;
  bool target(const Json& client, net::Address& address, std::string& host,
              std::string& path) const;

  event::Loop& loop_;
  const store::Store& store_;
  ConnectHook connect_;
  base::Random random_;
};

}  // namespace postern::apiserver
