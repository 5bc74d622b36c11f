#include "node/volumes.h"

#include "base/strings.h"
#include "node/volume_files.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <filesystem>

#include <sys/stat.h>
#include <unistd.h>

namespace postern::node {
namespace {

namespace fs = std::filesystem;
using json::Json;
using kube::types::kConfigMap;
using kube::types::kSecret;
using Done = std::expected<void, std::string>;

constexpr long long kTokenSeconds = 3607;  // what Kubernetes asks for pods

/// Collects the files of one volume from its sources.
class Collector {
 public:
  using TokenSource = base::Function<std::expected<std::string, std::string>(
      const std::string& audience, long long seconds)>;
  Collector(kube::Client& client, const Json& pod, const PodFacts& facts, mode_t mode,
            TokenSource token)
      : client_(client), pod_(pod), facts_(facts), mode_(mode), token_(std::move(token)) {}

  Done add(const Json& source) {
    if (const Json* map = json::find(source, "configMap")) return object(*map, false);
    if (const Json* secret = json::find(source, "secret")) return object(*secret, true);
    if (const Json* fields = json::find(source, "downwardAPI")) return downward(*fields);
    if (const Json* token = json::find(source, "serviceAccountToken")) return addToken(*token);
    return std::unexpected("a projected volume has a source of an unsupported type");
  }

  const VolumeFiles& files() const { return files_; }

 private:
  std::string ns() const { return json::stringAt(pod_, "metadata.namespace"); }
  mode_t modeOf(const Json& item) const {
    return static_cast<mode_t>(json::integerAt(item, "mode", static_cast<long long>(mode_)));
  }

  Done object(const Json& source, bool secret) {
    // A volume names a Secret by "secretName", a projection by "name".
    const std::string name = json::stringAt(source, "name", json::stringAt(source, "secretName"));
    POSTERN_TRY(const auto found, fetchObject(client_, secret ? kSecret : kConfigMap, ns(), name));
    const bool optional = json::boolAt(source, "optional");
    if (found == nullptr) {
      if (optional) return {};
      return std::unexpected(
          fmt::format("{} \"{}\" not found", secret ? "secret" : "configmap", name));
    }
    VolumeFiles all;
    for (const char* field : {"data", "binaryData"}) {
      for (const auto& [key, value] : mapAt(*found, field).items()) {
        if (!value.is_string()) continue;
        const bool encoded = secret || std::string_view(field) == "binaryData";
        all[key] = {encoded ? base::base64Decode(value.get<std::string>()).value_or("")
                            : value.get<std::string>(),
                    mode_};
      }
    }
    const Json& items = listAt(source, "items");
    if (items.empty()) {
      for (auto& [key, file] : all) files_[key] = std::move(file);
      return {};
    }
    for (const Json& item : items) {
      const auto it = all.find(json::stringAt(item, "key"));
      if (it == all.end()) {
        if (optional) continue;
        return std::unexpected(fmt::format("{} references non-existent key: {}",
                                           secret ? "secret" : "configmap",
                                           json::stringAt(item, "key")));
      }
      files_[json::stringAt(item, "path")] = {it->second.bytes, modeOf(item)};
    }
    return {};
  }

  Done downward(const Json& source) {
    for (const Json& item : listAt(source, "items")) {
      std::expected<std::string, std::string> value;
      if (const Json* field = json::find(item, "fieldRef")) {
        value = fieldValue(pod_, json::stringAt(*field, "fieldPath"), facts_);
      } else if (const Json* resource = json::find(item, "resourceFieldRef")) {
        value = resourceValue(pod_, Json::object(), *resource, facts_);
      }
      if (!value) return std::unexpected(value.error());
      files_[json::stringAt(item, "path")] = {std::move(*value), modeOf(item)};
    }
    return {};
  }

  Done addToken(const Json& source) {
    POSTERN_TRY(std::string text, token_(json::stringAt(source, "audience"),
                                         json::integerAt(source, "expirationSeconds", 3600)));
    files_[json::stringAt(source, "path")] = {std::move(text), mode_};
    return {};
  }

