#include "node/container_config.h"

#include "base/strings.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <filesystem>

namespace postern::node {
namespace {

namespace fs = std::filesystem;
using json::Json;
using Values = std::map<std::string, std::string>;
using ConfigDone = std::expected<void, ConfigFailure>;

constexpr const char* kConfigError = "CreateContainerConfigError";
constexpr const char* kServiceAccountPath = "/var/run/secrets/kubernetes.io/serviceaccount";
constexpr const char* kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::unexpected<ConfigFailure> failed(std::string message, const char* reason = kConfigError) {
  return std::unexpected(ConfigFailure{reason, std::move(message)});
}

std::vector<std::string> strings(const Json& list) {
  std::vector<std::string> out;
  for (const Json& item : list) {
    if (item.is_string()) out.push_back(item.get<std::string>());
  }
  return out;
}

std::string variableName(std::string name) {
  for (char& c : name) c = c == '-' || c == '.' ? '_' : static_cast<char>(std::toupper(c));
  return name;
}

class Environment {
 public:
  Environment(const Json& pod, const Json& container, const ContainerContext& context)
      : pod_(pod), container_(container), context_(context) {}

  std::expected<Values, ConfigFailure> build(const Values& base) {
    values_ = base;
    for (const Json& from : listAt(container_, "envFrom")) {
      if (auto done = addAll(from); !done) return std::unexpected(done.error());
    }
    for (const Json& variable : listAt(container_, "env")) {
      if (auto done = add(variable); !done) return std::unexpected(done.error());
    }
    return std::move(values_);
  }

 private:
  std::expected<std::shared_ptr<const Json>, ConfigFailure> object(bool secret,
                                                                   const Json& reference) {
    const std::string name = json::stringAt(reference, "name");
    auto found = secret ? context_.secret(name) : context_.config_map(name);
    if (!found) return failed(found.error());
    if (*found == nullptr && !json::boolAt(reference, "optional")) {
      return failed(fmt::format("{} \"{}\" not found", secret ? "secret" : "configmap", name));
    }
    return *found;
  }

  static std::string entry(bool secret, const Json& value) {
    const std::string text = value.is_string() ? value.get<std::string>() : "";
    return secret ? base::base64Decode(text).value_or("") : text;
  }

  ConfigDone addAll(const Json& from) {
    const std::string prefix = json::stringAt(from, "prefix");
    for (const bool secret : {false, true}) {
      const Json* reference = json::find(from, secret ? "secretRef" : "configMapRef");
      if (reference == nullptr) continue;
      POSTERN_TRY(const auto source, object(secret, *reference));
      if (source == nullptr) continue;
      for (const auto& [key, value] : mapAt(*source, "data").items()) {
        values_[prefix + key] = entry(secret, value);
      }
    }
    return {};
  }

  ConfigDone add(const Json& variable) {
    const std::string name = json::stringAt(variable, "name");
    const Json* from = json::find(variable, "valueFrom");
    if (from == nullptr) {
      values_[name] = expandVariables(json::stringAt(variable, "value"), values_);
      return {};
    }
    if (const Json* field = json::find(*from, "fieldRef")) {
      auto value = fieldValue(pod_, json::stringAt(*field, "fieldPath"), context_.facts);
      if (!value) return failed(value.error());
      values_[name] = std::move(*value);
      return {};
    }
    if (const Json* resource = json::find(*from, "resourceFieldRef")) {
      auto value = resourceValue(pod_, container_, *resource, context_.facts);
      if (!value) return failed(value.error());
      values_[name] = std::move(*value);
      return {};
    }
    for (const bool secret : {false, true}) {
      const Json* reference = json::find(*from, secret ? "secretKeyRef" : "configMapKeyRef");
      if (reference == nullptr) continue;
      POSTERN_TRY(const auto source, object(secret, *reference));
      const std::string key = json::stringAt(*reference, "key");
      if (source != nullptr) {
        const Json& data = mapAt(*source, "data");
        if (const auto it = data.find(key); it != data.end()) {
          values_[name] = entry(secret, *it);
          return {};
        }
      }
      if (json::boolAt(*reference, "optional")) return {};
      return failed(fmt::format(
          "couldn't find key {} in {} {}/{}", key, secret ? "Secret" : "ConfigMap",
          json::stringAt(pod_, "metadata.namespace"), json::stringAt(*reference, "name")));
    }
    return failed("env " + name + ": valueFrom has no known source");
  }

