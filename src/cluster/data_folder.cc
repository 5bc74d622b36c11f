#include "cluster/data_folder.h"

#include "base/strings.h"
#include "cluster/files.h"
#include "json/json.h"
#include "net/address.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

namespace postern::cluster {
namespace {

using json::Json;

/// The longest socket name below run/, which must fit into sockaddr_un.
constexpr std::string_view kLongestSocket = "/run/cluster-sockets.sock";

bool validHost(std::string_view host) {
  if (host.empty() || host.size() > 253) return false;
  for (const char c : host) {
    const char lower = base::toLowerAscii(c);
    if (!((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'))
      return false;
  }
  return true;
}

}  // namespace

std::string DataFolder::defaultRoot() {
  const char* data = std::getenv("XDG_DATA_HOME");
  if (data != nullptr && data[0] == '/') return std::string(data) + "/postern";
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') return std::string(home) + "/.local/share/postern";
  return "";
}

base::ConfigResult<DataFolder> DataFolder::at(const std::string& given) {
  std::string root = given.empty() ? defaultRoot() : given;
  if (root.empty()) {
    return base::failConfig("--data-dir", "is needed: neither HOME nor XDG_DATA_HOME is set");
  }
  std::error_code error;
  root = std::filesystem::absolute(root, error).lexically_normal().string();
  if (error) return base::failConfig("--data-dir", error.message());
  while (root.size() > 1 && root.back() == '/') root.pop_back();
  if (root.size() + kLongestSocket.size() >= sizeof(sockaddr_un::sun_path)) {
    return base::failConfig(
        root, fmt::format("is too long for a data folder: sockets allow {} characters; choose "
                          "another with --data-dir",
                          sizeof(sockaddr_un::sun_path) - kLongestSocket.size() - 1));
  }
  return DataFolder{root};
}

bool DataFolder::exists() const {
  struct stat there{};
  return ::stat(file("version").c_str(), &there) == 0;
}

base::ConfigResult<void> DataFolder::checkVersion() const {
  struct stat there{};
  if (::stat(root.c_str(), &there) != 0) return {};
  if (!S_ISDIR(there.st_mode)) return base::failConfig(root, "is no folder");
  auto text = readFile(file("version"));
  if (!text) {
    std::error_code error;
    if (std::filesystem::is_empty(root, error)) return {};
    if (error) return base::failConfig(root, error.message());
    // A run that ended before it wrote the version left at most this lock.
    for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
      if (entry.path().filename() != "command.lock") {
        return base::failConfig(root,
                                "is not empty and no data folder of postern; choose another "
                                "with --data-dir");
      }
    }
    return {};
  }
  const std::string_view line = std::string_view(*text).substr(0, text->find('\n'));
  if (base::parseInteger<int>(line) == kDataVersion) return {};
  return base::failConfig(
      root, fmt::format("was made by an incompatible version of postern (data version {}, this "
                        "program reads {}); use that version, another --data-dir, or remove it "
                        "with `postern down --purge`",
                        line.empty() ? "unknown" : line.substr(0, 20), kDataVersion));
}

base::ConfigResult<void> DataFolder::prepare() const {
  POSTERN_TRY_VOID(checkVersion());
  POSTERN_TRY_VOID(makeFolder(root));
  struct statvfs space{};
  if (::statvfs(root.c_str(), &space) == 0) {
    const std::uint64_t free = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
    if (free < kFreeBytesMin) {
      return base::failConfig(
          root, fmt::format("has {} KiB free, the cluster needs {} MiB; make room or choose "
                            "another folder with --data-dir",
                            free >> 10, kFreeBytesMin >> 20));
    }
  }
  for (const std::string& folder : {run(), file("logs"), api(), node()}) {
    POSTERN_TRY_VOID(makeFolder(folder));
  }
  if (::chmod(root.c_str(), 0700) != 0 || ::chmod(run().c_str(), 0700) != 0) {
    return base::failConfig(root, "belongs to somebody else");
  }
  return writeFile(file("version"), fmt::format("{}\n", kDataVersion));
}

base::ConfigResult<External> External::parse(const std::string& text) {
  const std::string path = "--external " + text;
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) {
    return base::failConfig(path, "must look like HOST:PORT=ADDRESS:PORT");
  }
  const std::string name = text.substr(0, equals);
  External out;
  out.target = text.substr(equals + 1);
  const std::size_t colon = name.rfind(':');
  const auto port =
      colon == std::string::npos
          ? std::nullopt
          : base::parseInteger<std::uint16_t>(std::string_view(name).substr(colon + 1));
  if (!port || *port == 0) return base::failConfig(path, "the left side must be HOST:PORT");
  out.port = *port;
  out.host = base::toLower(std::string_view(name).substr(0, colon));
  if (!validHost(out.host)) return base::failConfig(path, "the left side must be HOST:PORT");
  if (out.isStandIn()) return out;
  const auto target = net::Address::parse(out.target);
  if (!target || !target->isIp() || target->port() == 0) {
    return base::failConfig(path,
                            "the right side must be an IP address and a port, or demo:httpbin");
  }
  return out;
}

std::string External::toString() const { return fmt::format("{}:{}={}", host, port, target); }

base::ConfigResult<ClusterOptions> ClusterOptions::load(const DataFolder& folder) {
  ClusterOptions out;
  out.programs_dir = programsDir();
  struct stat there{};
  const std::string path = folder.file("options.json");
  if (::stat(path.c_str(), &there) != 0) return out;
  POSTERN_TRY(const std::string text, readFile(path));
  auto value = json::parse(text);
  if (!value) return base::failConfig(path, value.error().message());
  out.api_port = static_cast<std::uint16_t>(json::integerAt(*value, "apiPort", kDefaultApiPort));
  out.image_map = json::stringAt(*value, "imageMap");
  out.programs_dir = json::stringAt(*value, "programs", out.programs_dir);
  if (const Json* all = json::find(*value, "external"); all != nullptr && all->is_array()) {
    for (const Json& each : *all) {
      if (!each.is_string()) return base::failConfig(path, "external: must be strings");
      POSTERN_TRY(External external, External::parse(each.get<std::string>()));
      out.externals.push_back(std::move(external));
    }
  }
  return out;
}

base::ConfigResult<void> ClusterOptions::save(const DataFolder& folder) const {
  Json all = Json::array();
  for (const External& external : externals) all.push_back(external.toString());
  const Json value = {{"apiPort", api_port},
                      {"imageMap", image_map},
                      {"programs", programs_dir},
                      {"external", std::move(all)}};
  return writeFile(folder.file("options.json"), json::dumpPretty(value) + "\n");
}

std::string programsDir() {
  std::error_code error;
  std::string path = std::filesystem::read_symlink("/proc/self/exe", error).string();
  constexpr std::string_view kDeleted = " (deleted)";
  if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
  return std::filesystem::path(path).parent_path().string();
}

}  // namespace postern::cluster
