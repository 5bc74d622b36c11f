// Text helpers on bytes of a peer: what was encoded decodes to itself, numbers survive a round
// trip.
#include "base/check.h"
#include "base/strings.h"

#include <cstdint>
#include <string>
#include <string_view>

using namespace postern::base;  // NOLINT(google-build-using-namespace): a program of its own

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  POSTERN_CHECK(base64Decode(base64Encode(text)) == text);
  POSTERN_CHECK(base64Decode(base64UrlEncode(text)) == text);
  POSTERN_CHECK(percentDecode(percentEncode(text)) == text);
  if (const auto bytes = base64Decode(text)) POSTERN_CHECK(bytes->size() <= size);
  if (const auto bytes = percentDecode(text, Plus::kSpace)) POSTERN_CHECK(bytes->size() <= size);
  if (const auto number = parseInteger<std::int64_t>(text)) {
    POSTERN_CHECK(parseInteger<std::int64_t>(std::to_string(*number)) == number);
  }
  if (const auto number = parseInteger<std::uint16_t>(text)) {
    POSTERN_CHECK(parseInteger<std::uint16_t>(std::to_string(*number)) == number);
  }
  std::size_t pieces = 0;
  for (const std::string_view piece : split(text, ',')) pieces += piece.size() + 1;
  POSTERN_CHECK(pieces == size + 1);
  POSTERN_CHECK(trim(trim(text)) == trim(text));
  POSTERN_CHECK(equalsIgnoreCase(text, toLower(text)));
  return 0;
}
