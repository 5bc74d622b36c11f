#include "codec/client_hello.h"

#include "base/strings.h"

#include <optional>

namespace postern::codec {

namespace {

constexpr unsigned char kHandshake = 22;
constexpr unsigned char kClientHelloType = 1;
constexpr std::size_t kRecordHeaderBytes = 5;
constexpr std::size_t kRecordBytesMax = 16384 + 256;
constexpr std::uint16_t kServerName = 0;
constexpr std::uint16_t kAlpn = 16;

/// Takes from the front; every take checks the length.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  std::optional<std::size_t> number(std::size_t bytes) {
    if (rest_.size() < bytes) return std::nullopt;
    std::size_t out = 0;
    for (std::size_t i = 0; i < bytes; ++i) out = out << 8 | static_cast<unsigned char>(rest_[i]);
    rest_.remove_prefix(bytes);
    return out;
  }
  std::optional<std::string_view> take(std::size_t bytes) {
    if (rest_.size() < bytes) return std::nullopt;
    const std::string_view out = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return out;
  }
  /// A vector with a length of `length_bytes` before it.
  std::optional<std::string_view> vector(std::size_t length_bytes) {
    const auto length = number(length_bytes);
    return length ? take(*length) : std::nullopt;
  }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

bool readServerName(std::string_view extension, ClientHello& out) {
  Reader outer(extension);
  const auto list = outer.vector(2);
  if (!list) return false;
  Reader names(*list);
  while (!names.empty()) {
    const auto type = names.number(1);
    const auto name = names.vector(2);
    if (!type || !name) return false;
    if (*type != 0 || !out.server_name.empty()) continue;
    if (name->empty() || name->size() > 255 || name->find('\0') != std::string_view::npos) {
      return false;
    }
    out.server_name = base::toLower(*name);
  }
  return true;
}

bool readProtocols(std::string_view extension, ClientHello& out) {
  Reader outer(extension);
  const auto list = outer.vector(2);
  if (!list) return false;
  Reader protocols(*list);
  while (!protocols.empty()) {
    const auto protocol = protocols.vector(1);
    if (!protocol || protocol->empty()) return false;
    out.protocols.emplace_back(*protocol);
  }
  return true;
}

/// The body of a complete ClientHello.
bool readBody(std::string_view body, ClientHello& out) {
  Reader hello(body);
  const auto version = hello.number(2);
  if (!version || *version >> 8 != 3) return false;
  if (!hello.take(32) || !hello.vector(1) || !hello.vector(2) || !hello.vector(1)) return false;
  if (hello.empty()) return true;  // before RFC 3546 there were no extensions
  const auto extensions = hello.vector(2);
  if (!extensions) return false;
  Reader each(*extensions);
  while (!each.empty()) {
    const auto type = each.number(2);
    const auto content = each.vector(2);
    if (!type || !content) return false;
    if (*type == kServerName && !readServerName(*content, out)) return false;
    if (*type == kAlpn && out.protocols.empty() && !readProtocols(*content, out)) return false;
  }
  return true;
}

}  // namespace

HelloResult readClientHello(std::string_view bytes, ClientHello& out) {
  out = {};
  std::string handshake;  // the content of the records, put together
  while (true) {
    // What is there of the header must look like TLS at once: plain text is recognised by its first
    // byte and does not wait for five.
    if (!bytes.empty() && static_cast<unsigned char>(bytes[0]) != kHandshake)
      return HelloResult::kNotTls;
    if (bytes.size() > 1 && bytes[1] != 3) return HelloResult::kNotTls;
    if (bytes.size() < kRecordHeaderBytes) return HelloResult::kMore;
    const std::size_t length = static_cast<std::size_t>(static_cast<unsigned char>(bytes[3])) << 8 |
                               static_cast<unsigned char>(bytes[4]);
    if (length == 0 || length > kRecordBytesMax) return HelloResult::kNotTls;
    const std::string_view content = bytes.substr(kRecordHeaderBytes, length);
    handshake.append(content);
    if (!handshake.empty() && static_cast<unsigned char>(handshake[0]) != kClientHelloType)
      return HelloResult::kNotTls;
    if (handshake.size() >= 4) {
      Reader header(std::string_view(handshake).substr(1));
      const std::size_t size = header.number(3).value_or(0);
      if (const auto body = header.take(size)) {
        return readBody(*body, out) ? HelloResult::kTls : HelloResult::kNotTls;
      }
    }
    if (content.size() < length) return HelloResult::kMore;
    bytes.remove_prefix(kRecordHeaderBytes + length);
  }
}

}  // namespace postern::codec
