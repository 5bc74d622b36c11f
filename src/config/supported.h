// Which fields of which messages a program honours. Whatever else is set in a message, or in what
// an Any below it holds, is found and refused by its full path, so that nothing a person or a
// control plane asked for is silently left out. Built once, read by any thread.
#pragma once

#include "base/error.h"

#include <cstddef>
#include <initializer_list>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace google::protobuf {
class Message;
}

namespace postern::config {

/// A field that is honoured, of the message named by the nearest line above that has a `type`.
/// A line with a type (its full name, without a leading dot) has no field.
struct HonouredLine {
  std::string_view type;
  std::string_view field;
};
/// The one field that says: all of the message is checked elsewhere.
inline constexpr std::string_view kCheckedElsewhere = "*";

class SupportedFields {
 public:
  using Lines = std::span<const HonouredLine>;
  /// Several lists about one message add up. The lines must outlive this.
  explicit SupportedFields(std::initializer_list<Lines> lists);

  /// The first set field, in field-number order, that is not honoured: "path.a.b[2].c: is not
  /// supported". `path` names `message` itself and may be empty. A message without a line has no
  /// honoured field; google.protobuf's own need none. What an Any holds is checked when its type
  /// has a line: whoever unpacks it refuses types that he does not know.
  base::ConfigResult<void> check(const google::protobuf::Message& message,
                                 std::string_view path) const;

  using Fields = std::set<std::string_view>;
  /// By message; those of no honoured field too.
  const std::unordered_map<std::string_view, Fields>& types() const { return types_; }

 private:
  std::unordered_map<std::string_view, Fields> types_;
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
