// Protobuf messages and JSON: the proto3 mapping as Istio and Envoy accept it, with errors that
// name the field, and Any by type URL. Stateless; any thread. Input is limited in size and nesting.
#pragma once

#include "base/error.h"
#include "json/json.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace google::protobuf {
class Any;
class Message;
}  // namespace google::protobuf

namespace postern::api {

inline constexpr std::string_view kTypeUrlPrefix = "type.googleapis.com/";
inline constexpr std::string_view kListenerType =
    "type.googleapis.com/envoy.config.listener.v3.Listener";
inline constexpr std::string_view kRouteType =
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
inline constexpr std::string_view kClusterType =
    "type.googleapis.com/envoy.config.cluster.v3.Cluster";
inline constexpr std::string_view kEndpointType =
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
inline constexpr std::string_view kSecretType =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Fills `out` from JSON. Field names in lowerCamelCase or as declared; durations as "1.5s" or
/// "1h30m". An unknown field or a wrong type is an error with the path of the field; with
/// `unknown`, unknown fields are left out and their paths added there. `out` is cleared first;
/// after an error its content is unspecified.
base::ConfigResult<void> fromJson(const json::Json& value, google::protobuf::Message& out,
                                  std::vector<std::string>* unknown = nullptr);

/// JSON with field names as declared (Envoy's config_dump style); set fields only. An Any of an
/// unknown type becomes {"@type", "value": base64}.
json::Json toJson(const google::protobuf::Message& message);

/// An empty message of a type URL; null when the type is not compiled in.
std::unique_ptr<google::protobuf::Message> makeMessage(std::string_view type_url);
/// The full names of the types that makeMessage knows, sorted.
std::vector<std::string_view> knownTypes();

/// Wraps with "type.googleapis.com/<full name>"; the bytes are deterministic.
void pack(const google::protobuf::Message& message, google::protobuf::Any& out);
/// Unwraps into `out`; the type must be that of `out`.
base::ConfigResult<void> unpack(const google::protobuf::Any& any, google::protobuf::Message& out);
/// Unwraps by the registry of known types.
base::ConfigResult<std::unique_ptr<google::protobuf::Message>> unpack(
    const google::protobuf::Any& any);

/// Deterministic bytes: equal messages, equal bytes.
std::string serialize(const google::protobuf::Message& message);
/// False when the bytes are not a message of this type.
bool parseBytes(std::string_view bytes, google::protobuf::Message& out);

/// Nanoseconds of "10s", "5m", "1h30m", "1.5s", "250ms"; a negative or malformed one is an error
/// without a path.
base::ConfigResult<std::int64_t> parseDuration(std::string_view text);

}  // namespace postern::api
