#include "cluster/files.h"

#include <climits>
#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postern::cluster {
namespace {

constexpr std::chrono::milliseconds kLockPoll{20};

std::unexpected<base::ConfigError> failPath(const std::string& path, const char* what) {
  const int why = errno;
  return base::failConfig(path, fmt::format("{}: {}", what, std::strerror(why)));
}

/// Where a write must go: what the link names, or the path itself.
std::string resolved(const std::string& path) {
  char buffer[PATH_MAX];
  return ::realpath(path.c_str(), buffer) != nullptr ? std::string(buffer) : path;
}

bool writeAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

base::ConfigResult<std::string> readFile(const std::string& path) {
  const base::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return failPath(path, "cannot be read");
  std::string out;
  char buffer[16384];
  while (true) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failPath(path, "cannot be read");
    if (n == 0) return out;
    out.append(buffer, static_cast<std::size_t>(n));
    if (out.size() > kFileBytesMax) return base::failConfig(path, "is too large");
  }
}

base::ConfigResult<void> writeFile(const std::string& path, std::string_view text, mode_t mode) {
  const std::string target = resolved(path);
  const std::string temporary = fmt::format("{}.{}.tmp", target, ::getpid());
  base::Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd) return failPath(path, "cannot be written");
  if (::fchmod(fd.get(), mode) != 0 || !writeAll(fd.get(), text) || ::fsync(fd.get()) != 0 ||
      ::rename(temporary.c_str(), target.c_str()) != 0) {
    auto error = failPath(path, "cannot be written");
    ::unlink(temporary.c_str());
    return error;
  }
  return {};
}

base::ConfigResult<void> makeFolder(const std::string& path) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      const int why = errno;
      struct stat there{};
      // Parents may be on a file system that says "read-only" before it says "exists".
      if (::stat(part.c_str(), &there) != 0) {
        errno = why;
        return failPath(path, "cannot be made");
      }
    }
    if (slash == std::string::npos) break;
  }
  struct stat made{};
  if (::stat(path.c_str(), &made) != 0) return failPath(path, "cannot be made");
  if (!S_ISDIR(made.st_mode)) return base::failConfig(path, "is no folder");
  return {};
}

base::ConfigResult<base::Fd> lockFile(const std::string& path, std::chrono::milliseconds timeout) {
  base::Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return failPath(path, "cannot be locked");
  const auto end = std::chrono::steady_clock::now() + timeout;
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return failPath(path, "cannot be locked");
    if (std::chrono::steady_clock::now() >= end) {
      return base::failConfig(path, "is locked by another process");
    }
    std::this_thread::sleep_for(kLockPoll);
  }
  return fd;
}

bool isLocked(const std::string& path) {
  const base::Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  return fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

}  // namespace postern::cluster
