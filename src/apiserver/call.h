// One API request, understood: which resource, which object, who asks. Values.
#pragma once

#include "apiserver/catalog.h"
#include "http/server.h"

#include <map>
#include <string>
#include <vector>

namespace postern::apiserver {

struct User {
  std::string name;
  std::string uid;
  std::vector<std::string> groups;
  Json extra = Json::object();
};

struct Call {
  http::Request request;
  std::vector<std::string> path;  // decoded segments
  std::map<std::string, std::string> query;
  User user;

  // Set when the path names a resource:
  std::string group;
  std::string version;
  std::string ns;
  std::string resource;
  std::string name;
  std::string sub;
  bool is_resource = false;
  std::shared_ptr<const Served> served;  // null: nobody serves it

  std::string parameter(const std::string& key) const {
    auto it = query.find(key);
    return it == query.end() ? "" : it->second;
  }
  bool flag(const std::string& key) const {
    std::string v = parameter(key);
    return v == "true" || v == "1";
  }
  bool watches() const { return request.method == "GET" && flag("watch"); }
  /// "get", "list", "watch", "create", … as RBAC names them.
  std::string verb() const;
  std::string accept() const { return std::string(request.headers.value("accept")); }
  std::string fieldManager() const;
};

/// Splits path and query; resource fields are set for /api and /apis paths.
Call parseCall(http::Request request);

}  // namespace postern::apiserver
