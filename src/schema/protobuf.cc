#include "schema/protobuf.h"

#include "base/strings.h"
#include "schema/types.h"

#include <nlohmann/json.hpp>

#include <cstring>
#include <ctime>

namespace postern::schema {
namespace {

using base::ConfigResult;
using base::failConfig;
using json::Json;

enum WireType : unsigned { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Item {
  std::uint32_t number = 0;
  unsigned wire = 0;
  std::uint64_t value = 0;  // kVarint, kFixed64, kFixed32
  std::string_view bytes;   // kBytes
};

/// The fields of one message, in order.
class Scanner {
 public:
  explicit Scanner(std::string_view bytes) : rest_(bytes) {}
  bool done() const { return rest_.empty(); }
  bool next(Item& out) {
    std::uint64_t key = 0;
    if (!varint(key) || key >> 3 == 0 || key >> 3 > 0x1fffffff) return false;
    out.number = static_cast<std::uint32_t>(key >> 3);
    out.wire = static_cast<unsigned>(key & 7);
    switch (out.wire) {
      case kVarint:
        return varint(out.value);
      case kFixed64:
        return fixed(8, out.value);
      case kFixed32:
        return fixed(4, out.value);
      case kBytes: {
        std::uint64_t size = 0;
        if (!varint(size) || size > rest_.size()) return false;
        out.bytes = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return true;
      }
      default:
        return false;
    }
  }

  bool varint(std::uint64_t& out) {
    out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return false;
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      out |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return true;
    }
    return false;
  }

 private:
  bool fixed(std::size_t size, std::uint64_t& out) {
    if (rest_.size() < size) return false;
    out = 0;
    std::memcpy(&out, rest_.data(), size);
    rest_.remove_prefix(size);
    return true;
  }
  std::string_view rest_;
};

struct Malformed {};
template <class T>
using Parsed = std::expected<T, Malformed>;

/// {1: seconds, 2: nanos} as RFC 3339; null for the zero time.
Parsed<Json> timeOf(std::string_view bytes, bool micro) {
  Scanner scanner(bytes);
  std::int64_t seconds = 0;
  std::int64_t nanos = 0;
  for (Item item; !scanner.done();) {
    if (!scanner.next(item)) return std::unexpected(Malformed{});
    if (item.number == 1) seconds = static_cast<std::int64_t>(item.value);
    if (item.number == 2) nanos = static_cast<std::int64_t>(item.value);
  }
  if (bytes.empty()) return Json();
  const std::time_t at = seconds;
  std::tm parts{};
  if (::gmtime_r(&at, &parts) == nullptr) return std::unexpected(Malformed{});
  char text[64];
  const std::size_t size = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  std::string out(text, size);
  if (micro) {
    char fraction[32];
    std::snprintf(fraction, sizeof(fraction), ".%06lld",
                  static_cast<long long>(nanos / 1000 % 1000000));
    out += fraction;
  }
  return Json(out + "Z");
}

/// The first field with number 1 as text (Quantity, FieldsV1, RawExtension).
Parsed<std::string> wrapped(std::string_view bytes) {
  Scanner scanner(bytes);
  std::string out;
  for (Item item; !scanner.done();) {
    if (!scanner.next(item)) return std::unexpected(Malformed{});
    if (item.number == 1) out = item.bytes;
  }
  return out;
}

Parsed<Json> intOrString(std::string_view bytes) {
  Scanner scanner(bytes);
  bool text = false;
  std::int64_t number = 0;
  std::string string;
  for (Item item; !scanner.done();) {
    if (!scanner.next(item)) return std::unexpected(Malformed{});
    if (item.number == 1) text = item.value == 1;
    if (item.number == 2) number = static_cast<std::int32_t>(item.value);
    if (item.number == 3) string = item.bytes;
  }
  return text ? Json(string) : Json(number);
}

Parsed<Json> strings(std::string_view bytes) {
  Scanner scanner(bytes);
  Json out = Json::array();
  for (Item item; !scanner.done();) {
    if (!scanner.next(item)) return std::unexpected(Malformed{});
    if (item.number == 1) out.push_back(std::string(item.bytes));
  }
  return out;
}

Parsed<Json> embedded(std::string_view bytes) {
  auto text = wrapped(bytes);
  if (!text) return std::unexpected(text.error());
  auto parsed = json::parse(*text);
  if (!parsed) return std::unexpected(Malformed{});
  return *parsed;
}

class Decoder {
 public:
  /// Adds the message's fields to `out`.
  Parsed<void> message(std::string_view bytes, const Type& type, Json& out, int depth) {
    if (depth > kProtobufDepthMax) return std::unexpected(Malformed{});
    Scanner scanner(bytes);
    for (Item item; !scanner.done();) {
      if (!scanner.next(item)) return std::unexpected(Malformed{});
      const Field* field = type.byNumber(item.number);
      if (field == nullptr) continue;  // of a newer API; JSON readers would drop it too
      if (auto done = this->field(item, *field, out, depth); !done) return done;
    }
    return {};
  }

