// The OpenAPI documents of what is served: v2 as JSON and in the protobuf form kubectl asks for, v3
// as an index and a document per group and version. Built when asked for and kept until the catalog
// changes. Loop thread.
#pragma once

#include "apiserver/call.h"
#include "apiserver/discovery.h"

#include <map>
#include <optional>
#include <string>

namespace postern::apiserver {

class OpenApi {
 public:
  /// The answer below /openapi, or nothing when there is none of that path.
  std::optional<Document> answer(const Call& call, const Catalog& catalog);

 private:
  std::string& cached(const std::string& key, const Catalog& catalog);
  std::map<std::string, std::string> bodies_;
  unsigned long long generation_ = 0;
};

}  // namespace postern::apiserver
