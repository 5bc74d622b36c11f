#include "network/namespace_scope.h"

#include "base/check.h"

#include <fcntl.h>
#include <sched.h>

namespace postern::network {

base::Result<NamespaceScope> NamespaceScope::enter(int netns_fd) {
  base::Fd home(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!home) return base::failErrno("cannot open the own network namespace");
  if (::setns(netns_fd, CLONE_NEWNET) != 0) {
    return base::failErrno("cannot enter the network namespace");
  }
  return NamespaceScope(std::move(home));
}

NamespaceScope::~NamespaceScope() {
  if (home_) POSTERN_CHECK(::setns(home_.get(), CLONE_NEWNET) == 0);
}

}  // namespace postern::network
