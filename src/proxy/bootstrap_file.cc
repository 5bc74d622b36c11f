#include "proxy/bootstrap_file.h"

#include "api/message.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "json/json.h"

#include <nlohmann/json.hpp>

#include <fstream>
#include <sstream>

namespace postern::proxy {

namespace {

using envoy::config::bootstrap::v3::Bootstrap;

base::ConfigResult<Bootstrap> parse(std::string_view text, std::vector<std::string>* unknown) {
  POSTERN_TRY(const json::Json value, json::parseYaml(text));
  Bootstrap out;
  POSTERN_TRY_VOID(api::fromJson(value, out, unknown));
  return out;
}

}  // namespace

base::ConfigResult<BootstrapFile> readBootstrapFile(const Options& options) {
  BootstrapFile out;
  auto* unknown = options.allow_unknown_static_fields ? &out.unknown_fields : nullptr;
  auto message = std::make_shared<Bootstrap>();
  if (!options.config_path.empty()) {
    std::ifstream in(options.config_path);
    if (!in) return base::failConfig(options.config_path, "cannot be read");
    std::stringstream all;
    all << in.rdbuf();
    POSTERN_TRY(*message, parse(all.str(), unknown));
  }
  if (!options.config_yaml.empty()) {
    POSTERN_TRY(const Bootstrap over, parse(options.config_yaml, unknown));
    message->MergeFrom(over);
  }
  out.message = std::move(message);
  return out;
}

}  // namespace postern::proxy
