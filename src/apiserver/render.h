// Objects as a client wants to see them: the served version, plain, as Table or as
// PartialObjectMetadata, by its Accept header. Values.
#pragma once

#include "apiserver/call.h"

#include <string>
#include <vector>

namespace postern::apiserver {

struct Rendering {
  enum class Form : unsigned char { kPlain, kTable, kMetadata } form = Form::kPlain;
  std::string meta_version = "v1";  // of the Table
  bool include_object = false;      // whole objects in Table rows
  bool no_object = false;
  TableOptions table;
};

/// Nothing acceptable gives 406.
ApiResult<Rendering> renderingFor(const Call& call, WallTime now, ArrayStyle arrays);
/// The object in the version of the call.
Json versioned(const Served& served, const std::string& version, const Json& object);
Json renderObject(const Call& call, const Rendering& rendering, const Json& object);
Json renderList(const Call& call, const Rendering& rendering,
                const std::vector<store::ObjectPtr>& objects, Json list_meta);

}  // namespace postern::apiserver