  const Json& pod_;
  const Json& container_;
  const ContainerContext& context_;
  Values values_;
};

/// The container's own value, else the pod's.
const Json* security(const Json& pod, const Json& container, const std::string& field) {
  const Json* own = json::find(container, "securityContext." + field);
  return own != nullptr && !own->is_null() ? own : json::find(pod, "spec.securityContext." + field);
}

ConfigDone setUser(const Json& pod, const Json& container, runtime::ContainerSpec& out) {
  const auto number = [&](const char* field, long long fallback) {
    const Json* value = security(pod, container, field);
    return value != nullptr && value->is_number_integer() ? value->get<long long>() : fallback;
  };
  out.uid = static_cast<uid_t>(number("runAsUser", 0));
  out.gid = static_cast<gid_t>(number("runAsGroup", 0));
  const Json* non_root = security(pod, container, "runAsNonRoot");
  if (out.uid == 0 && non_root != nullptr && non_root->is_boolean() && non_root->get<bool>()) {
    return failed("container has runAsNonRoot and image will run as root");
  }
  if (const Json* group = json::find(pod, "spec.securityContext.fsGroup");
      group != nullptr && group->is_number()) {
    out.groups.push_back(group->get<gid_t>());
  }
  for (const Json& group : listAt(pod, "spec.securityContext.supplementalGroups")) {
    if (group.is_number()) out.groups.push_back(group.get<gid_t>());
  }
  out.privileged = json::boolAt(container, "securityContext.privileged");
  out.capabilities = runtime::defaultCapabilities();
  for (const std::string& name : strings(listAt(container, "securityContext.capabilities.drop"))) {
    out.capabilities &= ~runtime::capabilityBit(name);
  }
  for (const std::string& name : strings(listAt(container, "securityContext.capabilities.add"))) {
    const std::uint64_t bit = runtime::capabilityBit(name);
    if (bit == 0) return failed("unknown capability \"" + name + "\" to add");
    out.capabilities |= bit;
  }
  if (out.privileged) out.capabilities = runtime::capabilityBit("ALL");
  const Json* escalation = json::find(container, "securityContext.allowPrivilegeEscalation");
  out.no_new_privileges = escalation != nullptr && escalation->is_boolean() &&
                          !escalation->get<bool>() && !out.privileged;
  return {};
}

std::expected<std::string, ConfigFailure> volumePath(const Json& mount, const Values& env,
                                                     const std::string& volume) {
  std::string sub = json::stringAt(mount, "subPath");
  if (const std::string expression = json::stringAt(mount, "subPathExpr"); !expression.empty()) {
    sub = expandVariables(expression, env);
  }
  if (sub.empty()) return volume;
  std::error_code error;
  const fs::path root = fs::canonical(volume, error);
  fs::path at = root / sub;
  if (sub.starts_with('/') || fs::path(sub).lexically_normal().native().starts_with("..")) {
    return failed("subPath \"" + sub + "\" must stay in its volume");
  }
  if (!fs::exists(at, error)) fs::create_directories(at, error);
  at = fs::canonical(at, error);
  if (error || !at.native().starts_with(root.native())) {
    return failed("subPath \"" + sub + "\" cannot be used");
  }
  return at.native();
}

ConfigDone setMounts(const Json& container, const Values& env, const ContainerContext& context,
                     runtime::ContainerSpec& out) {
  bool own_account = false;
  for (const Json& mount : listAt(container, "volumeMounts")) {
    const std::string name = json::stringAt(mount, "name");
    const std::string target = json::stringAt(mount, "mountPath");
    const auto volume = context.volumes.find(name);
    if (volume == context.volumes.end()) return failed("volume \"" + name + "\" is not in the pod");
    POSTERN_TRY(std::string source, volumePath(mount, env, volume->second));
    own_account = own_account || target == kServiceAccountPath;
    out.mounts.push_back({std::move(source), target.starts_with('/') ? target : "/" + target,
                          json::boolAt(mount, "readOnly")});
  }
  if (!own_account && !context.service_account_dir.empty()) {
    out.mounts.push_back({context.service_account_dir, kServiceAccountPath, true});
  }
  if (!context.termination_log.empty()) {
    out.mounts.push_back(
        {context.termination_log,
         json::stringAt(container, "terminationMessagePath", "/dev/termination-log"), false});
  }
  return {};
}

/// An image's program may lie where pods have folders of their own: it and its arguments are bound
/// there.
void mountProgramFiles(const ImageProgram& image, runtime::ContainerSpec& out) {
  std::vector<std::string> words = image.command;
  words.insert(words.end(), image.args.begin(), image.args.end());
  for (const std::string& word : words) {
    std::error_code error;
    if (!word.starts_with('/') || word.starts_with(runtime::kProgramsPath)) continue;
    const fs::path real = fs::canonical(word, error);
    if (error) continue;
    for (const char* own : {"/tmp/", "/run/", "/home/", "/root/", "/var/tmp/"}) {
      if (word.starts_with(own)) out.mounts.push_back({real.native(), word, true});
    }
  }
}

}  // namespace

std::string expandVariables(std::string_view text, const Values& values) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '$' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    if (text[i + 1] == '$') {
      out += '$';
      ++i;
      continue;
    }
    const std::size_t end = text[i + 1] == '(' ? text.find(')', i) : std::string_view::npos;
    if (end == std::string_view::npos) {
      out += '$';
      continue;
    }
    const auto value = values.find(std::string(text.substr(i + 2, end - i - 2)));
    out += value != values.end() ? value->second : std::string(text.substr(i, end - i + 1));
    i = end;
  }
  return out;
}

