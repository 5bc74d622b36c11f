#include "node/pod_files.h"

#include "base/strings.h"
#include "network/network.h"
#include "node/pod_fields.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <vector>

#include <sys/stat.h>

namespace postern::node {
namespace {

namespace fs = std::filesystem;
using json::Json;

constexpr std::size_t kPodBytesMax = 4 * 1024 * 1024;
constexpr std::size_t kHostnameMax = 63;

}  // namespace

bool writeTextFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  return static_cast<bool>(file);
}

std::optional<std::string> readTextFile(const std::string& path, std::size_t bytes_max) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return {};
  std::string out(bytes_max, '\0');
  file.read(out.data(), static_cast<std::streamsize>(bytes_max));
  out.resize(static_cast<std::size_t>(file.gcount()));
  return out;
}

void makePodFolders(const std::string& folder) {
  std::error_code error;
  for (const char* name : {"sandbox", "etc", "volumes", "logs", "termination"}) {
    fs::create_directories(fs::path(folder) / name, error);
  }
  for (const char* name : {"hosts", "resolv.conf", "hostname"}) {
    const std::string path = folder + "/etc/" + name;
    if (!fs::exists(path, error)) writeTextFile(path, "");
    ::chmod(path.c_str(), 0644);
  }
}

void savePod(const std::string& folder, const Json& pod) {
  const std::string path = folder + "/pod.json";
  if (writeTextFile(path + ".new", json::dump(pod))) {
    std::error_code error;
    fs::rename(path + ".new", path, error);
  }
}

std::optional<Json> loadPod(const std::string& folder) {
  const auto text = readTextFile(folder + "/pod.json", kPodBytesMax);
  if (!text) return {};
  auto pod = json::parse(*text);
  if (!pod || json::stringAt(*pod, "metadata.uid").empty()) return {};
  return std::move(*pod);
}

void saveSandbox(const std::string& folder, const runtime::Sandbox::Identity& identity) {
  writeTextFile(folder + "/sandbox.json",
                json::dump(Json{{"pid", identity.pid}, {"startTicks", identity.start_ticks}}));
}

std::optional<runtime::Sandbox::Identity> loadSandbox(const std::string& folder) {
  const auto text = readTextFile(folder + "/sandbox.json", 4096);
  const auto value = text ? json::parse(*text) : base::failConfig("", "absent");
  if (!value) return {};
  const runtime::Sandbox::Identity identity{
      static_cast<pid_t>(json::integerAt(*value, "pid")),
      static_cast<std::uint64_t>(json::integerAt(*value, "startTicks"))};
  if (!runtime::Sandbox::alive(identity)) return {};
  return identity;
}

std::string podHostname(const Json& pod) {
  std::string name = json::stringAt(pod, "spec.hostname");
  if (name.empty()) name = json::stringAt(pod, "metadata.name");
  name.resize(std::min(name.size(), kHostnameMax));
  while (name.ends_with('-') || name.ends_with('.')) name.pop_back();
  return name;
}

std::string hostsText(const Json& pod, const std::string& ip, const std::string& cluster_domain) {
  std::string out =
      "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost "
      "ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\n"
      "fe00::2\tip6-allrouters\n";
  const std::string host = podHostname(pod);
  if (!ip.empty()) {
    const std::string sub = json::stringAt(pod, "spec.subdomain");
    out += ip + "\t";
    if (!sub.empty()) {
      out += fmt::format("{}.{}.{}.svc.{}\t", host, sub, json::stringAt(pod, "metadata.namespace"),
                         cluster_domain);
    }
    out += host + "\n";
  }
  for (const Json& alias : listAt(pod, "spec.hostAliases")) {
    std::vector<std::string> names;
    for (const Json& name : listAt(alias, "hostnames")) {
      if (name.is_string()) names.push_back(name.get<std::string>());
    }
    out += json::stringAt(alias, "ip") + "\t" + base::join(names, "\t") + "\n";
  }
  return out;
}

std::string resolvText(const Json& pod, const std::string& cluster_domain, bool cluster) {
  const std::string policy = json::stringAt(pod, "spec.dnsPolicy", "ClusterFirst");
  const bool host_network = json::boolAt(pod, "spec.hostNetwork");
  if (policy == "Default" || (policy == "ClusterFirst" && (host_network || !cluster))) {
    return readTextFile("/etc/resolv.conf", 65536).value_or("");
  }
  std::vector<std::string> servers;
  std::vector<std::string> search;
  std::vector<std::string> options;
  if (policy != "None") {
    const std::string ns = json::stringAt(pod, "metadata.namespace");
    servers.emplace_back(network::kDnsServiceAddress);
    search = {ns + ".svc." + cluster_domain, "svc." + cluster_domain, cluster_domain};
    options = {"ndots:5"};
  }
  const auto add = [&](const char* path, std::vector<std::string>& to) {
    for (const Json& item : listAt(pod, path)) {
      if (item.is_string()) to.push_back(item.get<std::string>());
    }
  };
  add("spec.dnsConfig.nameservers", servers);
  add("spec.dnsConfig.searches", search);
  for (const Json& option : listAt(pod, "spec.dnsConfig.options")) {
    const std::string name = json::stringAt(option, "name");
    const std::string value = json::stringAt(option, "value");
    std::erase_if(options, [&](const std::string& each) {
      return each == name || each.starts_with(name + ":");
    });
    options.push_back(value.empty() ? name : name + ":" + value);
  }
  std::string out;
  for (const std::string& server : servers) out += "nameserver " + server + "\n";
  if (!search.empty()) out += "search " + base::join(search, " ") + "\n";
  if (!options.empty()) out += "options " + base::join(options, " ") + "\n";
  return out;
}

}  // namespace postern::node
