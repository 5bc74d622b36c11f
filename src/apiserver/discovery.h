// Discovery: /version, /api, /apis and the resource lists (legacy and aggregated). Pure functions
// over the catalog.
#pragma once

#include "apiserver/call.h"

#include <optional>
#include <string>

namespace postern::apiserver {

struct Document {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
};

/// The answer to a non-resource path, or nothing when there is none of that name.
std::optional<Document> discover(const Call& call, const Catalog& catalog);

}  // namespace postern::apiserver
