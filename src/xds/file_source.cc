#include "xds/file_source.h"

#include "api/message.h"
#include "base/log.h"

#include <google/protobuf/message.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <sstream>

namespace postern::xds {

namespace {

using json::Json;

constexpr std::string_view kCounter = "@COUNTER@";

struct Section {
  const char* name;
  std::string_view type_url;
  const char* key;  // the field that names a resource
};
constexpr std::array kSections = {Section{"clusters", api::kClusterType, "name"},
                                  Section{"endpoints", api::kEndpointType, "cluster_name"},
                                  Section{"listeners", api::kListenerType, "name"},
                                  Section{"routes", api::kRouteType, "name"}};

}  // namespace

base::ConfigResult<std::string> FileSource::serialize(std::string_view type_url,
                                                      const std::string& text,
                                                      std::uint64_t counter) {
  std::string filled = text;
  for (std::size_t at = filled.find(kCounter); at != std::string::npos; at = filled.find(kCounter))
    filled.replace(at, kCounter.size(), std::to_string(counter));
  POSTERN_TRY(const Json value, json::parse(filled));
  const auto message = api::makeMessage(type_url);
  if (message == nullptr) return base::failConfig("", "type is not known");
  POSTERN_TRY_VOID(api::fromJson(value, *message));
  return api::serialize(*message);
}

base::ConfigResult<void> FileSource::load(const std::string& path) {
  std::ifstream in(path);
  std::stringstream all;
  all << in.rdbuf();
  if (!in) return base::failConfig(path, "cannot be read");
  POSTERN_TRY(const Json value, json::parse(all.str()));
  std::map<std::string, Resources, std::less<>> types;
  ++loads_;
  for (const Section& section : kSections) {
    Resources& into = types[std::string(section.type_url)];
    if (!value.contains(section.name)) continue;
    for (const Json& each : value[section.name]) {
      const std::string text = json::dump(each);
      Resource resource;
      POSTERN_TRY(resource.bytes, serialize(section.type_url, text, counter_));
      if (text.find(kCounter) != std::string::npos) resource.text = text;
      resource.version = std::to_string(loads_) + "." + std::to_string(counter_);
      into[json::stringAt(each, section.key)] = std::move(resource);
    }
  }
  types_ = std::move(types);
  ++counts_.changes;
  return {};
}

void FileSource::tick(Server& server) {
  ++counter_;
  ++counts_.changes;
  for (auto& [type_url, resources] : types_) {
    for (auto& [name, resource] : resources) {
      if (resource.text.empty()) continue;
      auto bytes = serialize(type_url, resource.text, counter_);
      if (!bytes) continue;  // it was fine when it was loaded
      resource.bytes = std::move(*bytes);
      resource.version = std::to_string(loads_) + "." + std::to_string(counter_);
    }
  }
  tellAll(server);
}

void FileSource::tellAll(Server& server) const {
  for (const ProxyId each : proxies_) server.changed(each);
}

std::expected<ResourceSource::ProxyId, http::GrpcStatus> FileSource::connected(const NodeInfo&,
                                                                               const Caller&) {
  proxies_.insert(++last_proxy_);
  return last_proxy_;
}

void FileSource::resources(ProxyId, std::string_view type_url, const Visit& visit) {
  const auto it = types_.find(type_url);
  if (it == types_.end()) return;
  for (const auto& [name, resource] : it->second) visit(name, resource.version, resource.bytes);
}

void FileSource::acknowledged(ProxyId, std::string_view type_url, std::string_view error) {
  if (error.empty()) {
    ++counts_.accepted;
    return;
  }
  ++counts_.refused;
  static base::LogComponent log("xds");
  log.warning("refused {}: {}", type_url, error);
}

}  // namespace postern::xds
