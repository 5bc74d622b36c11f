// Envoy's substitution formats ("%REQ(:PATH)% took %DURATION%"), compiled once. Used for access
// logs, header values and local replies; immutable, shared by the workers. An operator that this
// proxy does not know is an error when the format is compiled.
#pragma once

#include "formatter/access_record.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace google::protobuf {
class Struct;
class Value;
}  // namespace google::protobuf

namespace postern::formatter {

struct FormatPiece;

class Format {
 public:
  Format();
  Format(const Format&);
  Format& operator=(const Format&);
  Format(Format&&) noexcept;
  Format& operator=(Format&&) noexcept;
  ~Format();

  /// False with the reason in `error` when the format is malformed.
  static bool compile(std::string_view text, Format& out, std::string& error);
  static Format literal(std::string_view text);

  /// The whole text when it depends on nothing.
  bool constant() const;
  /// Appends the formatted text; unset values print `unset`.
  void append(std::string& out, const AccessRecord& record, std::string_view unset = "-") const;

 private:
  friend class JsonFormat;
  std::vector<FormatPiece> pieces_;
};

/// A JSON object per line, keys in order of name. A value that is one operator keeps its type
/// (numbers, null when unset); mixed text is a string.
class JsonFormat {
 public:
  JsonFormat();
  JsonFormat(const JsonFormat&);
  JsonFormat& operator=(const JsonFormat&);
  ~JsonFormat();
  static bool compile(const google::protobuf::Struct& fields, JsonFormat& out, std::string& error);
  void omitEmpty() { omit_empty_ = true; }
  /// Appends one object, without a newline.
  void append(std::string& out, const AccessRecord& record) const;

 private:
  struct Node;
  static bool build(const google::protobuf::Value& value, Node& out, std::string& error);
  /// False when nothing was written because the value is empty and empty ones are omitted.
  bool write(std::string& out, const Node& node, const AccessRecord& record) const;
  std::vector<Node> root_;
  bool omit_empty_ = false;
};

void appendJsonString(std::string& out, std::string_view text);

}  // namespace postern::formatter
