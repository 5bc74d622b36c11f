// Small text helpers without locale. Views returned point into the argument.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::base {

constexpr char toLowerAscii(char c) {
  return (c >= 'A' && c <= 'Z') ? static_cast<char>(c + 32) : c;
}
bool equalsIgnoreCase(std::string_view a, std::string_view b);
std::string toLower(std::string_view text);

/// Pieces between separators, empty ones included; "" gives one empty piece.
std::vector<std::string_view> split(std::string_view text, char separator);
/// Without leading and trailing spaces and tabs.
std::string_view trim(std::string_view text);
std::string join(const std::vector<std::string>& parts, std::string_view separator);

/// The whole text as a decimal number, or nothing (no sign for unsigned, no spaces, no overflow).
template <std::integral T>
std::optional<T> parseInteger(std::string_view text) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::string toHex(std::string_view bytes);
/// RFC 4648 with padding; the decoder also takes the URL-safe alphabet and missing padding.
std::string base64Encode(std::string_view bytes);
std::string base64UrlEncode(std::string_view bytes);
std::optional<std::string> base64Decode(std::string_view text);

/// %XX decoding (RFC 3986); nothing on a malformed escape. '+' is a space if `plus_is_space`.
enum class Plus { kLiteral, kSpace };
std::optional<std::string> percentDecode(std::string_view text, Plus plus = Plus::kLiteral);
/// Escapes everything but unreserved characters.
std::string percentEncode(std::string_view text);

}  // namespace postern::base
