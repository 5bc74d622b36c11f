#include "proxy/path_normalize.h"

#include "base/strings.h"

#include <algorithm>
#include <optional>

namespace postern::proxy {

namespace {

int hexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = base::toLowerAscii(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/// The byte of "%XX" at `at`, or -1.
int escaped(std::string_view text, std::size_t at) {
  if (text[at] != '%' || at + 2 >= text.size()) return -1;
  const int high = hexDigit(text[at + 1]);
  const int low = hexDigit(text[at + 2]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool unreserved(int c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

bool hasEscapedSlash(std::string_view path) {
  for (std::size_t i = path.find('%'); i != std::string_view::npos; i = path.find('%', i + 1)) {
    const int byte = escaped(path, i);
    if (byte == '/' || byte == '\\') return true;
  }
  return false;
}

/// A NUL that somebody decodes ends the path for him and not for others.
bool hasEscapedNul(std::string_view path) { return path.find("%00") != std::string_view::npos; }

std::string unescapeSlashes(std::string_view path) {
  std::string out;
  for (std::size_t i = 0; i < path.size(); ++i) {
    const int byte = escaped(path, i);
    if (byte == '/' || byte == '\\') {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      out += path[i];
    }
  }
  return out;
}

/// Unreserved escapes decoded, others left as they came, backslashes turned. What a decoded digit
/// would make an escape together with a stray '%' before it stays escaped ("%%32e" must not become
/// "%2e"): the result, decoded once more, is no other path.
std::string canonicalEscapes(std::string_view path) {
  std::string out;
  std::size_t stray = std::string::npos;  // in `out`: the last '%' that begins no escape
  for (std::size_t i = 0; i < path.size(); ++i) {
    const int byte = escaped(path, i);
    if (byte < 0) {
      if (path[i] == '%') stray = out.size();
      out += path[i] == '\\' ? '/' : path[i];
      continue;
    }
    const bool completes = stray != std::string::npos && out.size() - stray <= 2 &&
                           hexDigit(static_cast<char>(byte)) >= 0;
    if (unreserved(byte) && !completes) {
      out += static_cast<char>(byte);
    } else {
      out += path.substr(i, 3);
    }
    i += 2;
  }
  return out;
}

/// RFC 3986 5.2.4.
std::string removeDots(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    const std::size_t end = path.find('/', 1);
    const std::string_view segment = path.substr(0, end);  // with its leading '/'
    const bool last = end == std::string_view::npos;
    path = last ? std::string_view() : path.substr(end);
    if (segment == "/." || segment == "/..") {
      if (segment == "/..") out.resize(out.empty() ? 0 : out.rfind('/'));
      if (last) out += '/';
    } else {
      out += segment;
    }
  }
  return out.empty() ? "/" : out;
}

std::string mergeSlashes(std::string_view path) {
  std::string out;
  for (char c : path) {
    if (c != '/' || out.empty() || out.back() != '/') out += c;
  }
  return out;
}

/// Most paths need nothing: told by one look at each byte.
bool plain(std::string_view path) {
  for (std::size_t i = 0; i < path.size(); ++i) {
    const char c = path[i];
    if (c == '%' || c == '\\') return false;
    if (c == '/' && i + 1 < path.size() && (path[i + 1] == '.' || path[i + 1] == '/')) return false;
  }
  return true;
}

}  // namespace

PathVerdict normalizePath(const HttpManager& config, std::string_view target, std::string& out) {
  if (target.find('#') != std::string_view::npos) return PathVerdict::kRejected;
  const std::size_t mark = target.find('?');
  const std::string_view before = target.substr(0, mark);
  const std::string_view query =
      mark == std::string_view::npos ? std::string_view() : target.substr(mark);
  if (plain(before)) return PathVerdict::kUnchanged;
  std::string path(before);
  bool redirect = false;
  if (config.escaped_slashes != EscapedSlashes::kKeep && hasEscapedSlash(path)) {
    if (config.escaped_slashes == EscapedSlashes::kReject) return PathVerdict::kRejected;
    redirect = config.escaped_slashes == EscapedSlashes::kUnescapeAndRedirect;
    path = unescapeSlashes(path);
  }
  if (config.normalize_path) {
    if (hasEscapedNul(path)) return PathVerdict::kRejected;
    path = removeDots(canonicalEscapes(path));
  }
  if (config.merge_slashes) path = mergeSlashes(path);
  if (path == before) return PathVerdict::kUnchanged;
  out = std::move(path);
  out += query;
  return redirect ? PathVerdict::kRedirect : PathVerdict::kChanged;
}

std::string_view stripHost(const HttpManager& config, std::string_view host,
                           std::uint16_t local_port, std::string& storage) {
  std::size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && host.find(']', colon) != std::string_view::npos)
    colon = std::string_view::npos;
  std::string_view name = host.substr(0, colon);
  std::string_view port = colon == std::string_view::npos ? std::string_view() : host.substr(colon);
  if (config.strip_any_port || (config.strip_matching_port && port.size() > 1 &&
                                base::parseInteger<std::uint16_t>(port.substr(1)) == local_port)) {
    port = {};
  }
  if (config.strip_trailing_dot && name.ends_with('.')) name.remove_suffix(1);
  if (port.empty()) return name;
  if (name.size() + port.size() == host.size()) return host;
  storage.assign(name).append(port);
  return storage;
}

}  // namespace postern::proxy
