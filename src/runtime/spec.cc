#include "runtime/spec.h"

#include <nlohmann/json.hpp>

#include <array>

#include <linux/capability.h>

namespace postern::runtime {
namespace {

using json::Json;

// In the order of their numbers (linux/capability.h).
constexpr std::array<const char*, 41> kCapabilities = {"CHOWN",
                                                       "DAC_OVERRIDE",
                                                       "DAC_READ_SEARCH",
                                                       "FOWNER",
                                                       "FSETID",
                                                       "KILL",
                                                       "SETGID",
                                                       "SETUID",
                                                       "SETPCAP",
                                                       "LINUX_IMMUTABLE",
                                                       "NET_BIND_SERVICE",
                                                       "NET_BROADCAST",
                                                       "NET_ADMIN",
                                                       "NET_RAW",
                                                       "IPC_LOCK",
                                                       "IPC_OWNER",
                                                       "SYS_MODULE",
                                                       "SYS_RAWIO",
                                                       "SYS_CHROOT",
                                                       "SYS_PTRACE",
                                                       "SYS_PACCT",
                                                       "SYS_ADMIN",
                                                       "SYS_BOOT",
                                                       "SYS_NICE",
                                                       "SYS_RESOURCE",
                                                       "SYS_TIME",
                                                       "SYS_TTY_CONFIG",
                                                       "MKNOD",
                                                       "LEASE",
                                                       "AUDIT_WRITE",
                                                       "AUDIT_CONTROL",
                                                       "SETFCAP",
                                                       "MAC_OVERRIDE",
                                                       "MAC_ADMIN",
                                                       "SYSLOG",
                                                       "WAKE_ALARM",
                                                       "BLOCK_SUSPEND",
                                                       "AUDIT_READ",
                                                       "PERFMON",
                                                       "BPF",
                                                       "CHECKPOINT_RESTORE"};

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

}  // namespace

std::uint64_t defaultCapabilities() {
  return bit(CAP_CHOWN) | bit(CAP_DAC_OVERRIDE) | bit(CAP_FSETID) | bit(CAP_FOWNER) |
         bit(CAP_MKNOD) | bit(CAP_NET_RAW) | bit(CAP_SETGID) | bit(CAP_SETUID) | bit(CAP_SETFCAP) |
         bit(CAP_SETPCAP) | bit(CAP_NET_BIND_SERVICE) | bit(CAP_SYS_CHROOT) | bit(CAP_KILL) |
         bit(CAP_AUDIT_WRITE);
}

std::uint64_t capabilityBit(std::string_view name) {
  if (name.starts_with("CAP_")) name.remove_prefix(4);
  if (name == "ALL") return bit(static_cast<int>(kCapabilities.size())) - 1;
  for (std::size_t i = 0; i < kCapabilities.size(); ++i) {
    if (name == kCapabilities[i]) return bit(static_cast<int>(i));
  }
  return 0;
}

Json toJson(const SandboxSpec& spec) {
  return {{"folder", spec.folder},
          {"hostname", spec.hostname},
          {"programsDir", spec.programs_dir},
          {"hostsFile", spec.hosts_file},
          {"resolvFile", spec.resolv_file},
          {"hostnameFile", spec.hostname_file},
          {"hidden", spec.hidden},
          {"sysctls", spec.sysctls},
          {"hostNetwork", spec.host_network}};
}

SandboxSpec sandboxSpecFrom(const Json& value) {
  SandboxSpec out;
  out.folder = json::stringAt(value, "folder");
  out.hostname = json::stringAt(value, "hostname");
  out.programs_dir = json::stringAt(value, "programsDir");
  out.hosts_file = json::stringAt(value, "hostsFile");
  out.resolv_file = json::stringAt(value, "resolvFile");
  out.hostname_file = json::stringAt(value, "hostnameFile");
  out.hidden = json::stringsAt(value, "hidden");
  if (const Json* sysctls = json::find(value, "sysctls"); sysctls && sysctls->is_object()) {
    for (const auto& [name, text] : sysctls->items()) {
      if (text.is_string()) out.sysctls[name] = text.get<std::string>();
    }
  }
  out.host_network = json::boolAt(value, "hostNetwork");
  return out;
}

Json toJson(const ContainerSpec& spec) {
  Json mounts = Json::array();
  for (const Mount& mount : spec.mounts) {
    mounts.push_back(
        {{"source", mount.source}, {"target", mount.target}, {"readOnly", mount.read_only}});
  }
  return {{"id", spec.id},
          {"argv", spec.argv},
          {"env", spec.env},
          {"cwd", spec.cwd},
          {"uid", spec.uid},
          {"gid", spec.gid},
          {"groups", spec.groups},
          {"capabilities", spec.capabilities},
          {"noNewPrivileges", spec.no_new_privileges},
          {"privileged", spec.privileged},
          {"mounts", std::move(mounts)},
          {"logFile", spec.log_file},
          {"terminal", spec.terminal},
          {"openStdin", spec.open_stdin},
          {"stdinOnce", spec.stdin_once}};
}

ContainerSpec containerSpecFrom(const Json& value) {
  ContainerSpec out;
  out.id = json::stringAt(value, "id");
  out.argv = json::stringsAt(value, "argv");
  out.env = json::stringsAt(value, "env");
  out.cwd = json::stringAt(value, "cwd", "/");
  out.uid = static_cast<uid_t>(json::integerAt(value, "uid"));
  out.gid = static_cast<gid_t>(json::integerAt(value, "gid"));
  if (const Json* groups = json::find(value, "groups"); groups && groups->is_array()) {
    for (const Json& group : *groups) {
      if (group.is_number()) out.groups.push_back(group.get<gid_t>());
    }
  }
  out.capabilities = static_cast<std::uint64_t>(json::integerAt(value, "capabilities"));
  out.no_new_privileges = json::boolAt(value, "noNewPrivileges");
  out.privileged = json::boolAt(value, "privileged");
  if (const Json* mounts = json::find(value, "mounts"); mounts && mounts->is_array()) {
    for (const Json& mount : *mounts) {
      out.mounts.push_back({json::stringAt(mount, "source"), json::stringAt(mount, "target"),
                            json::boolAt(mount, "readOnly")});
    }
  }
  out.log_file = json::stringAt(value, "logFile");
  out.terminal = json::boolAt(value, "terminal");
  out.open_stdin = json::boolAt(value, "openStdin");
  out.stdin_once = json::boolAt(value, "stdinOnce");
  return out;
}

Json toJson(const ContainerRecord& record) {
  return {{"id", record.id},
          {"running", record.running},
          {"exitCode", record.exit_code},
          {"signal", record.signal},
          {"startedMs", record.started_ms},
          {"finishedMs", record.finished_ms}};
}

ContainerRecord containerRecordFrom(const Json& value) {
  ContainerRecord out;
  out.id = json::stringAt(value, "id");
  out.running = json::boolAt(value, "running");
  out.exit_code = static_cast<int>(json::integerAt(value, "exitCode"));
  out.signal = static_cast<int>(json::integerAt(value, "signal"));
  out.started_ms = json::integerAt(value, "startedMs");
  out.finished_ms = json::integerAt(value, "finishedMs");
  return out;
}

}  // namespace postern::runtime