Values serviceVariables(const std::vector<std::shared_ptr<const Json>>& services,
                        const std::string& ns, bool links) {
  Values out;
  for (const auto& service : services) {
    const std::string name = json::stringAt(*service, "metadata.name");
    const std::string service_ns = json::stringAt(*service, "metadata.namespace");
    const bool api = name == "kubernetes" && service_ns == "default";
    if (!api && (!links || service_ns != ns)) continue;
    const std::string ip = json::stringAt(*service, "spec.clusterIP");
    const Json& ports = listAt(*service, "spec.ports");
    if (ip.empty() || ip == "None" || ports.empty()) continue;
    const std::string prefix = variableName(name);
    out[prefix + "_SERVICE_HOST"] = ip;
    bool first = true;
    for (const Json& port : ports) {
      const std::string number = std::to_string(json::integerAt(port, "port"));
      const std::string protocol = json::stringAt(port, "protocol", "TCP");
      const std::string url = base::toLower(protocol) + "://" + ip + ":" + number;
      if (first) {
        out[prefix + "_SERVICE_PORT"] = number;
        out[prefix + "_PORT"] = url;
      }
      first = false;
      const std::string port_name = json::stringAt(port, "name");
      if (!port_name.empty()) out[prefix + "_SERVICE_PORT_" + variableName(port_name)] = number;
      const std::string each = prefix + "_PORT_" + number + "_" + protocol;
      out[each] = url;
      out[each + "_PROTO"] = base::toLower(protocol);
      out[each + "_PORT"] = number;
      out[each + "_ADDR"] = ip;
    }
  }
  return out;
}

std::expected<runtime::ContainerSpec, ConfigFailure> containerSpec(
    const Json& pod, const Json& container, const ContainerContext& context) {
  runtime::ContainerSpec out;
  const std::string image_name = json::stringAt(container, "image");
  const ImageProgram* image = context.images->find(image_name);
  const Json& command = listAt(container, "command");
  const Json& args = listAt(container, "args");
  if (image == nullptr && command.empty()) {
    return failed(context.images->unknownImageMessage(image_name), "ErrImagePull");
  }
  POSTERN_TRY_VOID(setUser(pod, container, out));

  const bool links = json::boolAt(pod, "spec.enableServiceLinks", true);
  Values env = serviceVariables(context.services, json::stringAt(pod, "metadata.namespace"), links);
  env["PATH"] = kPath;
  env["HOME"] = out.uid == 0 ? "/root" : "/";
  env["HOSTNAME"] = json::stringAt(pod, "spec.hostname", json::stringAt(pod, "metadata.name"));
  if (json::boolAt(container, "tty")) env["TERM"] = "xterm";
  if (image != nullptr) {
    for (const auto& [name, value] : image->env) env[name] = value;
  }
  POSTERN_TRY(env, Environment(pod, container, context).build(env));
  for (const auto& [name, value] : env) out.env.push_back(name + "=" + value);

  out.argv = !command.empty() ? strings(command) : image->command;
  std::vector<std::string> rest = strings(args);
  if (args.empty() && command.empty()) rest = image->args;
  out.argv.insert(out.argv.end(), rest.begin(), rest.end());
  // What the image says itself is meant literally.
  const std::size_t literal = command.empty() ? image->command.size() : 0;
  for (std::size_t i = literal; i < out.argv.size(); ++i) {
    out.argv[i] = expandVariables(out.argv[i], env);
  }
  out.cwd = json::stringAt(container, "workingDir", "/");
  if (out.cwd.empty()) out.cwd = "/";
  POSTERN_TRY_VOID(setMounts(container, env, context, out));
  if (image != nullptr) mountProgramFiles(*image, out);
  out.id = context.id;
  out.log_file = context.log_file;
  out.terminal = json::boolAt(container, "tty");
  out.open_stdin = json::boolAt(container, "stdin");
  out.stdin_once = json::boolAt(container, "stdinOnce");
  return out;
}

}  // namespace postern::node
