// Configuration files of anybody, JSON or YAML, through everything that `--mode validate` does: a
// verdict, never a crash.
#include "api/message.h"
#include "base/log.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "event/loop.h"
#include "proxy/options.h"
#include "proxy/server.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string_view>

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static event::Loop loop;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // A file name would make the target read whatever is there.
  if (text.find("filename") != std::string_view::npos) return 0;
  const auto value = text.starts_with('{') ? json::parse(text) : json::parseYaml(text);
  if (!value) return 0;
  envoy::config::bootstrap::v3::Bootstrap bootstrap;
  if (!api::fromJson(*value, bootstrap)) return 0;
  (void)proxy::Server::validate(loop, bootstrap, proxy::Options{});
  (void)api::toJson(bootstrap);
  return 0;
}
