// The resource types the API serves: names, scope, subresources. Built-in ones are one table;
// custom ones are made from CustomResourceDefinitions by the API server. Values, any thread.
#pragma once

#include <string>
#include <vector>

namespace postern::schema {

struct Kind {
  std::string group;                  // "" for core
  std::vector<std::string> versions;  // served, preferred first
  std::string plural;
  std::string kind;
  bool namespaced = true;
  std::vector<std::string> short_names;
  std::vector<std::string> categories;
  bool status = false;          // has a status subresource
  bool scale = false;           // has a scale subresource
  bool generation = false;      // metadata.generation grows with the spec
  std::string singular;         // default: lower-case kind
  std::string storage;          // key in the store; default "group/plural"
  std::string list_kind;        // default: kind + "List"
  std::string storage_version;  // "group/version" of stored objects; custom kinds: the write's own
  bool custom = false;

  std::string apiVersion(const std::string& version) const {
    return group.empty() ? version : group + "/" + version;
  }
  /// "deployments.apps", or "pods" for core: the form of error messages.
  std::string qualified() const { return group.empty() ? plural : plural + "." + group; }
};

/// All built-in kinds in discovery order (an unqualified name belongs to the first that has it).
const std::vector<Kind>& builtinKinds();

}  // namespace postern::schema
