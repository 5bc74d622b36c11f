// JSON schemas of built-in types and custom kinds as OpenAPI definitions, for both document
// versions. Pure; internal to the OpenAPI documents.
#pragma once

#include "apiserver/catalog.h"
#include "schema/types.h"

#include <string>
#include <string_view>

namespace postern::apiserver {

enum class OpenApiVersion : unsigned char { kV2, kV3 };

/// "io.k8s.api.apps.v1.Deployment" of a built-in type.
std::string definitionName(const schema::Type& type);
/// "io.istio.networking.v1.Gateway" of a custom kind, or the built-in type's name.
std::string definitionName(const schema::Kind& kind, const std::string& version);
/// {"group", "version", "kind"}.
Json groupVersionKind(const std::string& group, const std::string& version,
                      const std::string& kind);

/// All built-in types by definition name.
Json builtinDefinitions(OpenApiVersion form);
/// Adds the built-in types that `schema` names, and those they name.
void addReferenced(const Json& schema, Json& definitions);
/// The definition of a custom kind: the CRD's schema with the metadata of every object.
Json customDefinition(const Served& served, const std::string& version, OpenApiVersion form);

}  // namespace postern::apiserver
