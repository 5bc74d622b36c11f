#include "proxy/honoured_fields.h"

namespace postern::proxy {

namespace {

using config::HonouredLine;

// The lists are read by tools/check_fields.py too, which wants the tests that they name.
#define POSTERN_MESSAGE(type) {#type, {}},
#define POSTERN_FIELD(field, test) {{}, #field},
#define POSTERN_NO_EFFECT(field, reason) {{}, #field},
#define POSTERN_CHECKED_ELSEWHERE {{}, config::kCheckedElsewhere},

constexpr HonouredLine kShared[] = {
#include "proxy/honoured_shared.inc"
};
constexpr HonouredLine kListener[] = {
#include "proxy/honoured_listener.inc"
};
constexpr HonouredLine kLog[] = {
#include "proxy/honoured_log.inc"
};
constexpr HonouredLine kHttp[] = {
#include "proxy/honoured_http.inc"
};
constexpr HonouredLine kRoute[] = {
#include "proxy/honoured_route.inc"
};
constexpr HonouredLine kCluster[] = {
#include "proxy/honoured_cluster.inc"
};
constexpr HonouredLine kTls[] = {
#include "proxy/honoured_tls.inc"
};
constexpr HonouredLine kBootstrap[] = {
#include "proxy/honoured_bootstrap.inc"
};

}  // namespace

const config::SupportedFields& honouredFields(Door door) {
  static const config::SupportedFields listener{kShared, kListener, kLog, kHttp, kRoute, kTls};
  static const config::SupportedFields cluster{kShared, kCluster, kTls};
  static const config::SupportedFields secret{kShared, kTls};
  static const config::SupportedFields bootstrap{kShared, kBootstrap};
  switch (door) {
    case Door::kBootstrap:
      return bootstrap;
    case Door::kListener:
      return listener;
    case Door::kCluster:
      return cluster;
    case Door::kSecret:
      break;
  }
  return secret;
}

base::ConfigResult<void> checkHonoured(const google::protobuf::Message& message,
                                       std::string_view path, Door door) {
  return honouredFields(door).check(message, path);
}

}  // namespace postern::proxy
