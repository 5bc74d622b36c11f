// Server-side apply: merges what one field manager wants into the live object and keeps account of
// who owns which field (metadata.managedFields, FieldsV1). Pure functions.
#pragma once

#include "apiserver/status.h"

#include <string>

namespace postern::apiserver {

/// `live` is null when the object does not exist. `schema` (custom kinds) tells list keys; null
/// uses those of built-in kinds. Conflicts give 409 unless `force`.
ApiResult<Json> applyPatch(const Json& live, const Json& config, const std::string& manager,
                           const std::string& subresource, bool force, const Json* schema);
/// Accounts a plain write, for objects that were ever applied: the manager owns what it changed,
/// and applied fields that changed or went lose their owners.
void trackUpdate(const Json* old, Json& object, const std::string& manager,
                 const std::string& subresource, const std::string& now);

}  // namespace postern::apiserver
