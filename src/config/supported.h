// Which fields of which messages a program honours. Whatever else is set in a message is found and
// refused by its full path, so that nothing a person or a control plane asked for is silently left
// out. Built once, read by any thread.
#pragma once

#include "base/error.h"

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace google::protobuf {
class Message;
}

namespace postern::config {

class SupportedFields {
 public:
  using Fields = std::initializer_list<std::string_view>;
  /// Full message name (without a leading dot) → honoured fields; "*" honours all and everything
  /// below. Messages of package google.protobuf need no entry; what an Any holds is checked by
  /// whoever unpacks it. A message that is not named here has no honoured field.
  SupportedFields(std::initializer_list<std::pair<std::string_view, Fields>> types);
  /// Adds the entries of another table.
  SupportedFields& include(const SupportedFields& other);

  /// The first set field, in field-number order, that is not honoured: "path.a.b[2].c: is not
  /// supported". `path` names `message` itself and may be empty.
  base::ConfigResult<void> check(const google::protobuf::Message& message,
                                 std::string_view path) const;

 private:
  base::ConfigResult<void> walk(const google::protobuf::Message& message, const std::string& path,
                                int depth) const;
  std::map<std::string, std::set<std::string, std::less<>>, std::less<>> types_;
};

/// While one lives, fields that are not honoured are noted in it instead of refused
/// (--allow-unknown-static-fields). Counts for its thread only; one at a time.
class Tolerance {
 public:
  Tolerance();
  ~Tolerance();
  Tolerance(const Tolerance&) = delete;
  Tolerance& operator=(const Tolerance&) = delete;
  /// True, and noted, when a Tolerance lives on this thread; false: refuse the field.
  static bool takes(std::string_view path);
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  std::vector<std::string> paths_;
};

/// Fields of numbers this program has never heard of, in the message and below (not inside Any).
std::size_t countUnknownFields(const google::protobuf::Message& message);

/// "parent.name", or "name" at the root.
std::string joinPath(std::string_view parent, std::string_view name);
/// "parent.name[index]".
std::string joinPath(std::string_view parent, std::string_view name, int index);

}  // namespace postern::config