 private:
  Parsed<void> field(const Item& item, const Field& field, Json& out, int depth) {
    if (field.inlined) return message(item.bytes, *field.message, out, depth + 1);
    const std::string name(field.name);
    if (field.shape == Shape::kMap) return entry(item.bytes, field, out[name], depth);
    // Numbers in a list may be packed.
    if (field.shape == Shape::kList && item.wire == kBytes && isNumber(field.value)) {
      Scanner packed(item.bytes);
      for (std::uint64_t value = 0; !packed.done();) {
        if (!packed.varint(value)) return std::unexpected(Malformed{});
        out[name].push_back(number(value, field.value));
      }
      return {};
    }
    auto value = one(item, field, depth);
    if (!value) return std::unexpected(value.error());
    if (field.shape == Shape::kList) {
      out[name].push_back(std::move(*value));
    } else if (field.optional || !isZero(*value)) {
      out[name] = std::move(*value);
    }
    return {};
  }

  static bool isNumber(ValueKind kind) {
    return kind == ValueKind::kInt32 || kind == ValueKind::kInt64 || kind == ValueKind::kUint32 ||
           kind == ValueKind::kBool;
  }
  /// Value fields are always on the wire; a zero there means "not set".
  static bool isZero(const Json& value) {
    if (value.is_null()) return true;
    if (value.is_string()) return value.get_ref<const std::string&>().empty();
    if (value.is_boolean()) return !value.get<bool>();
    if (value.is_number()) return value == 0;
    return value.empty();
  }
  static Json number(std::uint64_t value, ValueKind kind) {
    if (kind == ValueKind::kBool) return value != 0;
    if (kind == ValueKind::kInt32) return static_cast<std::int32_t>(value);
    if (kind == ValueKind::kUint32) return static_cast<std::uint32_t>(value);
    return static_cast<std::int64_t>(value);
  }

  Parsed<Json> one(const Item& item, const Field& field, int depth) {
    switch (field.value) {
      case ValueKind::kMessage: {
        Json out = Json::object();
        if (auto done = message(item.bytes, *field.message, out, depth + 1); !done)
          return std::unexpected(done.error());
        return out;
      }
      case ValueKind::kString:
        return Json(std::string(item.bytes));
      case ValueKind::kBytes:
        return Json(base::base64Encode(item.bytes));
      case ValueKind::kDouble: {
        double value = 0;
        std::memcpy(&value, &item.value, sizeof(value));
        return Json(value);
      }
      case ValueKind::kTime:
        return timeOf(item.bytes, false);
      case ValueKind::kMicroTime:
        return timeOf(item.bytes, true);
      case ValueKind::kQuantity: {
        auto text = wrapped(item.bytes);
        if (!text) return std::unexpected(text.error());
        return Json(*text);
      }
      case ValueKind::kIntOrString:
        return intOrString(item.bytes);
      case ValueKind::kStrings:
        return strings(item.bytes);
      case ValueKind::kFieldsV1:
      case ValueKind::kRaw:
        return embedded(item.bytes);
      case ValueKind::kAny:
        return std::unexpected(Malformed{});  // kinds with such fields never come as protobuf
      default:
        return number(item.value, field.value);
    }
  }

  Parsed<void> entry(std::string_view bytes, const Field& field, Json& out, int depth) {
    Scanner scanner(bytes);
    std::string key;
    Item value;
    value.wire = kBytes;
    for (Item item; !scanner.done();) {
      if (!scanner.next(item)) return std::unexpected(Malformed{});
      if (item.number == 1) key = item.bytes;
      if (item.number == 2) value = item;
    }
    auto read = one(value, field, depth);
    if (!read) return std::unexpected(read.error());
    if (!out.is_object()) out = Json::object();
    out[key] = std::move(*read);
    return {};
  }
};

}  // namespace

ConfigResult<Json> decodeProtobuf(std::string_view body) {
  constexpr const char* kMalformed = "the body is not a Kubernetes protobuf message";
  if (!body.starts_with(kProtobufMagic)) return failConfig("", kMalformed);
  Scanner envelope(body.substr(kProtobufMagic.size()));
  std::string version;
  std::string kind;
  std::string_view raw;
  for (Item item; !envelope.done();) {
    if (!envelope.next(item)) return failConfig("", kMalformed);
    if (item.number == 2) raw = item.bytes;
    if (item.number != 1) continue;
    Scanner meta(item.bytes);
    for (Item inner; !meta.done();) {
      if (!meta.next(inner)) return failConfig("", kMalformed);
      if (inner.number == 1) version = inner.bytes;
      if (inner.number == 2) kind = inner.bytes;
    }
  }
  const Type* type = builtinType(version, kind);
  // DeleteOptions are sent in the group of what is deleted.
  if (type == nullptr && kind == "DeleteOptions") type = builtinType("v1", kind);
  if (type == nullptr) {
    return failConfig("", "no kind \"" + kind + "\" is registered for version \"" + version + "\"");
  }
  Json out = Json::object();
  Decoder decoder;
  if (auto done = decoder.message(raw, *type, out, 0); !done) return failConfig("", kMalformed);
  out["apiVersion"] = version;
  out["kind"] = kind;
  return out;
}

}  // namespace postern::schema
