#include "runtime/rootfs.h"

#include "base/strings.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace postern::runtime {
namespace {

namespace fs = std::filesystem;

// The new root is assembled over a folder that the pod gets anew anyway.
constexpr const char* kStaging = "/sys";
constexpr std::array kOwnFolders = {"proc", "dev", "sys", "tmp", "run", "home", "root"};
constexpr std::array kDevices = {"null", "zero", "full", "random", "urandom", "tty"};
constexpr unsigned long kTmpfsFlags = MS_NOSUID | MS_NODEV;

std::unexpected<std::string> failed(std::string_view step) {
  return std::unexpected(fmt::format("{}: {}", step, std::strerror(errno)));
}

bool exists(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0;
}

bool isFolder(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

TextResult mountTmpfs(const std::string& at, const char* options, unsigned long flags = 0) {
  if (::mount("tmpfs", at.c_str(), "tmpfs", kTmpfsFlags | flags, options) != 0) {
    return failed("cannot mount a tmpfs on " + at);
  }
  return {};
}

TextResult bindMount(const std::string& source, const std::string& target) {
  if (::mount(source.c_str(), target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) {
    return failed(fmt::format("cannot bind {} to {}", source, target));
  }
  return {};
}

TextResult makeReadOnly(const std::string& at, unsigned flags) {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (::syscall(SYS_mount_setattr, AT_FDCWD, at.c_str(), flags, &attributes, sizeof(attributes)) !=
      0) {
    return failed("cannot make " + at + " read-only");
  }
  return {};
}

bool makeFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  ::close(fd);
  return true;
}

/// One entry of a folder that is being rebuilt: links are copied, files and folders bound.
TextResult mirrorEntry(const std::string& source, const std::string& target) {
  struct stat info{};
  if (::lstat(source.c_str(), &info) != 0) return {};  // gone meanwhile
  if (S_ISLNK(info.st_mode)) {
    std::error_code error;
    const fs::path to = fs::read_symlink(source, error);
    if (!error && ::symlink(to.c_str(), target.c_str()) != 0 && errno != EEXIST) {
      return failed("cannot link " + target);
    }
    return {};
  }
  if (S_ISDIR(info.st_mode)) {
    if (::mkdir(target.c_str(), 0755) != 0 && errno != EEXIST) {
      return failed("cannot make " + target);
    }
  } else if (!makeFile(target)) {
    return failed("cannot make " + target);
  }
  // What the node itself may not read, the pod need not see.
  auto bound = bindMount(source, target);
  if (!bound && (errno == EACCES || errno == EPERM)) return {};
  return bound;
}

/// Replaces a folder by a tmpfs that holds the same entries, so that mount points can be made in
/// it. Entries named in `without` are left out.
TextResult mirror(const std::string& folder, const std::vector<std::string>& without = {}) {
  const int original = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (original < 0) return failed("cannot open " + folder);
  const std::string through = fmt::format("/proc/self/fd/{}", original);
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(through, error)) {
    names.push_back(entry.path().filename().string());
  }
  TextResult done;
  if (error) {
    done = std::unexpected(fmt::format("cannot read {}: {}", folder, error.message()));
  } else {
    done = mountTmpfs(folder, "mode=0755,size=16m");
  }
  for (const std::string& name : names) {
    if (!done) break;
    if (std::find(without.begin(), without.end(), name) != without.end()) continue;
    done = mirrorEntry(through + "/" + name, folder + "/" + name);
  }
  ::close(original);
  return done;
}

/// Makes the last step of `path` (a folder, or a file) in an existing parent.
TextResult makeEntry(const std::string& path, bool folder) {
  for (int attempt = 0;; ++attempt) {
    const bool made = folder ? ::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST : makeFile(path);
    if (made) return {};
    if (attempt > 0 || (errno != EROFS && errno != EACCES && errno != EPERM)) {
      return failed("cannot make the mount point " + path);
    }
    std::error_code error;
    const fs::path parent = fs::canonical(fs::path(path).parent_path(), error);
    if (error) return std::unexpected("cannot resolve the parent of " + path);
    if (auto done = mirror(parent.string()); !done) return done;
  }
}

TextResult makeMountPoint(const std::string& target, bool folder) {
  std::string at;
  const auto parts = base::split(target, '/');
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].empty()) continue;
    if (parts[i] == "..") return std::unexpected(target + " leaves its folder");
    at += "/" + std::string(parts[i]);
    if (exists(at)) continue;
    const bool last = i + 1 == parts.size();
    if (auto made = makeEntry(at, folder || !last); !made) return made;
  }
  if (isFolder(at.empty() ? "/" : at) != folder) {
    return std::unexpected(fmt::format("{} is {} a folder", target, folder ? "not" : "already"));
  }
  return {};
}

