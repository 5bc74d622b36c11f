// What a pod's sandbox and its containers are made of. Plain values; paths named "source" are those
// of the node's file system, "target" those inside the pod. Knows nothing of Kubernetes.
#pragma once

#include "base/error.h"
#include "json/json.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace postern::runtime {

/// Where a pod sees the folder of our programs: uid 1337 cannot traverse its owner's 0700 home.
inline constexpr const char* kProgramsPath = "/.postern/bin";
/// The socket of a sandbox inside its folder.
inline constexpr const char* kSocketName = "shim.sock";

/// The capabilities container engines grant, as a bit mask.
std::uint64_t defaultCapabilities();
/// "NET_ADMIN" or "CAP_NET_ADMIN" as a bit, "ALL" as all of them; 0 for an unknown name.
std::uint64_t capabilityBit(std::string_view name);

struct SandboxSpec {
  std::string folder;  // exists; holds the socket and what the sandbox needs while it lives
  std::string hostname;
  std::string programs_dir;         // appears at kProgramsPath; may be empty
  std::string hosts_file;           // appear as /etc/hosts, /etc/resolv.conf, /etc/hostname, read
  std::string resolv_file;          // only; may be empty
  std::string hostname_file;        //
  std::vector<std::string> hidden;  // folders that the pod must not see
  std::map<std::string, std::string> sysctls;  // "net.ipv4.ip_forward" → "1"
  bool host_network = false;
};

struct Mount {
  std::string source;  // file or folder
  std::string target;  // made when absent, without touching the node's files
  bool read_only = false;
};

struct ContainerSpec {
  std::string id;                 // unique within the sandbox
  std::vector<std::string> argv;  // argv[0] is a path, or a name looked up in PATH of `env`
  std::vector<std::string> env;   // "NAME=value"
  std::string cwd = "/";
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::uint64_t capabilities = 0;
  bool no_new_privileges = false;
  bool privileged = false;  // keeps a writable /proc/sys
  std::vector<Mount> mounts;
  std::string log_file;  // of the node's file system; its folder exists
  bool terminal = false;
  bool open_stdin = false;  // keep standard input open for attachments
  bool stdin_once = false;  // the first attachment's end is the end of standard input
};

json::Json toJson(const SandboxSpec& spec);
json::Json toJson(const ContainerSpec& spec);
SandboxSpec sandboxSpecFrom(const json::Json& value);
ContainerSpec containerSpecFrom(const json::Json& value);

/// A container that was started in a sandbox.
struct ContainerRecord {
  std::string id;
  bool running = false;
  int exit_code = 0;  // 128 + signal when a signal ended it
  int signal = 0;
  std::int64_t started_ms = 0;  // since the epoch
  std::int64_t finished_ms = 0;
};
json::Json toJson(const ContainerRecord& record);
ContainerRecord containerRecordFrom(const json::Json& value);

}  // namespace postern::runtime
