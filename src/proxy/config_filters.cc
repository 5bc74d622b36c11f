#include "proxy/config_filters.h"

#include "envoy/extensions/filters/http/cors/v3/cors.pb.h"
#include "envoy/extensions/filters/http/fault/v3/fault.pb.h"
#include "proxy/config_matchers.h"

namespace postern::proxy {

namespace fault = envoy::extensions::filters::http::fault::v3;
namespace common = envoy::extensions::filters::common::fault::v3;
namespace cors = envoy::extensions::filters::http::cors::v3;

namespace {

constexpr std::string_view kFaultType = "envoy.extensions.filters.http.fault.v3.HTTPFault";
constexpr std::string_view kCorsType = "envoy.extensions.filters.http.cors.v3.CorsPolicy";

void readDelay(const common::FaultDelay& message, const Place& place, FaultPolicy& out) {
  out.delay_share = readFraction(message.percentage(), place.field("percentage"));
  if (message.has_fixed_delay()) {
    out.delay = place.duration("fixed_delay", message.fixed_delay());
    if (out.delay.count() == 0) place.fail("fixed_delay", "must be above 0");
  } else if (message.has_header_delay()) {
    out.delay_by_header = true;
  } else {
    place.fail("fixed_delay", "is required");
  }
}

void readAbort(const fault::FaultAbort& message, const Place& place, FaultPolicy& out) {
  out.abort_share = readFraction(message.percentage(), place.field("percentage"));
  switch (message.error_type_case()) {
    case fault::FaultAbort::kHttpStatus:
      if (message.http_status() < 200 || message.http_status() >= 600)
        place.fail("http_status", "must be from 200 to 599");
      out.abort_status = static_cast<int>(message.http_status());
      break;
    case fault::FaultAbort::kGrpcStatus:
      if (message.grpc_status() > 16) place.fail("grpc_status", "must be from 0 to 16");
      out.abort_grpc_status = static_cast<int>(message.grpc_status());
      break;
    case fault::FaultAbort::kHeaderAbort:
      out.abort_by_header = true;
      break;
    default:
      place.fail("http_status", "is required");
  }
}

std::shared_ptr<const CorsPolicy> readCors(const cors::CorsPolicy& message, const Place& place) {
  auto out = std::make_shared<CorsPolicy>();
  for (int i = 0; i < message.allow_origin_string_match_size(); ++i) {
    out->origins.push_back(readString(message.allow_origin_string_match(i),
                                      place.item("allow_origin_string_match", i)));
  }
  out->methods = message.allow_methods();
  out->headers = message.allow_headers();
  out->exposed = message.expose_headers();
  out->max_age = message.max_age();
  if (message.has_allow_credentials()) out->credentials = message.allow_credentials().value();
  if (message.has_filter_enabled())
    out->enabled = readRuntimeFraction(message.filter_enabled(), place.field("filter_enabled"));
  if (message.has_forward_not_matching_preflights())
    out->forward_not_matching_preflights = message.forward_not_matching_preflights().value();
  return out;
}

}  // namespace

std::shared_ptr<const FaultPolicy> readFault(const fault::HTTPFault& message, const Place& place) {
  auto out = std::make_shared<FaultPolicy>();
  if (message.has_delay()) readDelay(message.delay(), place.field("delay"), *out);
  if (message.has_abort()) readAbort(message.abort(), place.field("abort"), *out);
  out->upstream_cluster = message.upstream_cluster();
  out->headers = readHeaders(message.headers(), place, "headers");
  if (message.has_max_active_faults()) out->active_max = message.max_active_faults().value();
  return out;
}

PerFilter readPerFilter(const google::protobuf::Map<std::string, google::protobuf::Any>& configs,
                        const Place& place) {
  PerFilter out;
  for (const auto& [name, any] : configs) {
    const Place at = place.entry("typed_per_filter_config", name);
    const std::string_view type = typeName(any);
    if (type == kFaultType) {
      fault::HTTPFault message;
      if (at.unpack(any, message)) out.fault.emplace_back(name, readFault(message, at));
    } else if (type == kCorsType) {
      cors::CorsPolicy message;
      if (at.unpack(any, message)) out.cors.emplace_back(name, readCors(message, at));
    } else {
      at.fail("\"" + any.type_url() + "\" is not supported");
    }
  }
  return out;
}

}  // namespace postern::proxy