  kube::Client& client_;
  const Json& pod_;
  const PodFacts& facts_;
  mode_t mode_;
  TokenSource token_;
  VolumeFiles files_;
};

/// The sources of a volume that is made of files; empty for one that is not.
std::vector<Json> fileSources(const Json& volume) {
  if (const Json* projected = json::find(volume, "projected")) {
    return listAt(*projected, "sources").get<std::vector<Json>>();
  }
  for (const char* kind : {"configMap", "secret", "downwardAPI"}) {
    if (volume.contains(kind)) return {Json{{kind, volume[kind]}}};
  }
  return {};
}

mode_t defaultMode(const Json& volume) {
  for (const char* kind : {"projected", "configMap", "secret", "downwardAPI"}) {
    if (const Json* source = json::find(volume, kind)) {
      return static_cast<mode_t>(json::integerAt(*source, "defaultMode", 0644));
    }
  }
  return 0644;
}

}  // namespace

std::expected<std::shared_ptr<const Json>, std::string> fetchObject(kube::Client& client,
                                                                    const kube::ResourceType& type,
                                                                    const std::string& ns,
                                                                    const std::string& name) {
  auto got = client.get(type, ns, name);
  if (got) return std::make_shared<const Json>(std::move(*got));
  if (got.error().notFound()) return std::shared_ptr<const Json>();
  return std::unexpected(fmt::format("failed to fetch {} \"{}\": {}", base::toLower(type.kind),
                                     name, got.error().message));
}

Done Volumes::update(const Json& pod, const PodFacts& facts) {
  std::error_code error;
  fs::create_directories(folder_, error);
  for (const Json& each : listAt(pod, "spec.volumes")) {
    auto done = volume(pod, each, facts);
    if (!done) {
      return std::unexpected(fmt::format("MountVolume.SetUp failed for volume \"{}\" : {}",
                                         json::stringAt(each, "name"), done.error()));
    }
  }
  return serviceAccount(pod);
}

Done Volumes::volume(const Json& pod, const Json& volume, const PodFacts& facts) {
  const std::string name = json::stringAt(volume, "name");
  if (!isVolumePath(name)) return std::unexpected("the volume's name is not valid");
  if (volume.contains("emptyDir")) return emptyDir(pod, name);
  if (const Json* source = json::find(volume, "hostPath")) return hostPath(*source, name);
  if (!volume.contains("projected") && fileSources(volume).empty()) {
    return std::unexpected("this cluster has no volumes of its type");
  }
  Collector collector(client_, pod, facts, defaultMode(volume),
                      [&](const std::string& audience, long long seconds) {
                        return token(pod, audience, seconds);
                      });
  for (const Json& source : fileSources(volume)) {
    POSTERN_TRY_VOID(collector.add(source));
  }
  const std::string folder = folder_ + "/" + name;
  POSTERN_TRY_VOID(writeVolumeFiles(folder, collector.files()));
  paths_[name] = folder;
  return {};
}

Done Volumes::emptyDir(const Json& pod, const std::string& name) {
  const std::string folder = folder_ + "/" + name;
  paths_[name] = folder;
  if (::mkdir(folder.c_str(), 0777) != 0) {
    if (errno == EEXIST) return {};
    return std::unexpected("cannot make its folder");
  }
  ::chmod(folder.c_str(), 0777);
  const Json* group = json::find(pod, "spec.securityContext.fsGroup");
  if (group != nullptr && group->is_number()) {
    (void)!::chown(folder.c_str(), static_cast<uid_t>(-1), group->get<gid_t>());
    ::chmod(folder.c_str(), 02777);
  }
  return {};
}

Done Volumes::hostPath(const Json& source, const std::string& name) {
  const std::string path = json::stringAt(source, "path");
  const std::string type = json::stringAt(source, "type");
  std::error_code error;
  if (type == "DirectoryOrCreate") fs::create_directories(path, error);
  const fs::path real = fs::canonical(path, error);
  if (error) return std::unexpected(fmt::format("hostPath {} does not exist", path));
  const bool fits = type.empty() || type == "DirectoryOrCreate" || type == "FileOrCreate" ? true
                    : type == "Directory" ? fs::is_directory(real, error)
                    : type == "File"      ? fs::is_regular_file(real, error)
                    : type == "Socket"    ? fs::is_socket(real, error)
                                          : false;
  if (!fits)
    return std::unexpected(fmt::format("hostPath type check failed: {} is not a {}", path, type));
  paths_[name] = real.native();
  return {};
}

Done Volumes::serviceAccount(const Json& pod) {
  if (!json::boolAt(pod, "spec.automountServiceAccountToken", true)) return {};
  const std::string ns = json::stringAt(pod, "metadata.namespace");
  const std::string account = json::stringAt(pod, "spec.serviceAccountName", "default");
  auto text = token(pod, "", kTokenSeconds);
  if (!text) {
    return std::unexpected(
        fmt::format("MountVolume.SetUp failed for volume \"kube-api-access\" : {}", text.error()));
  }
  VolumeFiles files{{"token", {std::move(*text), 0644}}, {"namespace", {ns, 0644}}};
  POSTERN_TRY(const auto root, fetchObject(client_, kConfigMap, ns, "kube-root-ca.crt"));
  if (root != nullptr) {
    const Json& data = mapAt(*root, "data");
    if (const auto it = data.find("ca.crt"); it != data.end() && it->is_string()) {
      files["ca.crt"] = {it->get<std::string>(), 0644};
    }
  } else if (!client_.config().ca_pem.empty()) {
    files["ca.crt"] = {client_.config().ca_pem, 0644};
  }
  service_account_dir_ = folder_ + "/kube-api-access";
  return writeVolumeFiles(service_account_dir_, files);
}

std::expected<std::string, std::string> Volumes::token(const Json& pod, const std::string& audience,
                                                       long long seconds) {
  Token& kept = tokens_[fmt::format("{}/{}", audience, seconds)];
  const std::int64_t now = nowMs();
  // As the kubelet: a new one after four fifths of its life.
  if (!kept.text.empty() && now < kept.issued_ms + (kept.expires_ms - kept.issued_ms) * 4 / 5) {
    return kept.text;
  }
  Json spec{{"expirationSeconds", seconds},
            {"boundObjectRef",
             {{"apiVersion", "v1"},
              {"kind", "Pod"},
              {"name", json::stringAt(pod, "metadata.name")},
              {"uid", json::stringAt(pod, "metadata.uid")}}}};
  if (!audience.empty()) spec["audiences"] = Json::array({audience});
  const Json request{{"apiVersion", "authentication.k8s.io/v1"},
                     {"kind", "TokenRequest"},
                     {"spec", std::move(spec)}};
  const std::string account = json::stringAt(pod, "spec.serviceAccountName", "default");
  const std::string path =
      kube::types::kServiceAccount.url(json::stringAt(pod, "metadata.namespace"), account, "token");
  auto answer = client_.raw("POST", path, json::dump(request));
  if (!answer) {
    if (!kept.text.empty() && now < kept.expires_ms) return kept.text;
    return std::unexpected("failed to fetch token: " + answer.error().message);
  }
  kept.text = json::stringAt(*answer, "status.token");
  kept.issued_ms = now;
  kept.expires_ms = parseTimeMs(json::stringAt(*answer, "status.expirationTimestamp"));
  return kept.text;
}

}  // namespace postern::node
