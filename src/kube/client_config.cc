// Where the API is: kubeconfig files and the in-cluster mounts.
#include "base/strings.h"
#include "kube/client.h"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace postern::kube {
namespace {

using json::Json;

constexpr const char* kMounts = "/var/run/secrets/kubernetes.io/serviceaccount";

base::ConfigResult<std::string> readFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return base::failConfig(path, "cannot be read");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// The value of `key`-data (base64), or of the file that `key` names, relative to the kubeconfig's
/// folder.
base::ConfigResult<std::string> dataOrFile(const Json& entry, const std::string& key,
                                           const std::filesystem::path& folder) {
  std::string data = json::stringAt(entry, key + "-data");
  if (!data.empty()) {
    auto decoded = base::base64Decode(data);
    if (!decoded) return base::failConfig(key + "-data", "is not base64");
    return *decoded;
  }
  std::string file = json::stringAt(entry, key);
  if (file.empty()) return std::string();
  return readFile((folder / file).string());
}

/// The element of `list` with this name, or null.
const Json* named(const Json& config, const char* list, const std::string& name) {
  const Json* all = json::find(config, list);
  if (all == nullptr || !all->is_array()) return nullptr;
  for (const Json& each : *all) {
    if (json::stringAt(each, "name") == name) return &each;
  }
  return nullptr;
}

}  // namespace

base::ConfigResult<ClientConfig> ClientConfig::fromKubeconfig(std::string path,
                                                              std::string context) {
  if (path.empty()) {
    const char* variable = std::getenv("KUBECONFIG");
    const char* home = std::getenv("HOME");
    if (variable != nullptr && *variable != '\0') {
      path = std::string(base::split(variable, ':').front());
    } else {
      path = std::string(home != nullptr ? home : "") + "/.kube/config";
    }
  }
  POSTERN_TRY(std::string text, readFile(path));
  POSTERN_TRY(Json config, json::parseYaml(text));
  if (context.empty()) context = json::stringAt(config, "current-context");
  const Json* chosen = named(config, "contexts", context);
  if (chosen == nullptr) return base::failConfig(path, "has no context \"" + context + "\"");
  const Json* cluster = named(config, "clusters", json::stringAt(*chosen, "context.cluster"));
  const Json* user = named(config, "users", json::stringAt(*chosen, "context.user"));
  if (cluster == nullptr)
    return base::failConfig(path, "context \"" + context + "\" names no cluster of the file");
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const Json cluster_entry = cluster->value("cluster", Json::object());
  const Json user_entry = user != nullptr ? user->value("user", Json::object()) : Json::object();
  if (json::boolAt(cluster_entry, "insecure-skip-tls-verify")) {
    return base::failConfig(path, "insecure-skip-tls-verify is not supported");
  }
  ClientConfig out;
  out.server = json::stringAt(cluster_entry, "server");
  out.tls_server_name = json::stringAt(cluster_entry, "tls-server-name");
  out.token = json::stringAt(user_entry, "token");
  out.token_file = json::stringAt(user_entry, "tokenFile");
  out.default_namespace = json::stringAt(*chosen, "context.namespace", "default");
  POSTERN_TRY(out.ca_pem, dataOrFile(cluster_entry, "certificate-authority", folder));
  POSTERN_TRY(out.client_certificate_pem, dataOrFile(user_entry, "client-certificate", folder));
  POSTERN_TRY(out.client_key_pem, dataOrFile(user_entry, "client-key", folder));
  return out;
}

base::ConfigResult<ClientConfig> ClientConfig::inCluster() {
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr || port == nullptr) {
    return base::failConfig("KUBERNETES_SERVICE_HOST", "is not set: not inside a cluster");
  }
  ClientConfig out;
  const bool v6 = std::string_view(host).find(':') != std::string_view::npos;
  out.server = std::string("https://") + (v6 ? "[" : "") + host + (v6 ? "]" : "") + ":" + port;
  out.token_file = std::string(kMounts) + "/token";
  POSTERN_TRY(out.ca_pem, readFile(std::string(kMounts) + "/ca.crt"));
  if (auto ns = readFile(std::string(kMounts) + "/namespace"); ns) out.default_namespace = *ns;
  return out;
}

}  // namespace postern::kube
