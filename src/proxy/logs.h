// The process log's components of the data plane, by the names that the admin port's /logging and
// --component-log-level take. Any thread.
#pragma once

#include "base/log.h"

namespace postern::proxy {

inline base::LogComponent kMainLog("main");
inline base::LogComponent kConfigLog("config");
inline base::LogComponent kSecretLog("secret");
inline base::LogComponent kUpstreamLog("upstream");
inline base::LogComponent kAccessLogLog("access_log");

}  // namespace postern::proxy
