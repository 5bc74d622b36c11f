// Runs a piece of code with the thread in another network namespace: sockets made by it stay there.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

namespace postern::node {

/// `netns_fd` < 0: stays where it is. If the namespace cannot be entered, nothing changes and
/// entered() is false.
class NamespaceScope {
 public:
  explicit NamespaceScope(int netns_fd) {
    if (netns_fd < 0) return;
    entered_ = false;
    back_ = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    entered_ = back_ >= 0 && ::setns(netns_fd, CLONE_NEWNET) == 0;
  }
  ~NamespaceScope() {
    if (entered_ && back_ >= 0 && ::setns(back_, CLONE_NEWNET) != 0)
      ::_exit(70);  // lost: no way on
    if (back_ >= 0) ::close(back_);
  }
  NamespaceScope(const NamespaceScope&) = delete;
  NamespaceScope& operator=(const NamespaceScope&) = delete;
  bool entered() const { return entered_; }

 private:
  int back_ = -1;
  bool entered_ = true;
};

}  // namespace postern::node