TextResult makeDev(const std::string& dev) {
  if (auto done = mountTmpfs(dev, "mode=0755,size=64k", MS_NOEXEC); !done) return done;
  for (const char* name : kDevices) {
    const std::string source = fmt::format("/dev/{}", name);
    const std::string target = dev + "/" + name;
    if (!exists(source)) continue;
    if (!makeFile(target)) return failed("cannot make " + target);
    if (auto done = bindMount(source, target); !done) return done;
  }
  const std::pair<const char*, const char*> links[] = {{"/proc/self/fd", "fd"},
                                                       {"/proc/self/fd/0", "stdin"},
                                                       {"/proc/self/fd/1", "stdout"},
                                                       {"/proc/self/fd/2", "stderr"},
                                                       {"pts/ptmx", "ptmx"}};
  for (const auto& [to, name] : links) {
    if (::symlink(to, (dev + "/" + name).c_str()) != 0) return failed("cannot link in " + dev);
  }
  ::mkdir((dev + "/pts").c_str(), 0755);
  ::mkdir((dev + "/shm").c_str(), 01777);
  if (::mount("devpts", (dev + "/pts").c_str(), "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,ptmxmode=0666,mode=0620") != 0) {
    return failed("cannot mount devpts");
  }
  return mountTmpfs(dev + "/shm", "mode=1777,size=64m");
}

/// A new procfs shows the pod's processes only. Where the kernel refuses one (the node's own is
/// partly covered, as inside some container engines), the node's must do.
TextResult makeProc(const std::string& proc) {
  if (::mount("proc", proc.c_str(), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0) {
    return {};
  }
  return bindMount("/proc", proc);
}

TextResult bindTop(const std::string& root) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/", error)) {
    const std::string name = entry.path().filename().string();
    const std::string target = root + "/" + name;
    struct stat info{};
    if (::lstat(entry.path().c_str(), &info) != 0) continue;
    if (std::find(kOwnFolders.begin(), kOwnFolders.end(), name) != kOwnFolders.end()) continue;
    if (!S_ISDIR(info.st_mode) && !S_ISLNK(info.st_mode)) continue;
    if (auto done = mirrorEntry(entry.path().string(), target); !done) return done;
  }
  if (error) return std::unexpected("cannot read /: " + error.message());
  for (const char* name : kOwnFolders) ::mkdir(fmt::format("{}/{}", root, name).c_str(), 0755);
  ::mkdir((root + "/.postern").c_str(), 0755);
  ::mkdir((root + "/.postern/bin").c_str(), 0755);
  ::mkdir((root + "/.postern/host").c_str(), 0755);
  return {};
}

/// /etc with the pod's own files in place of the node's.
TextResult makeEtc(const std::string& root, const SandboxSpec& spec) {
  const std::pair<const char*, const std::string*> files[] = {{"hosts", &spec.hosts_file},
                                                              {"resolv.conf", &spec.resolv_file},
                                                              {"hostname", &spec.hostname_file}};
  std::vector<std::string> own = {"mtab"};
  for (const auto& [name, source] : files) {
    if (!source->empty()) own.emplace_back(name);
  }
  const std::string etc = root + "/etc";
  ::mkdir(etc.c_str(), 0755);
  if (auto done = mirror(etc, own); !done) return done;
  ::symlink("/proc/self/mounts", (etc + "/mtab").c_str());
  for (const auto& [name, source] : files) {
    if (source->empty()) continue;
    const std::string target = etc + "/" + name;
    if (!makeFile(target)) return failed("cannot make " + target);
    if (auto done = bindMount(*source, target); !done) return done;
    if (auto done = makeReadOnly(target, 0); !done) return done;
  }
  return {};
}

