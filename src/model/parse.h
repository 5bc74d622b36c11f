// From Kubernetes objects (JSON) to the model. Tolerant: what is malformed is left out, for
// admission has refused it (validate.h); an object from an older or newer schema must not stop the
// rest. Never throws.
#pragma once

#include "json/json.h"
#include "model/types.h"

#include <string_view>
#include <vector>

namespace postern::model {

Meta parseMeta(const json::Json& object, std::string_view kind);
/// By appProtocol, then the name's prefix, then well-known numbers; unknown means: look at the
/// bytes.
Protocol protocolOf(std::string_view app_protocol, std::string_view port_name,
                    std::uint32_t number);
/// A protocol as Gateways and ServiceEntries write it; kUnknown when it is none.
Protocol parseProtocol(std::string_view text);
/// "5m", "1h30m", "250ms" → proto JSON ("300s", "5400s", "0.250s"); "" when malformed.
std::string parseDuration(std::string_view text);

Service parseService(const json::Json& object, std::string_view domain);
/// One Service per host.
std::vector<Service> parseServiceEntry(const json::Json& object);
Workload parsePod(const json::Json& object);
Slice parseSlice(const json::Json& object);
Gateway parseGateway(const json::Json& object);
VirtualService parseVirtualService(const json::Json& object, std::string_view domain);
DestinationRule parseDestinationRule(const json::Json& object, std::string_view domain);
Sidecar parseSidecar(const json::Json& object);
/// From the mesh CR (may be null) over the `mesh` key of the ConfigMap `istio` (may be null).
MeshSettings parseMesh(const json::Json* config_map, const json::Json* istio);

}  // namespace postern::model
