#include "proxy/directory_watch.h"

#include <cstring>

#include <sys/inotify.h>
#include <unistd.h>

namespace postern::proxy {

DirectoryWatch::DirectoryWatch(event::Loop& loop,
                               base::Function<void(const std::string& directory)> changed)
    : loop_(loop), changed_(std::move(changed)) {}

void DirectoryWatch::watch(const std::set<std::string>& directories) {
  if (!fd_ && !directories.empty()) {
    fd_ = base::Fd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!fd_) return;
    events_ = event::FdWatch(loop_, fd_.get(), [this](std::uint32_t) { read(); });
  }
  for (auto it = watches_.begin(); it != watches_.end();) {
    if (directories.contains(it->first)) {
      ++it;
      continue;
    }
    ::inotify_rm_watch(fd_.get(), it->second);
    it = watches_.erase(it);
  }
  for (const std::string& each : directories) {
    if (watches_.contains(each)) continue;
    const int made = ::inotify_add_watch(fd_.get(), each.c_str(), IN_MOVED_TO);
    if (made >= 0) watches_.emplace(each, made);
  }
}

void DirectoryWatch::read() {
  std::set<int> moved;
  alignas(inotify_event) char bytes[4096];
  for (;;) {
    const ssize_t got = ::read(fd_.get(), bytes, sizeof bytes);
    if (got <= 0) break;
    for (ssize_t at = 0; at < got;) {
      inotify_event event{};
      std::memcpy(&event, bytes + at, sizeof event);
      moved.insert(event.wd);
      at += static_cast<ssize_t>(sizeof event + event.len);
    }
  }
  std::set<std::string> changed;
  for (const auto& [directory, watch] : watches_) {
    if (moved.contains(watch)) changed.insert(directory);
  }
  for (const std::string& each : changed) changed_(each);
}

}  // namespace postern::proxy
