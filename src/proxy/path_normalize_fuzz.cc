// Paths of hostile requests. The first byte chooses the settings. A path that passes is stable: it
// begins with a slash, has no dot segment left, and a second pass changes nothing.
#include "base/check.h"
#include "proxy/path_normalize.h"

#include <cstdint>
#include <string>
#include <string_view>

using namespace postern::proxy;  // NOLINT(google-build-using-namespace): a program of its own

namespace {

HttpManager settings(unsigned bits) {
  constexpr EscapedSlashes kSlashes[] = {EscapedSlashes::kKeep, EscapedSlashes::kReject,
                                         EscapedSlashes::kUnescapeAndRedirect,
                                         EscapedSlashes::kUnescape};
  HttpManager out;
  out.normalize_path = (bits & 1) != 0;
  out.merge_slashes = (bits & 2) != 0;
  out.escaped_slashes = kSlashes[(bits >> 2) & 3];
  out.strip_matching_port = (bits & 16) != 0;
  out.strip_any_port = (bits & 48) == 32;
  out.strip_trailing_dot = (bits & 64) != 0;
  return out;
}

void checkStable(const HttpManager& config, const std::string& path) {
  POSTERN_CHECK(path.starts_with('/'));
  const std::string_view only = std::string_view(path).substr(0, path.find('?'));
  if (config.normalize_path) {
    POSTERN_CHECK(only.find("/../") == std::string_view::npos);
    POSTERN_CHECK(only.find("/./") == std::string_view::npos);
    POSTERN_CHECK(!only.ends_with("/..") && !only.ends_with("/."));
    POSTERN_CHECK(only.find("%00") == std::string_view::npos);
  }
  if (config.merge_slashes) POSTERN_CHECK(only.find("//") == std::string_view::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const HttpManager config = settings(data[0]);
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string target = "/" + text;
  std::string out;
  const PathVerdict verdict = normalizePath(config, target, out);
  if (verdict == PathVerdict::kChanged || verdict == PathVerdict::kRedirect)
    checkStable(config, out);
  if (verdict == PathVerdict::kUnchanged) checkStable(config, target);
  std::string storage;
  const std::string_view host = stripHost(config, text, 443, storage);
  POSTERN_CHECK(host.size() <= text.size());
  return 0;
}
