// The three patch formats that change a whole object: JSON patch (RFC 6902), merge patch (RFC 7386)
// and Kubernetes' strategic merge patch. Pure functions.
#pragma once

#include "apiserver/status.h"

namespace postern::apiserver {

inline constexpr std::size_t kPatchOperationsMax = 10000;

ApiResult<Json> jsonPatch(const Json& object, const Json& patch);
Json mergePatch(const Json& object, const Json& patch);
/// Lists merge by the keys of the built-in kinds (schema/merge_keys.h).
ApiResult<Json> strategicPatch(const Json& object, const Json& patch);

}  // namespace postern::apiserver
