#include "network/file_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

namespace postern::network {

base::Result<std::unique_ptr<FileWatch>> FileWatch::start(event::Loop& loop,
                                                          const std::string& folder,
                                                          std::string file,
                                                          base::Function<void()> changed) {
  base::Fd inotify(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify) return base::failErrno("cannot watch files");
  if (::inotify_add_watch(inotify.get(), folder.c_str(), IN_MOVED_TO | IN_CLOSE_WRITE) < 0) {
    return base::failErrno("cannot watch the folder");
  }
  return std::unique_ptr<FileWatch>(
      new FileWatch(loop, std::move(inotify), std::move(file), std::move(changed)));
}

FileWatch::FileWatch(event::Loop& loop, base::Fd inotify, std::string file,
                     base::Function<void()> changed)
    : inotify_(std::move(inotify)),
      file_(std::move(file)),
      changed_(std::move(changed)),
      first_(loop, [this] { changed_(); }),
      watch_(loop, inotify_.get(), [this](std::uint32_t) { read(); }) {
  first_.arm({});
}

void FileWatch::read() {
  bool ours = false;
  alignas(inotify_event) char bytes[8192];
  while (true) {
    const ssize_t got = ::read(inotify_.get(), bytes, sizeof(bytes));
    if (got <= 0) break;
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(bytes + at);
      if ((event->mask & IN_Q_OVERFLOW) != 0) ours = true;
      if (event->len > 0 && file_ == event->name) ours = true;
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    }
  }
  if (ours) changed_();
}

}  // namespace postern::network
