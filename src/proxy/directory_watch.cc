#include "proxy/directory_watch.h"

#include "proxy/logs.h"

#include <algorithm>
#include <cerrno>
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
    const int gone = it->second;
    it = watches_.erase(it);
    // Two spellings of one directory share a watch.
    const bool shared = std::any_of(watches_.begin(), watches_.end(),
                                    [gone](const auto& each) { return each.second == gone; });
    if (!shared) ::inotify_rm_watch(fd_.get(), gone);
  }
  for (const std::string& each : directories) {
    if (watches_.contains(each)) continue;
    const int made = ::inotify_add_watch(fd_.get(), each.c_str(), IN_MOVED_TO);
    if (made >= 0) {
      watches_.emplace(each, made);
    } else {
      kSecretLog.warning("directory {} is not watched: {}", each, std::strerror(errno));
    }
  }
}

void DirectoryWatch::read() {
  std::set<int> moved;
  std::set<int> gone;
  alignas(inotify_event) char bytes[4096];
  for (;;) {
    const ssize_t got = ::read(fd_.get(), bytes, sizeof bytes);
    if (got <= 0) break;
    for (ssize_t at = 0; at < got;) {
      inotify_event event{};
      std::memcpy(&event, bytes + at, sizeof event);
      if ((event.mask & IN_MOVED_TO) != 0) moved.insert(event.wd);
      if ((event.mask & IN_IGNORED) != 0) gone.insert(event.wd);
      at += static_cast<ssize_t>(sizeof event + event.len);
    }
  }
  std::set<std::string> changed;
  for (const auto& [directory, watch] : watches_) {
    if (moved.contains(watch)) changed.insert(directory);
  }
  // What is gone the next watch() looks for again.
  std::erase_if(watches_, [&](const auto& each) { return gone.contains(each.second); });
  for (const std::string& each : changed) changed_(each);
}

}  // namespace postern::proxy
