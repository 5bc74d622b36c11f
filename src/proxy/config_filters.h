// Configuration of the HTTP filters, at the connection manager and per route. Internal to the
// builders.
#pragma once

#include "proxy/http_config.h"
#include "proxy/proto_fields.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/map.h>

#include <memory>
#include <string>

namespace envoy::extensions::filters::http::fault::v3 {
class HTTPFault;
}

namespace postern::proxy {

std::shared_ptr<const FaultPolicy> readFault(
    const envoy::extensions::filters::http::fault::v3::HTTPFault& message, const Place& place);

/// typed_per_filter_config of a route, virtual host, table or weighted cluster.
PerFilter readPerFilter(const google::protobuf::Map<std::string, google::protobuf::Any>& configs,
                        const Place& place);

}  // namespace postern::proxy
