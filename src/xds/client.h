// The asking side of ADS, delta or state of the world: one stream, subscriptions that survive
// reconnection, ACK or NACK by what the update callback says, jittered back-off between attempts.
// One loop; destroy on it.
#pragma once

#include "event/loop.h"
#include "http/grpc.h"
#include "xds/types.h"

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace google::protobuf {
class Any;
}

namespace postern::xds {

struct Update {
  std::string name;
  std::string version;
  const google::protobuf::Any* resource = nullptr;  // valid during the callback
};

class Client {
 public:
  /// Makes the channel of one attempt.
  using Connect = std::function<std::unique_ptr<http::GrpcChannel>()>;
  /// An error refuses the whole response; its message goes back to the server.
  using OnUpdate = std::function<base::ConfigResult<void>(std::string_view type_url,
                                                          const std::vector<Update>& updated,
                                                          const std::vector<std::string>& removed)>;

  enum class Variant : bool { kDelta, kStateOfTheWorld };
  struct Options {
    Variant variant = Variant::kDelta;
    http::HeaderMap metadata;  // of the call
    bool node_in_each_request = false;
  };

  Client(event::Loop& loop, NodeInfo node, Connect connect, OnUpdate on_update);
  Client(event::Loop& loop, NodeInfo node, Options options, Connect connect, OnUpdate on_update);
  ~Client();
  /// Wants every resource of a type.
  void subscribeAll(std::string_view type_url);
  /// Wants exactly these; sends only the difference to the names before.
  void subscribe(std::string_view type_url, const std::set<std::string>& names);
  void start();
  bool connected() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::xds
