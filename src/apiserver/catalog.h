// What the API serves now: built-in kinds and the custom ones of all CustomResourceDefinitions in
// the store, whose Established condition it writes. One loop.
#pragma once

#include "apiserver/table.h"
#include "event/loop.h"
#include "store/store.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace postern::apiserver {

struct ServedVersion {
  Json schema;           // null: anything goes
  Json printer_columns;  // additionalPrinterColumns
  Json scale;            // scale paths, null without
  bool status = false;
};

struct Served {
  schema::Kind kind;
  std::map<std::string, ServedVersion> versions;  // custom kinds only

  const ServedVersion* version(const std::string& name) const {
    auto it = versions.find(name);
    return it == versions.end() ? nullptr : &it->second;
  }
};

class Catalog {
 public:
  Catalog(event::Loop& loop, store::Store& store);
  std::shared_ptr<const Served> find(const std::string& group, const std::string& version,
                                     const std::string& plural) const;
  /// Discovery order.
  const std::vector<std::shared_ptr<const Served>>& all() const { return all_; }
  bool hasVersion(const std::string& group, const std::string& version) const;
  /// Grows with each change of what is served.
  unsigned long long generation() const { return generation_; }

 private:
  void rebuild();
  void accept(const Json& definition);
  event::Loop& loop_;
  store::Store& store_;
  std::vector<std::shared_ptr<const Served>> all_;
  unsigned long long generation_ = 0;
  event::Timer later_;
  std::unique_ptr<store::Subscription> subscription_;
};

/// Fills in names and brings v1beta1 definitions to v1.
void completeDefinition(Json& definition);
std::vector<schema::Cause> checkDefinition(const Json& definition);

}  // namespace postern::apiserver
