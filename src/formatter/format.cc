#include "formatter/format.h"

#include "base/strings.h"
#include "formatter/format_piece.h"

#include <google/protobuf/struct.pb.h>

#include <cmath>
#include <map>

namespace postern::formatter {

Format::Format() = default;
Format::Format(const Format&) = default;
Format& Format::operator=(const Format&) = default;
Format::Format(Format&&) noexcept = default;
Format& Format::operator=(Format&&) noexcept = default;
Format::~Format() = default;

Format Format::literal(std::string_view text) {
  Format out;
  FormatPiece piece;
  piece.first = text;
  if (!text.empty()) out.pieces_.push_back(std::move(piece));
  return out;
}

namespace {

void addLiteral(std::vector<FormatPiece>& pieces, std::string_view text) {
  if (text.empty()) return;
  if (!pieces.empty() && pieces.back().op == Operator::kLiteral) {
    pieces.back().first += text;
    return;
  }
  FormatPiece piece;
  piece.first = text;
  pieces.push_back(std::move(piece));
}

/// Reads "COMMAND(arguments):LENGTH%" after the '%'; `at` moves behind the closing '%'.
bool readOperator(std::string_view text, std::size_t& at, FormatPiece& out, std::string& error) {
  const std::size_t begin = at;
  while (at < text.size() && ((text[at] >= 'A' && text[at] <= 'Z') || text[at] == '_' ||
                              (text[at] >= '0' && text[at] <= '9'))) {
    ++at;
  }
  const std::string_view command = text.substr(begin, at - begin);
  std::string_view arguments;
  bool has_arguments = false;
  if (at < text.size() && text[at] == '(') {
    const std::size_t close = text.find(')', at);
    if (close == std::string_view::npos) {
      error = "'%" + std::string(command) + "(' has no closing ')'";
      return false;
    }
    arguments = text.substr(at + 1, close - at - 1);
    has_arguments = true;
    at = close + 1;
  }
  if (at < text.size() && text[at] == ':') {
    const std::size_t end = text.find('%', at);
    const auto length = base::parseInteger<std::size_t>(
        text.substr(at + 1, end == std::string_view::npos ? end : end - at - 1));
    if (!length || *length == 0) {
      error = "'%" + std::string(command) + "' has a malformed length";
      return false;
    }
    out.length_max = *length;
    at = end;
  }
  if (command.empty() || at >= text.size() || text[at] != '%') {
    error = "'%' does not begin an operator (a percent sign is written '%%')";
    return false;
  }
  ++at;
  return compileOperator(command, arguments, has_arguments, out, error);
}

}  // namespace

bool Format::compile(std::string_view text, Format& out, std::string& error) {
  out.pieces_.clear();
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t open = text.find('%', at);
    addLiteral(out.pieces_, text.substr(at, open == std::string_view::npos ? open : open - at));
    if (open == std::string_view::npos) return true;
    at = open + 1;
    if (at < text.size() && text[at] == '%') {
      addLiteral(out.pieces_, "%");
      ++at;
      continue;
    }
    FormatPiece piece;
    if (!readOperator(text, at, piece, error)) return false;
    if (piece.op == Operator::kLiteral) {
      addLiteral(out.pieces_, piece.first);
    } else {
      out.pieces_.push_back(std::move(piece));
    }
  }
  return true;
}

bool Format::constant() const {
  return pieces_.empty() || (pieces_.size() == 1 && pieces_[0].op == Operator::kLiteral);
}

void Format::append(std::string& out, const AccessRecord& record, std::string_view unset) const {
  for (const FormatPiece& piece : pieces_) {
    if (piece.op == Operator::kLiteral) {
      out += piece.first;
    } else if (!piece.append(out, record)) {
      out += unset;
    }
  }
}

// ---- JSON ----

struct JsonFormat::Node {
  enum class Kind : unsigned char { kObject, kList, kFormat, kFixed };
  Kind kind = Kind::kFixed;
  std::string key;           // with its quotes and colon
  std::string text;          // kFixed: JSON
  Format format;             // kFormat
  std::vector<Node> nested;  // kObject, kList
};

JsonFormat::JsonFormat() = default;
JsonFormat::JsonFormat(const JsonFormat&) = default;
JsonFormat& JsonFormat::operator=(const JsonFormat&) = default;
JsonFormat::~JsonFormat() = default;

void appendJsonString(std::string& out, std::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  out += '"';
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte >= 0x20) {
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out += "\\u00";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  out += '"';
}

bool JsonFormat::build(const google::protobuf::Value& value, Node& out, std::string& error) {
  using google::protobuf::Value;
  switch (value.kind_case()) {
    case Value::kStringValue:
      out.kind = Node::Kind::kFormat;
      return Format::compile(value.string_value(), out.format, error);
    case Value::kStructValue: {
      out.kind = Node::Kind::kObject;
      std::map<std::string, const Value*> sorted;
      for (const auto& [key, each] : value.struct_value().fields()) sorted.emplace(key, &each);
      for (const auto& [key, each] : sorted) {
        Node node;
        appendJsonString(node.key, key);
        node.key += ':';
        if (!build(*each, node, error)) return false;
        out.nested.push_back(std::move(node));
      }
      return true;
    }
    case Value::kListValue:
      out.kind = Node::Kind::kList;
      for (const Value& each : value.list_value().values()) {
        out.nested.emplace_back();
        if (!build(each, out.nested.back(), error)) return false;
      }
      return true;
    case Value::kBoolValue:
      out.text = value.bool_value() ? "true" : "false";
      return true;
    case Value::kNumberValue: {
      const double number = value.number_value();
      out.text = std::abs(number) < 1e15 && std::floor(number) == number
                     ? std::to_string(static_cast<std::int64_t>(number))
                     : std::to_string(number);
      return true;
    }
    default:
      out.text = "null";
      return true;
  }
}

bool JsonFormat::compile(const google::protobuf::Struct& fields, JsonFormat& out,
                         std::string& error) {
  google::protobuf::Value value;
  *value.mutable_struct_value() = fields;
  out.root_.assign(1, Node());
  return build(value, out.root_[0], error);
}

bool JsonFormat::write(std::string& out, const Node& node, const AccessRecord& record) const {
  if (node.kind == Node::Kind::kFixed) {
    out += node.text;
    return true;
  }
  if (node.kind == Node::Kind::kFormat) {
    const std::vector<FormatPiece>& pieces = node.format.pieces_;
    if (pieces.size() != 1 || pieces[0].op == Operator::kLiteral) {
      std::string text;
      node.format.append(text, record, omit_empty_ ? "" : "-");
      appendJsonString(out, text);
      return true;
    }
    std::string text;
    if (!pieces[0].append(text, record)) {
      if (omit_empty_) return false;
      out += "null";
    } else if (pieces[0].numeric) {
      out += text;
    } else {
      appendJsonString(out, text);
    }
    return true;
  }
  const bool object = node.kind == Node::Kind::kObject;
  out += object ? '{' : '[';
  bool first = true;
  for (const Node& each : node.nested) {
    const std::size_t before = out.size();
    if (!first) out += ',';
    out += each.key;
    if (write(out, each, record)) {
      first = false;
    } else {
      out.resize(before);
    }
  }
  out += object ? '}' : ']';
  return true;
}

void JsonFormat::append(std::string& out, const AccessRecord& record) const {
  if (!root_.empty()) write(out, root_[0], record);
}

}  // namespace postern::formatter
