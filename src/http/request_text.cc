#include "http/request_text.h"

#include <algorithm>

namespace postern::http {

std::string_view withoutPort(std::string_view host) {
  const std::size_t colon = host.rfind(':');
  if (colon == std::string_view::npos) return host;
  if (host.find(']', colon) != std::string_view::npos) return host;
  const std::string_view digits = host.substr(colon + 1);
  const bool port =
      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  return port ? host.substr(0, colon) : host;
}

std::string_view pathOnly(std::string_view target) {
  return target.substr(0, target.find_first_of("?#"));
}

bool isGrpc(const HeaderMap& headers) {
  constexpr std::string_view kType = "application/grpc";
  const std::string_view type = headers.value("content-type");
  return type.starts_with(kType) && (type.size() == kType.size() || type[kType.size()] == '+');
}

bool queryParameter(std::string_view query, std::string_view name, std::string_view& value) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    const std::size_t equals_at = pair.find('=');
    if (pair.substr(0, equals_at) == name) {
      value = equals_at == std::string_view::npos ? std::string_view() : pair.substr(equals_at + 1);
      return true;
    }
    if (end == std::string_view::npos) break;
    query.remove_prefix(end + 1);
  }
  return false;
}

}  // namespace postern::http
