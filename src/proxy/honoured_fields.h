// The one list of fields of Envoy's messages that this program honours (honoured_*.inc, each with
// the test that shows it); every other one is refused by its path where a configuration comes in.
// How to add one: docs/decisions/honoured_or_refused.md. Immutable, any thread.
#pragma once

#include "base/error.h"
#include "config/supported.h"

#include <string_view>

namespace google::protobuf {
class Message;
}

namespace postern::proxy {

/// Where a configuration comes in. Messages that several share may have more fields at one of them.
enum class Door { kBootstrap, kListener, kCluster, kSecret };

const config::SupportedFields& honouredFields(Door door);

/// Refuses what is set in `message`, or in what it holds, and not honoured. Listeners and routes
/// come in by kListener, clusters and endpoints by kCluster; those that a bootstrap holds too.
base::ConfigResult<void> checkHonoured(const google::protobuf::Message& message,
                                       std::string_view path, Door door);

}  // namespace postern::proxy
