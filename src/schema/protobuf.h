// Kubernetes' protobuf request bodies (application/vnd.kubernetes.protobuf) to the JSON they stand
// for: an envelope with the kind, then the object in the wire format of its public definition.
// Clients from 1.32 send built-in kinds that way. Any thread; input of any content is answered with
// a value.
#pragma once

#include "json/json.h"

#include <string_view>

namespace postern::schema {

inline constexpr std::string_view kProtobufMagic{"k8s\0", 4};
inline constexpr int kProtobufDepthMax = 100;

/// Whole body, magic included; the error says what is malformed or which kind is not known.
base::ConfigResult<json::Json> decodeProtobuf(std::string_view body);

}  // namespace postern::schema
