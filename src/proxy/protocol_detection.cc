#include "proxy/protocol_detection.h"

#include "codec/client_hello.h"
#include "codec/h2_frame.h"

#include <algorithm>

namespace postern::proxy {

namespace {

bool isTokenChar(char c) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         kOthers.find(c) != std::string_view::npos;
}

/// Anybody may write anything there, and it goes to logs and into header fields. What cannot be a
/// host's name matches nothing, and is shown as Envoy shows it.
std::string printable(std::string name) {
  bool valid = true;
  for (char& c : name) {
    const bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      c == '-' || c == '.' || c == '_';
    if (good) continue;
    c = '_';
    valid = false;
  }
  return valid ? name : "invalid:" + name;
}

}  // namespace

Detection detectTls(std::string_view bytes, std::size_t bytes_max, ConnectionFacts& facts) {
  codec::ClientHello hello;
  switch (codec::readClientHello(bytes, hello)) {
    case codec::HelloResult::kMore:
      return bytes.size() >= bytes_max ? Detection::kTooLarge : Detection::kMore;
    case codec::HelloResult::kNotTls:
      return Detection::kNotFound;
    case codec::HelloResult::kTls:
      break;
  }
  facts.transport_protocol = "tls";
  facts.server_name = printable(std::move(hello.server_name));
  facts.application_protocols = std::move(hello.protocols);
  return Detection::kFound;
}

Detection detectHttp(std::string_view bytes, ConnectionFacts& facts) {
  if (bytes.starts_with(codec::kH2Preface)) {
    facts.application_protocols = {"h2c"};
    return Detection::kFound;
  }
  if (codec::kH2Preface.starts_with(bytes)) return Detection::kMore;
  // request-line = method SP request-target SP HTTP-version; an empty line before it is allowed.
  while (bytes.starts_with('\r') || bytes.starts_with('\n')) bytes.remove_prefix(1);
  if (bytes.empty()) return Detection::kMore;
  const std::size_t end = bytes.find('\n');
  std::string_view line = bytes.substr(0, end);
  const std::size_t space = line.find(' ');
  const std::string_view method = line.substr(0, space);
  if (method.empty() || !std::all_of(method.begin(), method.end(), isTokenChar))
    return Detection::kNotFound;
  constexpr std::size_t kMethodBytesMax = 32;
  if (method.size() > kMethodBytesMax) return Detection::kNotFound;
  if (end == std::string_view::npos) {
    return bytes.size() >= kInspectedBytesMax ? Detection::kNotFound : Detection::kMore;
  }
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.ends_with(" HTTP/1.1")) {
    facts.application_protocols = {"http/1.1"};
  } else if (line.ends_with(" HTTP/1.0")) {
    facts.application_protocols = {"http/1.0"};
  } else {
    return Detection::kNotFound;
  }
  return Detection::kFound;
}

}  // namespace postern::proxy