TextResult hideFolders(const std::string& root, const SandboxSpec& spec) {
  for (const std::string& folder : spec.hidden) {
    if (!isFolder(root + folder)) continue;
    if (auto done = mountTmpfs(root + folder, "mode=0755,size=4k", MS_RDONLY); !done) return done;
  }
  return {};
}

TextResult pivot(const std::string& root) {
  if (::chdir(root.c_str()) != 0) return failed("cannot enter " + root);
  if (::syscall(SYS_pivot_root, ".", kHostRoot + 1) != 0) return failed("cannot change the root");
  if (::chdir("/") != 0) return failed("cannot enter the new root");
  return {};
}

}  // namespace

TextResult enterPodRoot(const SandboxSpec& spec) {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return failed("cannot make the mounts private");
  }
  const std::string root = kStaging;
  if (auto done = mountTmpfs(root, "mode=0755,size=16m"); !done) return done;
  if (auto done = bindTop(root); !done) return done;
  if (!spec.programs_dir.empty()) {
    if (auto done = bindMount(spec.programs_dir, root + kProgramsPath); !done) return done;
  }
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.is_symlink() || !entry.is_directory()) continue;
    // Only what was bound is a mount of its own; a plain folder of the new root is no mount point.
    (void)makeReadOnly(entry.path().string(), AT_RECURSIVE);
  }
  (void)makeReadOnly(root + kProgramsPath, AT_RECURSIVE);
  if (auto done = makeEtc(root, spec); !done) return done;
  if (auto done = hideFolders(root, spec); !done) return done;
  if (auto done = makeDev(root + "/dev"); !done) return done;
  if (auto done = makeProc(root + "/proc"); !done) return done;
  if (::mount("sysfs", (root + "/sys").c_str(), "sysfs",
              MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, nullptr) != 0) {
    // Without it nothing of ours misses anything: /sys stays empty.
  }
  return pivot(root);
}

TextResult enterContainerRoot(const std::vector<Mount>& mounts, bool privileged) {
  if (auto done = mountTmpfs("/tmp", "mode=1777"); !done) return done;
  if (auto done = mountTmpfs("/run", "mode=0755"); !done) return done;
  ::mkdir("/run/lock", 01777);
  if (isFolder("/var/tmp")) {
    if (auto done = mountTmpfs("/var/tmp", "mode=1777"); !done) return done;
  }
  std::vector<const Mount*> order;
  for (const Mount& mount : mounts) order.push_back(&mount);
  std::stable_sort(order.begin(), order.end(), [](const Mount* a, const Mount* b) {
    return std::count(a->target.begin(), a->target.end(), '/') <
           std::count(b->target.begin(), b->target.end(), '/');
  });
  for (const Mount* mount : order) {
    const std::string source = kHostRoot + mount->source;
    if (!exists(source)) return std::unexpected(mount->source + " does not exist");
    if (auto done = makeMountPoint(mount->target, isFolder(source)); !done) return done;
    if (auto done = bindMount(source, mount->target); !done) return done;
    if (mount->read_only) {
      if (auto done = makeReadOnly(mount->target, AT_RECURSIVE); !done) return done;
    }
  }
  if (!privileged) {
    for (const char* path : {"/proc/sys", "/proc/sysrq-trigger"}) {
      if (!exists(path)) continue;
      if (auto done = bindMount(path, path); !done) return done;
      if (auto done = makeReadOnly(path, 0); !done) return done;
    }
  }
  if (::umount2(kHostRoot, MNT_DETACH) != 0) return failed("cannot take the node's files away");
  return {};
}

}  // namespace postern::runtime
