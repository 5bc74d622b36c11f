// The serving side of ADS, delta and state of the world: keeps what each connection subscribed to
// and what it holds, and sends only differences (delta) or only types that changed (state of the
// world), one unacknowledged response per type. A cluster is removed only after the listeners and
// routes that may still name it were acknowledged. Resources come from a ResourceSource. All on one
// loop; the source must outlive the server.
#pragma once

#include "http/grpc.h"
#include "xds/types.h"

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace postern::xds {

/// Who opened a call, as far as its transport and credentials tell.
struct Caller {
  bool local = true;  // a listener that only the own host reaches: believed without credentials
  std::string ns;
  std::string service_account;
  std::string pod;  // "" when the credential is not bound to a pod
};

class ResourceSource {
 public:
  using ProxyId = std::uint64_t;
  using Visit =
      std::function<void(std::string_view name, std::string_view version, std::string_view bytes)>;
  virtual ~ResourceSource() = default;
  /// A proxy presented itself; a status refuses the connection.
  virtual std::expected<ProxyId, http::GrpcStatus> connected(const NodeInfo& node,
                                                             const Caller& caller) = 0;
  virtual void disconnected(ProxyId proxy) = 0;
  /// Everything this proxy may have of a type; `bytes` is the serialized message, without Any.
  virtual void resources(ProxyId proxy, std::string_view type_url, const Visit& visit) = 0;
  /// A response left; the acknowledgement for it is awaited.
  virtual void sent(ProxyId proxy, std::string_view type_url) = 0;
  /// The proxy accepted (empty error) or refused a response.
  virtual void acknowledged(ProxyId proxy, std::string_view type_url, std::string_view error) = 0;
};

class Server {
 public:
  using Verdict = std::function<void(std::expected<Caller, http::GrpcStatus>)>;
  /// Finds out who calls; answers now or in a later turn, at most once.
  using Admit = std::function<void(const http::HeaderMap& headers, Verdict verdict)>;
  /// Messages kept while the caller is being looked at.
  static constexpr std::size_t kWaitingMax = 64;

  explicit Server(ResourceSource& source);
  ~Server();
  /// Adds both ADS methods. Without `admit` every caller is local.
  void registerAt(http::GrpcServer& server, Admit admit = {});
  enum class Variant : bool { kDelta, kStateOfTheWorld };
  /// One call; for registerAt and for tests with streams of their own.
  http::GrpcCallbacks accept(std::unique_ptr<http::GrpcStream> stream, Variant variant,
                             const http::HeaderMap& headers = {}, const Admit& admit = {});
  /// The source has other resources for this proxy: sends what is different of what it subscribed.
  void changed(ResourceSource::ProxyId proxy);
  std::size_t connections() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace postern::xds
