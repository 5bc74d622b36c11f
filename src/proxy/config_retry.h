// Retry policies from Envoy's message. Internal to the route builder.
#pragma once

#include "proxy/proto_fields.h"
#include "proxy/route_config.h"

namespace envoy::config::route::v3 {
class RetryPolicy;
}

namespace postern::proxy {

RetryPolicy readRetryPolicy(const envoy::config::route::v3::RetryPolicy& message,
                            const Place& place);

}  // namespace postern::proxy
